// The table of all images.

export function tableRow([name, ...cells]) {
  const row = document.createElement("tr");
  const heading = document.createElement("th");
  heading.scope = "row";
  heading.textContent = name;
  row.append(heading);
  for (const cell of cells) row.insertCell().textContent = cell;
  return row;
}

// One table of the tables of single images, which have the same header.
export function joinedTables(tables) {
  const lines = tables.map((table) => table.trimEnd().split("\r\n"));
  return `\ufeff${[lines[0][0], ...lines.map(([, values]) => values)].join("\r\n")}\r\n`;
}

export function saveFile(text, name, type) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  followLink(address, name);
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

// Without a name, the file gets that of the server.
export function followLink(address, name) {
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
}
