// A correction of a mask by hand: for each pixel 0 unchanged, 1 added, 2 erased, as in web/corrections.py.

export const ADD = 1;
export const ERASE = 2;

export class Correction {
  #strokes = []; // of each stroke, the pixels that it changed and their values before
  #version = 0;
  #savedVersion = 0;
  #unanswered = null; // what was sent last, if it may have arrived without an answer
  #saving = Promise.resolve();

  // send: stores pixels on the server. Nothing is added outside the field of view, where the probability is NaN.
  constructor(probability, width, pixels, send) {
    this.probability = probability;
    this.width = width;
    this.pixels = pixels ?? new Uint8Array(probability.length);
    this.send = send;
    this.isEmpty = !this.pixels.some((value) => value);
  }

  get isSaved() {
    return this.#savedVersion === this.#version;
  }

  get canUndo() {
    return this.#strokes.length > 0;
  }

  begin() {
    this.#strokes.push({ indices: [], before: [] });
  }

  // Set the pixels within `radius` of the line between two points, { row, column }.
  line(from, to, radius, value) {
    const height = this.pixels.length / this.width;
    const [down, right] = [to.row - from.row, to.column - from.column];
    const length = down * down + right * right;
    const first = (a, b) => Math.max(0, Math.ceil(Math.min(a, b) - radius));
    const last = (a, b, most) => Math.min(most - 1, Math.floor(Math.max(a, b) + radius));
    for (let row = first(from.row, to.row); row <= last(from.row, to.row, height); row++) {
      for (let column = first(from.column, to.column); column <= last(from.column, to.column, this.width); column++) {
        const along = ((row - from.row) * down + (column - from.column) * right) / (length || 1);
        const share = Math.min(Math.max(along, 0), 1);
        const distance = Math.hypot(row - from.row - share * down, column - from.column - share * right);
        if (distance <= radius) this.#set(row * this.width + column, value);
      }
    }
  }

  clear() {
    this.begin();
    for (let i = 0; i < this.pixels.length; i++) if (this.pixels[i]) this.#set(i, 0);
    this.end();
  }

  end() {
    if (!this.#strokes.at(-1).indices.length) this.#strokes.pop();
    this.#changed();
  }

  undo() {
    const { indices, before } = this.#strokes.pop();
    indices.forEach((index, i) => (this.pixels[index] = before[i]));
    this.#changed();
  }

  // Returns the number of pixels that it changes.
  apply(mask) {
    let changed = 0;
    for (let i = 0; i < mask.length; i++) {
      if (!this.pixels[i]) continue;
      const value = this.pixels[i] === ADD ? 1 : 0;
      if (mask[i] !== value) changed += 1;
      mask[i] = value;
    }
    return changed;
  }

  // One request at a time, so that the last state is the one that stays.
  save() {
    this.#saving = this.#saving.catch(() => {}).then(async () => {
      while (!this.isSaved) await this.#sendOne();
    });
    return this.#saving;
  }

  // After a request without an answer first the same again: if it had arrived, the server would take a later
  // state for that of another tab.
  async #sendOne() {
    this.#unanswered ??= { version: this.#version, pixels: this.pixels.slice() };
    try {
      await this.send(this.#unanswered.pixels);
    } catch (error) {
      if (error.status && error.status < 500) this.#unanswered = null; // a proxy may have lost the answer
      throw error;
    }
    this.#savedVersion = this.#unanswered.version;
    this.#unanswered = null;
  }

  #set(index, value) {
    if (Number.isNaN(this.probability[index]) || this.pixels[index] === value) return;
    const { indices, before } = this.#strokes.at(-1);
    indices.push(index);
    before.push(this.pixels[index]);
    this.pixels[index] = value;
  }

  #changed() {
    this.#version += 1;
    this.isEmpty = !this.pixels.some((value) => value);
  }
}
