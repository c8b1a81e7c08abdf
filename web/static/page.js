import { measureAreas, outlinePath } from "./areas.js";
import { Brush } from "./brush.js";
import { forgetChoicesExcept, keepChoice, keptChoice, keptSelection } from "./choices.js";
import { Correction } from "./correction.js";
import { ImageList } from "./list.js";
import { isTemporary, Server } from "./server.js";
import { joinedTables, saveFile, tableRow } from "./summary.js";
import { disagreementPicture, fillPicture, Viewer } from "./viewer.js";

const { results, maxBytes, shareColumn, messages } = JSON.parse(document.getElementById("for-scripts").textContent);
const LANGUAGE = document.documentElement.lang;
const LONGEST_POLL_MS = 2000;
const SECTORS = ["superior", "inferior", "left", "right", "centre", "inner_ring", "outer_ring"];

const at = (id) => document.getElementById(id);
const number = new Intl.NumberFormat(LANGUAGE, { maximumFractionDigits: 2 });
const length = new Intl.NumberFormat(LANGUAGE, { maximumSignificantDigits: 4 });
const squareMm = new Intl.NumberFormat(LANGUAGE, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const percent = new Intl.NumberFormat(LANGUAGE, {
  style: "percent",
  minimumFractionDigits: 1,
  maximumFractionDigits: 1,
});
const fill = (text, words) => text.replace(/\{(\w+)\}/g, (_, word) => words[word]);
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const announce = (text) => (at("announcements").textContent = text);

// Shown until the user does something else. The same text again would make screen readers repeat it.
function showFault(text) {
  if (at("fault").textContent !== text) at("fault").textContent = text;
}

const server = new Server(results, messages);
const viewer = new Viewer(at("canvas"), { onClick: placeFovea, onOriginal: toggleOriginal });
const list = new ImageList(at("list"), { select: choose, remove, text: stateText });
let selected = null;
let selectedBefore = null; // key of the image that was shown before a reload
const brush = new Brush(viewer, {
  image: () => selected,
  started: () => {
    markFovea(false);
    if (viewer.style.isOriginal) toggleOriginal();
  },
  changed: () => changed({}),
  save,
});
let isPolling = false;
let measurementRequest = null; // AbortController of the last request for range and sectors

// ---------------------------------------------------------------- sending

async function send(files) {
  showFault("");
  const images = [...files].map((file) => list.add({ fileName: file.name, state: "sending", file }));
  showOrHide();
  for (const image of images) await sendOne(image);
}

async function sendOne(image) {
  await repeat(image, async () => {
    if (image.file.size > maxBytes) throw new Error(messages.tooLarge);
    await refuseUnreadable(image.file);
    if (!list.has(image)) return; // removed meanwhile
    image.sending = server.send(image.file);
    adopt(image, await image.sending);
    image.file = null;
    poll();
  });
}

// A folder, or a file that was removed: a request would fail as if there were no server.
async function refuseUnreadable(file) {
  try {
    await file.arrayBuffer(); // a slice of a removed file is empty, without an error
  } catch {
    throw new Error(messages.unreadable);
  }
}

// Try again, with the reason in the list, until the step succeeds or fails for good.
async function repeat(image, step) {
  while (list.has(image)) {
    try {
      return await step();
    } catch (error) {
      if (!list.has(image)) return;
      if (!isTemporary(error)) return fail(image, error.message);
      const seconds = error.retrySeconds || 5;
      list.update(image, { message: `${error.message} ${fill(messages.nextAttempt, { seconds })}` });
      await wait(1000 * seconds);
    }
  }
}

function fail(image, message) {
  list.update(image, { state: "failed", message });
  announce(`${image.fileName}: ${message}`);
}

// ---------------------------------------------------------------- waiting for the analysis

async function poll() {
  if (isPolling) return;
  isPolling = true;
  let fault = "";
  for (let ms = 150; list.some((image) => isPending(image)); ms = Math.min(1.15 * ms, LONGEST_POLL_MS)) {
    await wait(ms);
    try {
      await refresh();
      if (at("fault").textContent === fault) showFault("");
      fault = "";
    } catch (error) {
      fault = error.message;
      showFault(fault);
    }
  }
  isPolling = false;
}

const isPending = ({ state }) => state === "waiting" || state === "running";

async function refresh() {
  const pending = list.all().filter(isPending); // the answer may lack an image that is sent meanwhile
  const found = new Map((await server.list()).map((result) => [result.key, result]));
  for (const image of pending.filter((image) => list.has(image))) {
    if (found.has(image.key)) adopt(image, found.get(image.key));
    else fail(image, messages.interrupted); // the server has deleted it
  }
}

// Show the session's images again after a reload or a change of language.
async function restore() {
  const found = await server.list();
  selectedBefore = keptSelection();
  forgetChoicesExcept(found.map(({ key }) => key));
  for (const result of found) adopt(list.add({ fileName: result.fileName }), result);
  showOrHide();
  await poll();
}

function adopt(image, result) {
  image.deadline = Date.now() + 1000 * result.secondsLeft; // the clock of this computer may be wrong
  if (result.state === "failed") {
    Object.assign(image, result);
    return fail(image, result.message);
  }
  const isDone = result.state === "done";
  list.update(image, { ...result, state: isDone ? "loading" : result.state });
  if (isDone) repeat(image, () => load(image));
}

async function load(image) {
  const [picture, probability, corrected, disagreement] = await Promise.all([
    server.picture(image),
    server.probability(image),
    image.isCorrected ? server.correction(image) : null,
    image.hasDisagreement ? server.disagreement(image) : null,
  ]);
  if (!list.has(image)) return; // removed meanwhile
  const { width, height, threshold, minAreaPx } = image;
  const correction = new Correction(probability, width, corrected, (pixels) => server.correct(image, pixels));
  let gradable = 0;
  for (const value of probability) gradable += !Number.isNaN(value);
  const fieldOfView = outlinePath((i) => !Number.isNaN(probability[i]), width, height);
  list.update(image, {
    ...{ picture, probability, correction, gradable, fieldOfView, state: "done", message: "" },
    disagreement: disagreement && disagreementPicture(disagreement, width, height),
    ...{ ownThreshold: threshold, minArea: minAreaPx, spacingGiven: null, fovea: null, saveFault: "" },
    ...keptChoice(image.key),
  });
  apply(image);
  const words = { name: image.fileName, index: indexText(image), areas: image.found.number };
  announce(fill(messages.analysed, words));
  if (!selected || image.key === selectedBefore) select(image);
  else showOrHide();
}

// ---------------------------------------------------------------- one image

function choose(image) {
  showFault("");
  selectedBefore = null;
  select(image);
}

function select(image) {
  if (image.state !== "done") return;
  brush.use(0);
  selected = image;
  list.select(image);
  markFovea(false);
  showOrHide();
  showFields();
  show();
  if (image.saveFault) save(image).catch(() => {}); // `save` shows the fault
}

// Compute the mask, its areas and their outline at the image's threshold.
function apply(image) {
  const { probability, width, height, threshold, minArea, correction } = image;
  image.found = measureAreas(probability, width, height, threshold, minArea, correction);
  const { mask } = image.found;
  image.fill = fillPicture(mask, width, height);
  image.outline = outlinePath((i) => mask[i] === 1, width, height);
  list.update(image, {});
}

function changed(changes) {
  Object.assign(selected, changes);
  apply(selected);
  show();
}

// Send the correction, if it is not saved. The reason of a failure stays with the image until it is saved.
async function save(image) {
  try {
    await image.correction.save();
    image.saveFault = "";
  } catch (error) {
    image.saveFault = fill(messages.notSaved, { reason: error.message });
    throw error;
  } finally {
    if (image === selected) showSaved();
  }
}

// What follows from the correction on the server.
function showSaved() {
  at("correction-fault").textContent = selected.saveFault;
  const choice = choiceOf(selected);
  for (const link of document.querySelectorAll("[data-download]")) {
    link.href = `${selected.url}download/${link.dataset.download}?${choice}`;
  }
}

function indexText({ found, gradable }) {
  return gradable ? percent.format(found.area / gradable) : messages.unknown;
}

const spacingOf = (image) =>
  image.spacingGiven ? [image.spacingGiven, image.spacingGiven] : image.pixelSpacing;

const pixelText = (pixels) => `${number.format(pixels)} px`;

function mmText(image, pixels) {
  const spacing = spacingOf(image);
  return spacing && `${squareMm.format(pixels * spacing[0] * spacing[1])} mm²`;
}

function areaText(image, pixels) {
  const mm = mmText(image, pixels);
  return mm ? `${mm} (${pixelText(pixels)})` : pixelText(pixels);
}

function show() {
  const { found, gradable, threshold } = selected;
  viewer.show(Object.assign(selected, { spacing: spacingOf(selected) }));
  at("index").textContent = indexText(selected);
  at("threshold-value").textContent = threshold.toFixed(3);
  at("threshold-reset").disabled = threshold === selected.ownThreshold;
  at("area").textContent = areaText(selected, found.area);
  at("field-of-view").textContent = areaText(selected, gradable);
  at("areas").textContent = number.format(found.number);
  at("largest").textContent = areaText(selected, found.largest);
  at("mean-probability").textContent =
    found.meanProbability === null ? "–" : percent.format(found.meanProbability);
  at("canvas").setAttribute("aria-label", `${selected.fileName}: ${at("index").textContent}`);
  at("legend-fovea").hidden = !selected.fovea;
  at("show-disagreement").hidden = !selected.disagreement;
  at("legend-disagreement").hidden = !selected.disagreement || !viewer.style.isDisagreement;
  brush.show();
  keepChoice(selected);
  showSummary();
  showSaved();
  showMeasurement();
}

// With the ETag of the correction, the server refuses to measure that of another tab.
function choiceOf({ threshold, minArea, spacingGiven, fovea, correctionETag }) {
  const choice = new URLSearchParams({ threshold, min_area_px: minArea, correction: correctionETag });
  if (spacingGiven) choice.set("pixel_spacing_mm", spacingGiven);
  if (fovea) {
    choice.set("fovea_row", fovea.row);
    choice.set("fovea_column", fovea.column);
  }
  return choice;
}

// Called only when another image is shown, because the fields contain what the user types.
function showFields() {
  const { fovea, pixelSpacing } = selected;
  at("name").textContent = selected.fileName;
  at("threshold").value = selected.threshold;
  at("min-area").value = selected.minArea;
  at("spacing").value = selected.spacingGiven ?? "";
  at("spacing").placeholder = pixelSpacing
    ? fill(messages.spacingOfFile, {
        height: length.format(pixelSpacing[0]),
        width: length.format(pixelSpacing[1]),
      })
    : messages.unknown;
  at("fovea-row").value = fovea?.row ?? "";
  at("fovea-column").value = fovea?.column ?? "";
  at("fovea-row").max = selected.height - 1;
  at("fovea-column").max = selected.width - 1;
  at("banner").textContent = selected.banner ? fill(messages.banner, { banner: selected.banner }) : "";
  const { doubts } = selected;
  at("doubts").textContent = doubts ? fill(messages.doubts, { doubts }) : "";
  const time = new Date(selected.deadline).toLocaleTimeString(LANGUAGE, { timeStyle: "short" });
  at("kept").textContent = fill(messages.keptUntil, { time });
  showFieldFaults();
}

// For an invalid value no earlier one is used: "1" comes before "11.4", which is not in millimetres.
function typedChoice() {
  const [spacing, minArea] = [at("spacing"), at("min-area")];
  showFieldFaults();
  changed({
    spacingGiven: spacing.validity.valid ? spacing.valueAsNumber || null : null,
    minArea: minArea.validity.valid ? minArea.valueAsNumber || 0 : selected.minAreaPx,
  });
}

function showFieldFaults() {
  const faults = [];
  if (!at("spacing").validity.valid) faults.push(messages.invalidSpacing);
  if (!at("min-area").validity.valid) faults.push(fill(messages.invalidMinArea, { number: selected.minAreaPx }));
  const fovea = [at("fovea-row"), at("fovea-column")];
  const isEmpty = fovea.every((field) => field.value === "" && field.validity.valid);
  if (!isEmpty && !selected.fovea) faults.push(messages.invalidFovea);
  at("fields-fault").textContent = faults.join(" ");
}

// ---------------------------------------------------------------- the fovea: quadrants and rings

function markFovea(isOn) {
  if (isOn) brush.use(0);
  at("mark-fovea").setAttribute("aria-pressed", isOn);
  at("canvas").classList.toggle("aiming", isOn);
  at("canvas-message").hidden = !isOn;
  at("canvas-message").textContent = messages.markFovea;
}

function placeFovea({ row, column }) {
  if (at("mark-fovea").getAttribute("aria-pressed") !== "true") return;
  const within = (position, length) => Math.min(Math.max(Math.round(position), 0), length - 1);
  selected.fovea = { row: within(row, selected.height), column: within(column, selected.width) };
  markFovea(false);
  showFields();
  show();
}

function typedFovea() {
  const [row, column] = [at("fovea-row"), at("fovea-column")];
  const isWhole = row.value !== "" && column.value !== "" && row.checkValidity() && column.checkValidity();
  selected.fovea = isWhole ? { row: row.valueAsNumber, column: column.valueAsNumber } : null;
  showFieldFaults();
  show();
}

// The server measures the range and the sectors, so that the page and the downloaded table agree.
async function showMeasurement() {
  measurementRequest?.abort();
  at("sectors").hidden = at("clear-fovea").hidden = !selected.fovea;
  at("sectors-fault").textContent = "";
  // Figures of another image or threshold; they keep their place, so that what is below does not move.
  for (const id of ["range", "sectors"]) at(id).style.visibility = "hidden";
  at("range").hidden = !selected.disagreement;
  if (!selected.fovea && !selected.disagreement) return;
  const request = (measurementRequest = new AbortController());
  await wait(120); // one request while a slider moves
  if (request.signal.aborted) return;
  try {
    await save(selected);
    if (request.signal.aborted) return;
    const measured = await server.measurement(selected, choiceOf(selected), request.signal);
    if (request.signal.aborted) return;
    at("range").textContent = rangeText(measured);
    if (selected.fovea) at("sectors").tBodies[0].replaceChildren(...sectorRows(measured).map(tableRow));
    for (const id of ["range", "sectors"]) at(id).style.visibility = "visible";
  } catch (error) {
    if (request.signal.aborted) return;
    at("sectors").hidden = true;
    at("sectors-fault").textContent = error.message;
  }
}

// Empty for a corrected outline, whose range is not known.
function rangeText(measured) {
  const [low, high] = ["low", "high"].map((end) => measured[`${shareColumn}_${end}`]);
  if (low === null) return "";
  return fill(messages.range, { low: percent.format(low), high: percent.format(high) });
}

function sectorRows(measured) {
  return SECTORS.filter((sector) => measured[`area_px_${sector}`] !== null).map((sector) => {
    const [index, area] = [measured[`${shareColumn}_${sector}`], measured[`area_px_${sector}`]];
    const share = index === null ? "–" : percent.format(index);
    return [messages[sector], share, mmText(selected, area) ?? pixelText(area)];
  });
}

// ---------------------------------------------------------------- the table of all images

const measuredImages = () => list.all().filter(({ state }) => state === "done");

function showSummary() {
  const rows = measuredImages().map((image) => [
    image.fileName,
    indexText(image),
    areaText(image, image.found.area),
    number.format(image.found.number),
    areaText(image, image.found.largest),
    image.threshold.toFixed(3),
    image.found.corrected ? messages.yes : "–",
  ]);
  at("summary").hidden = !rows.length;
  at("summary").querySelector("tbody").replaceChildren(...rows.map(tableRow));
}

// From the server's tables, which also have the columns about the network.
async function downloadSummary() {
  at("summary-fault").textContent = "";
  try {
    const tables = [];
    for (const image of measuredImages()) {
      await save(image);
      tables.push(await server.table(image, choiceOf(image)));
    }
    saveFile(joinedTables(tables), "measurements.csv", "text/csv");
  } catch (error) {
    at("summary-fault").textContent = error.message;
  }
}

// ---------------------------------------------------------------- deleting

async function remove(image) {
  showFault("");
  try {
    if (image.state === "sending" && image.sending) await sendingEnded(image);
    if (image.url) await server.delete(image.url);
  } catch (error) {
    if (error.status !== 404) return showFault(error.message); // 404: the server has deleted it already
  }
  forget(image);
  announce(fill(messages.deleted, { name: image.fileName }));
}

// An aborted request may leave its image on the server; only the answer has the address to delete it.
async function sendingEnded(image) {
  list.update(image, { message: messages.deleting });
  await image.sending.catch(() => {}); // sendOne handles it
}

async function removeAll() {
  const images = list.all();
  const sent = images.filter(({ url }) => url);
  showFault("");
  try {
    await server.delete(results);
  } catch (error) {
    return showFault(error.message);
  }
  for (const image of sent) forget(image);
  await Promise.all(images.filter((image) => list.has(image)).map(remove));
  if (!list.some(() => true)) announce(messages.allDeleted);
}

function forget(image) {
  const [focused, beside] = [document.activeElement, list.buttonBeside(image)];
  list.remove(image);
  forgetChoicesExcept(list.all().map(({ key }) => key));
  if (image === selected) {
    measurementRequest?.abort();
    brush.use(0);
    selected = null;
    const next = list.all().find(({ state }) => state === "done");
    if (next) select(next);
  }
  showOrHide();
  // A button that is removed or hidden loses the focus.
  if (!focused.getClientRects().length) (beside ?? at("files")).focus();
}

// A file, or a correction, that would be lost without this page.
const isNotSent = ({ state, correction }) => state === "sending" || (correction && !correction.isSaved);

function forgetExpired() {
  const expired = list.all().filter(({ deadline }) => deadline < Date.now());
  if (!expired.length) return;
  for (const image of expired) forget(image);
  showFault(expired.map(({ fileName: name }) => fill(messages.expired, { name })).join(" "));
}

// ---------------------------------------------------------------- the page

function showOrHide() {
  at("main").classList.toggle("empty", !list.some(() => true));
  at("viewer").hidden = at("controls").hidden = !selected;
  at("delete-all").hidden = !list.some(() => true);
  showSummary();
  showOrder();
}

function stateText(image) {
  if (image.message) return image.message;
  if (image.state === "waiting") return fill(messages.waiting, image);
  if (image.state === "done" && image.found) return fill(messages.done, { index: indexText(image) });
  return messages[image.state] ?? messages.running;
}

function showStyle() {
  viewer.style = {
    opacity: at("opacity").valueAsNumber,
    outline: at("outline").valueAsNumber,
    isOriginal: isPressed("show-original"),
    isDisagreement: isPressed("show-disagreement"),
  };
  at("opacity-value").textContent = `${Math.round(100 * viewer.style.opacity)} %`;
  at("outline-value").textContent = `${viewer.style.outline} px`;
  viewer.draw();
}

const isPressed = (id) => at(id).getAttribute("aria-pressed") === "true";
const toggle = (id) => at(id).setAttribute("aria-pressed", !isPressed(id));

function toggleOriginal() {
  toggle("show-original");
  if (isPressed("show-original")) brush.use(0); // it would change a mask that is not shown
  showStyle();
}

function toggleDisagreement() {
  toggle("show-disagreement");
  showStyle();
  show();
}

// By the expected gain of a correction, largest first; or in the order in which the images were sent.
function showOrder() {
  const images = list.all();
  at("review-order").hidden = images.length < 2 || !images.some(({ expectedGain }) => expectedGain);
  const isReview = isPressed("review-order") && !at("review-order").hidden;
  list.sort(isReview ? ({ expectedGain }) => expectedGain ?? -1 : () => 0);
}

function listen() {
  const input = at("files");
  input.addEventListener("change", () => {
    send(input.files);
    input.value = ""; // so that the same file can be chosen again
  });
  const drop = at("drop");
  for (const kind of ["dragenter", "dragover"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  for (const kind of ["dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.remove("over");
    });
  }
  document.addEventListener("drop", (event) => send(event.dataTransfer.files));

  at("threshold").addEventListener("input", (event) => changed({ threshold: event.target.valueAsNumber }));
  at("threshold-reset").addEventListener("click", () => {
    changed({ threshold: selected.ownThreshold });
    showFields();
  });
  at("opacity").addEventListener("input", showStyle);
  at("outline").addEventListener("input", showStyle);
  at("min-area").addEventListener("input", typedChoice);
  at("spacing").addEventListener("input", typedChoice);
  at("fovea-row").addEventListener("input", typedFovea);
  at("fovea-column").addEventListener("input", typedFovea);
  at("mark-fovea").addEventListener("click", ({ target }) => {
    markFovea(target.getAttribute("aria-pressed") !== "true");
  });
  at("clear-fovea").addEventListener("click", () => {
    selected.fovea = null;
    showFields();
    show();
    at("mark-fovea").focus();
  });
  at("show-original").addEventListener("click", toggleOriginal);
  at("show-disagreement").addEventListener("click", toggleDisagreement);
  at("review-order").addEventListener("click", () => {
    toggle("review-order");
    showOrder();
  });
  at("summary-download").addEventListener("click", downloadSummary);
  at("zoom-in").addEventListener("click", () => viewer.zoom(1.4));
  at("zoom-out").addEventListener("click", () => viewer.zoom(1 / 1.4));
  at("zoom-fit").addEventListener("click", () => viewer.fit());
  at("delete").addEventListener("click", () => remove(selected));
  at("delete-all").addEventListener("click", removeAll);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    markFovea(false);
    brush.use(0);
  });
  setInterval(forgetExpired, 20_000);
  window.addEventListener("beforeunload", (event) => {
    if (list.some(isNotSent)) event.preventDefault(); // the browser asks whether to leave the page
  });
}

listen();
showStyle();
restore().catch((error) => showFault(error.message));
