// ONNX Runtime Web behind the interface that all engines have: see litert.mjs.
// Its wasm has threads in it, and uses one where the page may not share memory.

export async function open(model, { accelerator, threads }) {
  const ort = await import(`./ort/ort.${accelerator}.mjs`);
  const several = accelerator === "wasm" && threads > 1 && globalThis.crossOriginIsolated;
  ort.env.wasm.numThreads = several ? threads : 1;
  ort.env.wasm.wasmPaths = new URL("ort/", import.meta.url).href;
  ort.env.logLevel = "error";
  const session = await ort.InferenceSession.create(model, {
    executionProviders: [accelerator],
    // A device gets the whole graph or an error.
    extra: accelerator === "wasm" ? {} : { session: { disable_cpu_ep_fallback: "1" } },
  });
  const [input] = session.inputMetadata;
  const isChannelsFirst = input.name === "pixel_values"; // as Hugging Face's clients name it
  const kind = input.type === "uint8" ? Uint8Array : Float32Array;
  const [n, ...rest] = input.shape;
  const shape = isChannelsFirst ? [n, rest[1], rest[2], rest[0]] : [n, ...rest];
  return {
    inputs: session.inputMetadata.length,
    shape,
    isChannelsFirst,
    threads: several ? threads : 1,
    async run(pixels) {
      const laid = isChannelsFirst ? channelsFirst(pixels, shape, kind) : pixels;
      const values = laid instanceof kind ? laid : new kind(laid);
      const given = new ort.Tensor(input.type, values, input.shape);
      const outputs = await session.run({ [input.name]: given });
      return session.outputNames.map((name) => {
        const { data, dims } = outputs[name];
        return { values: data, shape: [...dims] };
      });
    },
  };
}

function channelsFirst(pixels, [n, height, width, channels], kind) {
  const laid = new kind(pixels.length);
  const plane = height * width;
  for (let image = 0; image < n; image++) {
    const start = image * plane * channels;
    for (let channel = 0; channel < channels; channel++) {
      for (let at = 0; at < plane; at++) {
        laid[start + channel * plane + at] = pixels[start + at * channels + channel];
      }
    }
  }
  return laid;
}
