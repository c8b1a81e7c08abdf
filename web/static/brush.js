// The brush: its buttons, its strokes on the canvas, and saving the correction before a download.

import { ADD, ERASE } from "./correction.js";
import { followLink } from "./summary.js";

const VALUES = { "brush-add": ADD, "brush-erase": ERASE };
const at = (id) => document.getElementById(id);

export class Brush {
  // image(): the image that is shown; started(): the brush was taken; changed(): the correction was changed;
  // save(image): sends the correction, and shows why it cannot be saved.
  constructor(viewer, { image, started, changed, save }) {
    Object.assign(this, { viewer, image, changed, save });
    for (const [id, value] of Object.entries(VALUES)) {
      at(id).addEventListener("click", () => {
        const isOn = this.value !== value;
        if (isOn) started();
        this.use(isOn ? value : 0);
      });
    }
    at("brush").addEventListener("input", () => this.use(this.value));
    at("brush-undo").addEventListener("click", () => this.#change((correction) => correction.undo()));
    at("brush-clear").addEventListener("click", () => this.#change((correction) => correction.clear()));
    for (const link of document.querySelectorAll("[data-download]")) {
      link.addEventListener("click", (event) => this.#download(event));
    }
    this.use(0);
  }

  // value: ADD, ERASE, or 0 to put the brush away.
  use(value) {
    this.value = value;
    for (const id of Object.keys(VALUES)) at(id).setAttribute("aria-pressed", VALUES[id] === value);
    const radius = at("brush").valueAsNumber;
    at("brush-value").textContent = `${radius} px`;
    at("canvas").classList.toggle("painting", value !== 0);
    this.viewer.setBrush(value ? this.#strokes(radius, value) : null);
  }

  show() {
    const { correction } = this.image();
    at("brush-undo").disabled = !correction.canUndo;
    at("brush-clear").disabled = correction.isEmpty;
  }

  #strokes(radius, value) {
    let last;
    const to = (point) => {
      this.image().correction.line(last, point, radius, value);
      this.viewer.fillLine(last, point);
      last = point;
    };
    const begin = (point) => {
      this.image().correction.begin();
      last = point;
      to(point);
    };
    const end = () => this.#change((correction) => correction.end());
    const cancel = () => this.#change((correction) => correction.undo());
    return { radius, isErasing: value === ERASE, begin, to, end, cancel };
  }

  #change(change) {
    change(this.image().correction);
    this.changed();
    this.save(this.image()).catch(() => {}); // the page shows the fault
  }

  // Another image or threshold may be shown after the wait: the file is of what was shown at the click.
  async #download(event) {
    const image = this.image();
    if (image.correction.isSaved) return;
    event.preventDefault();
    const address = new URL(event.target.href);
    try {
      await this.save(image);
    } catch {
      return; // the page shows the fault
    }
    address.searchParams.set("correction", image.correctionETag);
    followLink(address.href, "");
  }
}
