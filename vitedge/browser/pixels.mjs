// From a picture to the raw pixels that a model takes; once it is decoded, equal to Pillow's to the
// bit.
// Pillow computes in integers: https://github.com/python-pillow/Pillow, src/libImaging/Resample.c.

// What createImageBitmap is told: pictures upright, and their numbers as the file has them.
export const DECODING = { imageOrientation: "from-image", colorSpaceConversion: "none" };

const PRECISION_BITS = 22;
const ONE = 2 ** PRECISION_BITS;
const A = -0.5; // of the cubic

function sinc(x) {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}

const FILTERS = {
  bilinear: { support: 1, at: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: {
    support: 2,
    at(signed) {
      const x = Math.abs(signed);
      if (x < 1) return ((A + 2) * x - (A + 3)) * x * x + 1;
      return x < 2 ? (((x - 5) * x + 8) * x - 4) * A : 0;
    },
  },
  lanczos: { support: 3, at: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

// Added up as Pillow does it, whose rounding decides between neighbours.
function nearest(scale, first, count) {
  const found = [];
  for (let at = 0, centre = 0.5 * scale; at < first + count; at++, centre += scale) {
    if (at >= first) found.push({ start: Math.floor(centre), parts: [ONE] });
  }
  return found;
}

// Which input pixels make each of the outputs [first, first + count), and how much of each.
function weights(from, to, first, count, name) {
  const scale = from / to;
  if (name === "nearest") return nearest(scale, first, count);
  const found = [];
  for (let at = first; at < first + count; at++) {
    const { support, at: filter } = FILTERS[name];
    const wide = Math.max(scale, 1);
    const centre = (at + 0.5) * scale;
    const start = Math.max(Math.trunc(centre - support * wide + 0.5), 0);
    const end = Math.min(Math.trunc(centre + support * wide + 0.5), from);
    const parts = [];
    for (let x = start; x < end; x++) parts.push(filter((x - centre + 0.5) / wide));
    const sum = parts.reduce((total, part) => total + part, 0);
    const whole = (part) => Math.trunc((part / sum) * ONE + (part / sum < 0 ? -0.5 : 0.5));
    found.push({ start, parts: parts.map(whole) });
  }
  return found;
}

const HALF = 2 ** (PRECISION_BITS - 1);

function sum(source, first, step, parts) {
  let total = HALF;
  for (let k = 0; k < parts.length; k++) total += source[first + k * step] * parts[k];
  return total >> PRECISION_BITS; // a clamped array bounds it
}

// Each of the `rows` rows from `top` on becomes as long as `across` says.
function alongRows(source, length, top, rows, across, channels) {
  const found = new Uint8ClampedArray(rows * across.length * channels);
  for (let y = 0, out = 0; y < rows; y++) {
    const row = (y + top) * length * channels;
    for (const { start, parts } of across) {
      for (let band = 0; band < channels; band++, out++) {
        found[out] = sum(source, row + start * channels + band, channels, parts);
      }
    }
  }
  return found;
}

// Each column becomes as long as `down` says, whose first row is `top`.
function alongColumns(source, length, top, down, channels) {
  const step = length * channels;
  const found = new Uint8ClampedArray(down.length * step);
  for (let y = 0, out = 0; y < down.length; y++) {
    const first = (down[y].start - top) * step;
    for (let x = 0; x < step; x++, out++) found[out] = sum(source, first + x, step, down[y].parts);
  }
  return found;
}

// The part (left, top, width, height) of a picture of `channels` bands resized to `to`.
function resized(source, [fromWidth, fromHeight], to, part, channels, filter) {
  const across = weights(fromWidth, to[0], part.left, part.width, filter);
  const down = weights(fromHeight, to[1], part.top, part.height, filter);
  const lost = fromHeight - to[1];
  if (lost > 0 && lost > 2 * (fromWidth - to[0])) { // Pillow 13 and later
    const between = alongColumns(source, fromWidth, 0, down, channels);
    return alongRows(between, fromWidth, 0, part.height, across, channels);
  }
  const first = down[0].start;
  const last = down[down.length - 1];
  const rows = last.start + last.parts.length - first;
  const between = alongRows(source, fromWidth, first, rows, across, channels);
  return alongColumns(between, part.width, first, down, channels);
}

// Python's round.
function roundHalfEven(x) {
  const floor = Math.floor(x);
  return x - floor === 0.5 ? floor + (floor % 2) : Math.round(x);
}

function bands(rgba, channels) {
  const pixels = rgba.length / 4;
  const found = new Uint8ClampedArray(pixels * channels);
  for (let at = 0; at < pixels; at++) {
    const [red, green, blue] = [rgba[4 * at], rgba[4 * at + 1], rgba[4 * at + 2]];
    if (channels === 1) {
      found[at] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
    } else {
      found.set([red, green, blue], 3 * at);
    }
  }
  return found;
}

// `rgba` as a canvas gives it, `how` as an artefact's metadata say it -> uint8 (height, width, channels).
export function prepare(rgba, width, height, how) {
  const [tall, wide] = how.size;
  let to = [wide, tall];
  if (Array.isArray(how.resize)) {
    to = [how.resize[1], how.resize[0]];
  } else if (how.resize !== null) {
    to =
      width <= height
        ? [how.resize, Math.trunc((how.resize * height) / width)]
        : [Math.trunc((how.resize * width) / height), how.resize];
  }
  const part = {
    left: roundHalfEven((to[0] - wide) / 2),
    top: roundHalfEven((to[1] - tall) / 2),
    width: wide,
    height: tall,
  };
  const source = bands(rgba, how.channels);
  const found = resized(source, [width, height], to, part, how.channels, how.interpolation);
  return new Uint8Array(found.buffer);
}
