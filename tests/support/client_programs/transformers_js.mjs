// transformers.js in Node: FOLDER DTYPE PHOTO... -> JSON of [index, name, score] of the first classes.
// PACKAGE is where npm put @huggingface/transformers.
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const require = createRequire(path.join(process.env.PACKAGE, "package.json"));
const { pipeline, env } = await import(pathToFileURL(require.resolve("@huggingface/transformers")));

const TOGETHER = 4; // images in one run, as people give lists of them
const [folder, dtype, ...photos] = process.argv.slice(2);
env.allowRemoteModels = false;
env.localModelPath = path.dirname(folder);
const classify = await pipeline("image-classification", path.basename(folder), { dtype });
const ids = Object.values(classify.model.config.id2label);
const found = [];
for (let first = 0; first < photos.length; first += TOGETHER) {
  for (const [best] of await classify(photos.slice(first, first + TOGETHER), { top_k: 1 })) {
    found.push([ids.indexOf(best.label), best.label, best.score]);
  }
}
console.log(JSON.stringify(found));
