// LiteRT.js behind the interface that all engines have:
//   open(model, {accelerator, threads, halfPrecision})
//     -> {shape, isChannelsFirst, run, placement, threads}
//   placement() -> Promise of [nodes on the device, all nodes], or of null where it is not told.
//   run(pixels) -> Promise of the outputs, each {values: typed array, shape}; pixels are 0..255,
//   (N, H, W, C).
import { loadAndCompile, loadLiteRt, Tensor } from "./litert/index.js";

let loading = null; // once for a page, whatever it computes on

export async function open(model, { accelerator, threads, halfPrecision }) {
  // Threads share memory, which pages may only that no other site can look into.
  const several = accelerator === "wasm" && threads > 1 && globalThis.crossOriginIsolated;
  const folder = new URL("litert/wasm/", import.meta.url).href;
  loading ??= loadLiteRt(folder, { threads: several });
  await loading;
  const compiled = await loadAndCompile(model, {
    accelerator,
    cpuOptions: { numThreads: several ? threads : 1 },
    gpuOptions: { precision: halfPrecision ? "fp16" : "fp32" },
  });
  if (accelerator !== "wasm" && !compiled.isFullyAccelerated) {
    throw new Error("LiteRT.js left operators of it off the GPU");
  }
  const inputs = compiled.getInputDetails();
  const [input] = inputs;
  const kind = input.dtype === "uint8" ? Uint8Array : Float32Array;
  return {
    inputs: inputs.length,
    shape: [...input.shape],
    isChannelsFirst: false,
    threads: several ? threads : 1,
    placement: async () => null, // not told
    async run(pixels) {
      const given = new Tensor(pixels instanceof kind ? pixels : new kind(pixels), input.shape);
      const outputs = await compiled.run(given);
      const found = [];
      for (const output of outputs) {
        const shape = [...output.type.layout.dimensions];
        found.push({ values: (await output.data()).slice(), shape });
        output.delete();
      }
      given.delete();
      return found;
    },
  };
}
