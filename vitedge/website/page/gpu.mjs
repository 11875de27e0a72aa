// WebGPU, where the browser has it and the precision runs there: offered, checked, never trusted.
// Drivers compute wrong numbers without an error, so one picture goes through the CPU as well.

function noise(shape) {
  const pixels = new Uint8Array(shape.reduce((a, b) => a * b, 1));
  let state = 1;
  for (let at = 0; at < pixels.length; at++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    pixels[at] = state >>> 24;
  }
  return pixels;
}

// How far the noise of `found` lies below the signal of `expected`, in decibel; NaN counts as none.
export function signalToNoise(expected, found) {
  let signal = 0;
  let wrong = 0;
  for (let at = 0; at < expected.length; at++) {
    signal += expected[at] ** 2;
    wrong += (expected[at] - found[at]) ** 2;
  }
  if (!Number.isFinite(wrong)) return -Infinity;
  return wrong === 0 ? Infinity : 10 * Math.log10(signal / wrong);
}

export async function isOffered(model) {
  return Boolean(model.gpu && (await navigator.gpu?.requestAdapter()));
}

// The engine on the GPU. Throws an error that says why where it cannot be used.
export async function onGpu(open, bytes, model, cpu) {
  const options = { accelerator: "webgpu", threads: 1, halfPrecision: model.gpu.half };
  const engine = await open(bytes, options);
  const pixels = noise(engine.shape);
  const [expected] = await cpu.run(pixels);
  const [found] = await engine.run(pixels);
  const decibel = signalToNoise(expected.values, found.values);
  if (!(decibel >= model.gpu.leastDb)) {
    const far = Number.isFinite(decibel) ? `${decibel.toFixed(0)} dB` : "no number";
    throw new Error(`its results are wrong (${far} where ${model.gpu.leastDb} dB are due)`);
  }
  return engine;
}
