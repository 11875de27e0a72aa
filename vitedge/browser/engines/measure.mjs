// The page of one measurement: opens an artefact, and runs it on pixels that it is told to fetch.
import { open } from "./engine.mjs";
import { DECODING, prepare } from "./pixels.mjs";

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
    const { run, placement, ...facts } = engine;
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
  placement: () => engine.placement(),
  async prepare(number, how) {
    const file = await (await fetch(`picture?${number}`)).blob();
    const picture = await createImageBitmap(file, DECODING);
    const { width, height } = picture;
    const drawn = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    drawn.drawImage(picture, 0, 0);
    picture.close();
    return base64(prepare(drawn.getImageData(0, 0, width, height).data, width, height, how));
  },
  async adapter() {
    const adapter = await navigator.gpu?.requestAdapter();
    if (!adapter) return null;
    const { vendor, architecture, device, description } = adapter.info;
    return { vendor, architecture, device, description, isFallback: adapter.info.isFallbackAdapter };
  },
};
document.title = "ready";
