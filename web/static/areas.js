// The mask at a threshold and its measurements. The arithmetic is that of lib/prediction/measurement.py: 32-bit
// probabilities and threshold, areas of 8-connected pixels.

export function measureAreas(probability, width, height, threshold, minArea, correction) {
  const mask = new Uint8Array(probability.length);
  const least = Math.fround(threshold);
  for (let i = 0; i < mask.length; i++) mask[i] = probability[i] >= least; // false for NaN
  let sizes = removeSmallAreas(mask, width, height, minArea);
  let corrected = 0;
  if (!correction.isEmpty) {
    corrected = correction.apply(mask);
    sizes = removeSmallAreas(mask, width, height, 0);
  }
  let area = 0;
  let sum = 0;
  for (let i = 0; i < mask.length; i++) {
    if (mask[i]) {
      area += 1;
      sum += probability[i];
    }
  }
  return {
    mask,
    area,
    corrected,
    number: sizes.length,
    largest: sizes.reduce((a, b) => Math.max(a, b), 0),
    meanProbability: area ? sum / area : null,
  };
}

// Returns the sizes of the areas that stay.
function removeSmallAreas(mask, width, height, minArea) {
  const runs = labelledRuns(mask, width, height);
  const sizes = new Map();
  for (let r = 0; r < runs.parent.length; r++) {
    const root = rootOf(runs.parent, r);
    sizes.set(root, (sizes.get(root) ?? 0) + runs.end[r] - runs.start[r]);
  }
  for (let r = 0; r < runs.parent.length; r++) {
    if (sizes.get(rootOf(runs.parent, r)) < minArea) mask.fill(0, runs.start[r], runs.end[r]);
  }
  return [...sizes.values()].filter((size) => size >= minArea);
}

// Horizontal runs of set pixels, [start, end) in the flat array; union-find joins runs that touch a run above.
function labelledRuns(mask, width, height) {
  const start = [];
  const end = [];
  const parent = [];
  let above = 0; // first run of the row above
  for (let row = 0; row < height; row++) {
    const first = start.length;
    const rowEnd = (row + 1) * width;
    let candidate = above;
    for (let i = row * width; i < rowEnd; i++) {
      if (!mask[i]) continue;
      const run = start.length;
      start.push(i);
      while (i < rowEnd && mask[i]) i++;
      end.push(i);
      parent.push(run);
      const [from, to] = [start[run] - width, i - width]; // shifted up by a row and widened by the corners
      while (candidate < first && end[candidate] < from) candidate++;
      for (let c = candidate; c < first && start[c] <= to; c++) {
        parent[rootOf(parent, run)] = rootOf(parent, c);
      }
    }
    above = first;
  }
  return { start, end, parent };
}

function rootOf(parent, run) {
  while (parent[run] !== run) {
    parent[run] = parent[parent[run]];
    run = parent[run];
  }
  return run;
}

// The borders between pixels inside and outside, as horizontal and vertical lines.
export function outlinePath(isInside, width, height) {
  const path = new Path2D();
  const since = new Int32Array(width + 1).fill(-1); // row where the vertical line to the left of a column starts
  for (let y = 0; y <= height; y++) {
    let from = -1;
    for (let x = 0; x <= width; x++) {
      const here = x < width && y < height && isInside(y * width + x);
      const up = x < width && y > 0 && isInside((y - 1) * width + x);
      const left = x > 0 && y < height && isInside(y * width + x - 1);
      if (here !== up && from < 0) from = x;
      if (here === up && from >= 0) {
        path.moveTo(from, y);
        path.lineTo(x, y);
        from = -1;
      }
      if (here !== left && since[x] < 0) since[x] = y;
      if (here === left && since[x] >= 0) {
        path.moveTo(x, since[x]);
        path.lineTo(x, y);
        since[x] = -1;
      }
    }
  }
  return path;
}
