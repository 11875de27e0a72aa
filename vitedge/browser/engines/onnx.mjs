// ONNX Runtime Web behind the interface that all engines have: see litert.mjs.
// Its wasm has threads in it, and uses one where the page may not share memory.

// Where nodes ran the engine tells to its log alone. That goes to the console as it is when the
// engine is loaded, so a listener must stand there before.
let heard = null;
for (const name of ["log", "info", "warn", "error", "debug"]) {
  const say = console[name].bind(console);
  console[name] = (...words) => (heard === null ? say(...words) : heard.push(words.join(" ")));
}

// {provider: operators}, of a session that is opened for nothing else.
async function placed(ort, model, options) {
  heard = [];
  try {
    const session = await ort.InferenceSession.create(model, { ...options, logSeverityLevel: 0 });
    await session.release();
    return counted(heard);
  } finally {
    heard = null;
  }
}

function counted(lines) {
  const found = {};
  let nodes = null;
  for (const line of lines) {
    const group = /odes? ?(?:\(s\))? placed on \[(\w+)\]\. Number of nodes: (\d+)/.exec(line);
    const node = /VerifyEachNodeIsAssignedToAnEp\] +(\w+) \(/.exec(line);
    if (group) found[group[1]] = nodes = { count: Number(group[2]), operators: [] };
    else if (node && nodes) nodes.operators.push(node[1]);
  }
  return found;
}

const CPU = "CPUExecutionProvider";

async function leftOut(ort, model, options) {
  const { [CPU]: left } = await placed(ort, model, { ...options, extra: {} });
  const names = [...new Set(left?.operators ?? [])].sort().join(", ");
  return left ? `${left.count} nodes are left off the GPU: ${names}` : "";
}

export async function open(model, { accelerator, threads }) {
  const ort = await import(`./ort/ort.${accelerator}.mjs`);
  const several = accelerator === "wasm" && threads > 1 && globalThis.crossOriginIsolated;
  ort.env.wasm.numThreads = several ? threads : 1;
  ort.env.wasm.wasmPaths = new URL("ort/", import.meta.url).href;
  ort.env.logLevel = "error";
  const options = {
    executionProviders: [accelerator],
    // A device gets the whole graph or an error.
    extra: accelerator === "wasm" ? {} : { session: { disable_cpu_ep_fallback: "1" } },
  };
  let session;
  try {
    session = await ort.InferenceSession.create(model, options);
  } catch (error) {
    const refused = /fallback to CPU EP has been explicitly/.test(error.message);
    throw new Error((refused && (await leftOut(ort, model, options))) || error.message);
  }
  const [input] = session.inputMetadata;
  const isChannelsFirst = input.name === "pixel_values"; // as Hugging Face's clients name it
  const kind = input.type === "uint8" ? Uint8Array : Float32Array;
  const [batch, ...rest] = input.shape;
  const n = typeof batch === "number" ? batch : 1; // a name: it takes any number
  const shape = isChannelsFirst ? [n, rest[1], rest[2], rest[0]] : [n, ...rest];
  return {
    inputs: session.inputMetadata.length,
    shape,
    isChannelsFirst,
    threads: several ? threads : 1,
    async placement() {
      const counts = Object.entries(await placed(ort, model, options));
      const sum = (those) => those.reduce((total, [, { count }]) => total + count, 0);
      const isHere = ([provider]) => accelerator === "wasm" || provider !== CPU;
      return counts.length ? [sum(counts.filter(isHere)), sum(counts)] : null;
    },
    async run(pixels) {
      const laid = isChannelsFirst ? channelsFirst(pixels, shape, kind) : pixels;
      const values = laid instanceof kind ? laid : new kind(laid);
      const given = new ort.Tensor(input.type, values, [n, ...rest]);
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
