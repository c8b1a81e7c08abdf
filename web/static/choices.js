// What the user chose for each image, kept in this tab for a reload or a change of language. The browser stores
// numbers under the random key of the analysis; nothing of the picture or its name.

const PREFIX = "image ";
const SELECTED = "selected";

export function keepChoice({ key, threshold, minArea, spacingGiven, fovea }) {
  sessionStorage.setItem(PREFIX + key, JSON.stringify({ threshold, minArea, spacingGiven, fovea }));
  sessionStorage.setItem(SELECTED, key);
}

export function keptChoice(key) {
  return JSON.parse(sessionStorage.getItem(PREFIX + key)) ?? {};
}

export function keptSelection() {
  return sessionStorage.getItem(SELECTED);
}

export function forgetChoicesExcept(keys) {
  for (const name of Object.keys(sessionStorage)) {
    if (name.startsWith(PREFIX) && !keys.includes(name.slice(PREFIX.length))) sessionStorage.removeItem(name);
  }
}
