// The canvas: picture, areas and fovea; zoom and pan with mouse, touch and keyboard.

const AREA = "240, 228, 66"; // the colours of lib/images/outlines.py
const FIELD_OF_VIEW = "86, 180, 233";
const DISAGREEMENT = "213, 94, 0"; // vermilion of the same palette
const RING_RADII_MM = [0.5, 1.5, 3];
const MOST_ZOOM = 40;
const CLICK_PX = 5; // a pointer that moves less between down and up is a click

export class Viewer {
  constructor(canvas, { onClick, onOriginal }) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.onClick = onClick;
    this.onOriginal = onOriginal;
    this.style = { opacity: 0.25, outline: 1.5 };
    this.image = null;
    this.brush = null; // { radius, isErasing, begin(point), to(point), end(), cancel() }
    this.isPainting = false;
    this.pointers = new Map();
    new ResizeObserver(() => this.#resized()).observe(canvas);
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const kind of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(kind, (event) => this.#up(event));
    }
    canvas.addEventListener("pointerleave", () => this.#hover(null));
    canvas.addEventListener("keydown", (event) => this.#key(event));
  }

  // image: { picture, width, height, fill, outline, fieldOfView, fovea, spacing }
  show(image) {
    const isAnother = image !== this.image;
    if (isAnother) this.pointedAt = null;
    this.image = image;
    if (isAnother) this.fit();
    else this.draw();
  }

  setBrush(brush) {
    if (this.isPainting) this.#endPainting(true);
    this.brush = brush;
    if (!brush) this.pointedAt = null;
    this.draw();
  }

  // Before the mask is computed again: the line between two points in the filled areas.
  fillLine(from, to) {
    const context = this.image.fill.getContext("2d");
    context.globalCompositeOperation = this.brush.isErasing ? "destination-out" : "source-over";
    context.strokeStyle = `rgb(${AREA})`;
    context.lineWidth = 2 * this.brush.radius;
    context.lineCap = "round";
    context.beginPath();
    context.moveTo(from.column + 0.5, from.row + 0.5);
    context.lineTo(to.column + 0.5, to.row + 0.5);
    context.stroke();
    this.draw();
  }

  fit() {
    if (!this.image) return;
    const { width, height } = this.#size();
    this.scale = Math.min(width / this.image.width, height / this.image.height);
    this.x = (width - this.image.width * this.scale) / 2;
    this.y = (height - this.image.height * this.scale) / 2;
    this.isFitted = true;
    this.draw();
  }

  zoom(factor, at = this.#centre()) {
    const scale = Math.min(Math.max(this.scale * factor, this.#least()), MOST_ZOOM);
    this.x = at.x - ((at.x - this.x) * scale) / this.scale;
    this.y = at.y - ((at.y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.#moved();
  }

  draw() {
    if (this.isRequested) return;
    this.isRequested = true; // one drawing for each frame, also after many events
    requestAnimationFrame(() => {
      this.isRequested = false;
      if (this.image) this.#paint();
    });
  }

  #paint() {
    if (this.ratio !== window.devicePixelRatio) this.#setResolution();
    const { context, image, style, scale, ratio } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * this.x, ratio * this.y);
    context.imageSmoothingEnabled = scale < 3;
    context.drawImage(image.picture, 0, 0);
    if (style.isOriginal) return;
    context.globalAlpha = style.opacity;
    context.drawImage(image.fill, 0, 0);
    context.globalAlpha = 1;
    if (style.isDisagreement && image.disagreement) context.drawImage(image.disagreement, 0, 0);
    context.lineCap = "square";
    this.#stroke(image.fieldOfView, `rgba(${FIELD_OF_VIEW}, 0.7)`, 1);
    if (style.outline) {
      this.#stroke(image.outline, "rgba(0, 0, 0, 0.45)", style.outline + 1.5);
      this.#stroke(image.outline, `rgb(${AREA})`, style.outline);
    }
    if (image.fovea) this.#paintFovea(image.fovea, image.spacing);
    if (this.brush && this.pointedAt) this.#paintBrush(this.pointedAt);
  }

  #paintFovea({ row, column }, spacing) {
    const [x, y] = [column + 0.5, row + 0.5]; // positions are relative to the centre of the first pixel
    const path = new Path2D();
    const arm = 9 / this.scale;
    path.moveTo(x - arm, y);
    path.lineTo(x + arm, y);
    path.moveTo(x, y - arm);
    path.lineTo(x, y + arm);
    const sectors = new Path2D();
    const [height, width] = spacing ?? [1, 1];
    const reach = 2 * Math.max(this.image.width * width, this.image.height * height);
    for (const [right, down] of [[1, 1], [1, -1]]) {
      sectors.moveTo(x - (right * reach) / width, y - (down * reach) / height);
      sectors.lineTo(x + (right * reach) / width, y + (down * reach) / height);
    }
    for (const radius of spacing ? RING_RADII_MM : []) {
      sectors.moveTo(x + radius / width, y);
      sectors.ellipse(x, y, radius / width, radius / height, 0, 0, 2 * Math.PI);
    }
    this.context.save();
    const frame = new Path2D();
    frame.rect(0, 0, this.image.width, this.image.height);
    this.context.clip(frame);
    this.#stroke(sectors, "rgba(255, 255, 255, 0.45)", 1);
    this.context.restore();
    this.#stroke(path, "rgba(0, 0, 0, 0.6)", 4);
    this.#stroke(path, "white", 2);
  }

  #paintBrush({ row, column }) {
    const path = new Path2D();
    path.arc(column + 0.5, row + 0.5, this.brush.radius, 0, 2 * Math.PI);
    this.#stroke(path, "rgba(0, 0, 0, 0.6)", 3);
    this.#stroke(path, "white", 1);
  }

  #stroke(path, colour, width) {
    this.context.strokeStyle = colour;
    this.context.lineWidth = width / this.scale;
    this.context.stroke(path);
  }

  #size() {
    return { width: this.canvas.clientWidth, height: this.canvas.clientHeight };
  }

