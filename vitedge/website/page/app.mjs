// The page: a photo or the camera in, classes and milliseconds out.
import { isOffered, onGpu } from "./gpu.mjs";
import { DECODING, prepare } from "./pixels.mjs";

const MOST_PIXELS = 16_777_216; // of a canvas on iOS
const SHOWN = 5;
const $ = (id) => document.getElementById(id);

// The service worker keeps everything for when there is no network, and sends the headers without
// which browsers give a page no threads; those count from the next load on.
async function underServiceWorker() {
  if (!navigator.serviceWorker) return;
  try {
    await navigator.serviceWorker.register("service-worker.js");
  } catch (error) {
    console.warn(`no service worker: ${error.message}`);
    return;
  }
  if (!navigator.serviceWorker.controller) {
    await new Promise((resolve) => {
      navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true });
      setTimeout(resolve, 60_000);
    });
  }
  if (!globalThis.crossOriginIsolated && !sessionStorage.getItem("reloaded")) {
    sessionStorage.setItem("reloaded", "1");
    location.reload();
    await new Promise(() => {});
  }
}

function probabilities(values, model) {
  const scores = Array.from(values, (each) => (each - model.zeroPoint) * model.scale);
  if (model.scores === "probabilities") return scores;
  const most = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = scores.map((each) => Math.exp(each - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((each) => each / sum);
}

function show(found, model, milliseconds) {
  const order = found.map((_, index) => index).sort((a, b) => found[b] - found[a] || a - b);
  const rows = order.slice(0, SHOWN).map((index) => {
    const row = document.createElement("li");
    const bar = document.createElement("progress");
    bar.value = found[index];
    bar.setAttribute("aria-hidden", "true");
    const name = document.createElement("span");
    name.textContent = model.labels[index] ?? String(index);
    const share = document.createElement("span");
    share.textContent = `${(100 * found[index]).toFixed(1)} %`;
    row.append(bar, name, share);
    return row;
  });
  $("classes").replaceChildren(...rows);
  const [preparing, inferring] = milliseconds.map((each) => each.toFixed(0));
  $("times").textContent = `${inferring} ms for the model, ${preparing} ms to prepare the picture`;
}

async function classify(model, running) {
  const { engine } = running;
  const canvas = $("canvas");
  const started = performance.now();
  const { width, height } = canvas;
  const drawn = canvas.getContext("2d", { willReadFrequently: true });
  const rgba = drawn.getImageData(0, 0, width, height).data;
  const one = prepare(rgba, width, height, model.preprocessing);
  const pixels = new Uint8Array(engine.shape.reduce((a, b) => a * b, 1));
  pixels.set(one); // of a batch, the first
  const prepared = performance.now();
  const [{ values: scores }] = await engine.run(pixels);
  const ended = performance.now();
  const classes = scores.length / engine.shape[0];
  const found = probabilities(scores.subarray(0, classes), model);
  show(found, model, [prepared - started, ended - prepared]);
}

function draw(source, width, height) {
  const canvas = $("canvas");
  const scale = Math.min(1, Math.sqrt(MOST_PIXELS / (width * height)));
  [canvas.width, canvas.height] = [Math.floor(width * scale), Math.floor(height * scale)];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
}

async function photo(file, model, running) {
  let picture;
  try {
    picture = await createImageBitmap(file, DECODING);
  } catch {
    $("state").textContent = `'${file.name}' is not a picture that this browser reads.`;
    return;
  }
  draw(picture, picture.width, picture.height);
  picture.close();
  $("canvas").hidden = false;
  await classify(model, running);
  $("state").textContent = `The classes of ${file.name}:`;
}

function camera(model, running) {
  const video = $("video");
  const button = $("camera");
  let stream = null;
  function stop() {
    for (const track of stream?.getTracks() ?? []) track.stop();
    stream = null;
    video.hidden = true;
    button.textContent = "Start the camera";
  }
  async function start() {
    if (!navigator.mediaDevices) {
      $("state").textContent = "Browsers give cameras to pages from https or localhost only.";
      return;
    }
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch (error) {
      $("state").textContent = `There is no picture from a camera: ${error.message}`;
      return;
    }
    button.textContent = "Stop the camera";
    video.srcObject = stream;
    video.hidden = false;
    $("canvas").hidden = true;
    await video.play();
    $("state").textContent = "The classes of what the camera sees:";
    while (stream) {
      draw(video, video.videoWidth, video.videoHeight);
      await classify(model, running);
      await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
    }
  }
  button.addEventListener("click", () => (stream ? stop() : start().catch(failed)));
  return stop;
}

function failed(error) {
  $("state").textContent = `This does not run here: ${error.message}`;
  console.error(error);
}

function tell(model, running) {
  const where = running.isGpu ? "WebGPU" : `threads: ${running.engine.threads}`;
  $("facts").textContent = `${model.words}; ${model.engine}, ${where}`;
}

async function offerGpu(open, bytes, model, running) {
  if (!(await isOffered(model))) return;
  const cpu = running.engine;
  let gpu = null;
  $("gpu").addEventListener("change", async ({ target }) => {
    target.disabled = true;
    $("state").textContent = "Preparing …";
    let words = "Ready.";
    try {
      if (target.checked) gpu ??= await onGpu(open, bytes, model, cpu);
    } catch (error) {
      target.checked = false;
      words = `The GPU is not used: ${error.message}.`;
    }
    running.engine = target.checked ? gpu : cpu;
    running.isGpu = target.checked;
    tell(model, running);
    target.disabled = false;
    $("state").textContent = words;
  });
  $("choice").hidden = false;
}

async function main() {
  await underServiceWorker();
  const model = await (await fetch("model.json")).json();
  document.title = $("title").textContent = model.name;
  const bytes = new Uint8Array(await (await fetch(encodeURIComponent(model.file))).arrayBuffer());
  const { open } = await import("./engine.mjs");
  const threads = Math.min(navigator.hardwareConcurrency || 1, 4);
  const engine = await open(bytes, { accelerator: "wasm", threads });
  const running = { engine, isGpu: false };
  tell(model, running);
  const stop = camera(model, running);
  $("file").addEventListener("change", ({ target }) => {
    const [file] = target.files;
    if (!file) return;
    stop();
    photo(file, model, running).catch(failed);
  });
  await offerGpu(open, bytes, model, running);
  $("file").disabled = $("camera").disabled = false;
  $("state").textContent = "Ready.";
  document.documentElement.dataset.ready = "yes";
}

main().catch(failed);
