// The list of images; each has a button to show it and a button to delete it.

const THUMBNAIL_PX = 96;

export class ImageList {
  #rows = new Map();

  constructor(element, { select, remove, text }) {
    this.element = element;
    this.select_ = select;
    this.remove_ = remove;
    this.text = text;
  }

  add(image) {
    const row = document.createElement("li");
    const show = document.createElement("button");
    const thumbnail = document.createElement("canvas");
    thumbnail.width = thumbnail.height = THUMBNAIL_PX;
    thumbnail.ariaHidden = "true";
    const texts = document.createElement("span");
    const name = document.createElement("strong");
    name.textContent = name.title = image.fileName;
    const state = document.createElement("span");
    texts.append(name, state);
    show.append(thumbnail, texts);
    show.className = "show";
    show.addEventListener("click", () => this.select_(image));
    const remove = document.createElement("button");
    remove.className = "remove";
    remove.textContent = "×";
    remove.setAttribute("aria-label", `${document.getElementById("delete").textContent}: ${image.fileName}`);
    remove.addEventListener("click", () => this.remove_(image));
    row.append(show, remove);
    this.element.append(row);
    this.#rows.set(image, { row, show, state, thumbnail });
    this.update(image, {});
    return image;
  }

  update(image, changes) {
    Object.assign(image, changes);
    const parts = this.#rows.get(image);
    if (!parts) return;
    parts.row.dataset.state = image.state;
    parts.state.textContent = this.text(image);
    parts.show.disabled = image.state !== "done";
    if (changes.picture) draw(parts.thumbnail, changes.picture);
  }

  select(image) {
    for (const [other, { show }] of this.#rows) {
      if (other === image) show.setAttribute("aria-current", "true");
      else show.removeAttribute("aria-current");
    }
  }

  remove(image) {
    this.#rows.get(image)?.row.remove();
    this.#rows.delete(image);
  }

  all() {
    return [...this.#rows.keys()];
  }

  // A button of the row after that of the image, or before it if it is the last.
  buttonBeside(image) {
    const row = this.#rows.get(image)?.row;
    return (row?.nextElementSibling ?? row?.previousElementSibling)?.querySelector("button:enabled");
  }

  // In the order of falling value(image). A row that is moved loses the focus.
  sort(value) {
    const sorted = this.all().sort((a, b) => value(b) - value(a));
    const rows = sorted.map((image) => this.#rows.get(image).row);
    if (rows.every((row, i) => row === this.element.children[i])) return;
    const focused = document.activeElement;
    this.element.append(...rows);
    if (this.element.contains(focused)) focused.focus();
  }

  has(image) {
    return this.#rows.has(image);
  }

  some(test) {
    return this.all().some(test);
  }
}

function draw(canvas, picture) {
  const scale = Math.max(canvas.width / picture.width, canvas.height / picture.height);
  const [width, height] = [picture.width * scale, picture.height * scale];
  const context = canvas.getContext("2d");
  context.drawImage(picture, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
}