  #centre() {
    const { width, height } = this.#size();
    return { x: width / 2, y: height / 2 };
  }

  #least() {
    const { width, height } = this.#size();
    return Math.min(1, width / this.image.width, height / this.image.height) / 2;
  }

  // The ratio may change while the size of the canvas stays, for example on another screen.
  #setResolution() {
    const { width, height } = this.#size();
    this.ratio = window.devicePixelRatio;
    this.canvas.width = Math.round(width * this.ratio);
    this.canvas.height = Math.round(height * this.ratio);
  }

  #resized() {
    this.#setResolution();
    if (this.isFitted) this.fit();
    else this.draw();
  }

  #moved() {
    this.isFitted = false;
    const { x, y } = this.#centre(); // the centre stays on the picture
    this.x = Math.min(Math.max(this.x, x - this.image.width * this.scale), x);
    this.y = Math.min(Math.max(this.y, y - this.image.height * this.scale), y);
    this.draw();
  }

  #position(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  #wheel(event) {
    if (!this.image) return;
    event.preventDefault();
    this.zoom(Math.exp(-event.deltaY / 400), this.#position(event));
  }

  #down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    const position = this.#position(event);
    this.pointers.set(event.pointerId, position);
    this.pressed = this.pointers.size === 1 ? position : null; // two pointers are not a click
    if (this.isPainting) this.#endPainting(true); // two fingers zoom
    else if (this.brush && this.pressed && this.image && event.button === 0) {
      this.isPainting = true;
      this.brush.begin(this.#pixel(position));
    }
  }

  #endPainting(isCancelled) {
    this.isPainting = false;
    if (isCancelled) this.brush.cancel();
    else this.brush.end();
  }

  #hover(position) {
    if (!this.brush || !this.image) return;
    this.pointedAt = position && this.#pixel(position);
    this.draw();
  }

  #move(event) {
    this.#hover(this.#position(event));
    const before = this.pointers.get(event.pointerId);
    if (!before || !this.image) return;
    const now = this.#position(event);
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.pointers.set(event.pointerId, now);
    if (this.isPainting) this.brush.to(this.#pixel(now));
    else if (other) this.zoom(distance(now, other) / Math.max(distance(before, other), 1), other);
    else this.#pan(now.x - before.x, now.y - before.y);
  }

  #up(event) {
    const now = this.#position(event);
    const hasClicked = this.pressed && distance(now, this.pressed) < CLICK_PX;
    this.pointers.delete(event.pointerId);
    this.pressed = null;
    if (this.isPainting) return this.#endPainting(event.type !== "pointerup");
    if (!hasClicked || !this.image || event.type !== "pointerup") return;
    this.onClick(this.#pixel(now));
  }

  // Row and column, relative to the centre of the first pixel.
  #pixel({ x, y }) {
    return { row: (y - this.y) / this.scale - 0.5, column: (x - this.x) / this.scale - 0.5 };
  }

  #pan(right, down) {
    this.x += right;
    this.y += down;
    this.#moved();
  }

  #key(event) {
    const actions = {
      ArrowLeft: () => this.#pan(40, 0),
      ArrowRight: () => this.#pan(-40, 0),
      ArrowUp: () => this.#pan(0, 40),
      ArrowDown: () => this.#pan(0, -40),
      "+": () => this.zoom(1.25),
      "=": () => this.zoom(1.25),
      "-": () => this.zoom(0.8),
      0: () => this.fit(),
      o: () => this.onOriginal(),
      ...(this.brush && this.#brushKeys()),
    };
    if (!this.image || !actions[event.key] || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    if (event.key !== " " || !event.repeat) actions[event.key]();
  }

  // Instead of moving the picture, arrow keys move the brush by its radius; space paints or erases below it.
  #brushKeys() {
    const { radius, begin, end } = this.brush;
    return {
      ArrowLeft: () => this.#moveBrush(0, -radius),
      ArrowRight: () => this.#moveBrush(0, radius),
      ArrowUp: () => this.#moveBrush(-radius, 0),
      ArrowDown: () => this.#moveBrush(radius, 0),
      " ": () => {
        this.#moveBrush(0, 0); // into view
        begin(this.pointedAt);
        end();
      },
    };
  }

  #moveBrush(down, right) {
    const from = this.pointedAt ?? this.#pixel(this.#centre());
    const within = (position, length) => Math.min(Math.max(position, 0), length - 1);
    const row = within(from.row + down, this.image.height);
    const column = within(from.column + right, this.image.width);
    this.pointedAt = { row, column };
    const { width, height } = this.#size();
    const [x, y] = [this.x + (column + 0.5) * this.scale, this.y + (row + 0.5) * this.scale];
    if (x < 0 || y < 0 || x > width || y > height) this.#pan(width / 2 - x, height / 2 - y);
    else this.draw();
  }
}

function distance(a, b) {
  return Math.hypot(a.x - b.x, a.y - b.y);
}

// The mask as a picture to draw over the angiogram.
export function fillPicture(mask, width, height) {
  return colouredPicture(AREA, mask, 255, width, height);
}

// More opaque where the views disagree more; half of the largest disagreement is opaque.
export function disagreementPicture(levels, width, height) {
  return colouredPicture(DISAGREEMENT, levels, 2, width, height);
}

// One colour with the opacity levels * factor, of 255.
function colouredPicture(colour, levels, factor, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const picture = new ImageData(width, height);
  const [red, green, blue] = colour.split(",").map(Number);
  const pixels = new Uint32Array(picture.data.buffer);
  const opaque = (blue << 16) | (green << 8) | red; // little endian
  for (let i = 0; i < levels.length; i++) {
    if (levels[i]) pixels[i] = (Math.min(levels[i] * factor, 255) << 24) | opaque;
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return canvas;
}
