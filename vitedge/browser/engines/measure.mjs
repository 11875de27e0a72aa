// The page of one measurement: opens an artefact, and runs it on pixels that it is told to fetch.
import { open } from "./engine.mjs";

let engine;

function base64(values) {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  let text = "";
  for (let start = 0; start < bytes.length; start += 32768) {
    text += String.fromCharCode(...bytes.subarray(start, start + 32768));
  }
  return btoa(text);
}

globalThis.vitedge = {
  async open(options) {
    const model = new Uint8Array(await (await fetch("artefact")).arrayBuffer());
    const started = performance.now();
    engine = await open(model, options);
    const { run, ...facts } = engine;
    return { ...facts, ms: performance.now() - started };
  },
  async run(number, isFloat) {
    const bytes = await (await fetch(`pixels?${number}`)).arrayBuffer();
    const pixels = isFloat ? new Float32Array(bytes) : new Uint8Array(bytes);
    const started = performance.now();
    const outputs = await engine.run(pixels);
    const ms = performance.now() - started;
    return {
      ms,
      outputs: outputs.map(({ values, shape }) => ({
        kind: values.constructor.name,
        data: base64(values),
        shape,
      })),
    };
  },
  async adapter() {
    const adapter = await navigator.gpu?.requestAdapter();
    if (!adapter) return null;
    const { vendor, architecture, device, description } = adapter.info;
    return { vendor, architecture, device, description, isFallback: adapter.info.isFallbackAdapter };
  },
};
document.title = "ready";
