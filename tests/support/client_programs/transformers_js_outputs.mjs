// transformers.js in Node: FOLDER TASK PHOTO... -> JSON of what its pipeline gives for all photos in
// one call: numbers in a row, and the sizes of their axes; of masks the name and the mean of each.
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const require = createRequire(path.join(process.env.PACKAGE, "package.json"));
const { pipeline, env } = await import(pathToFileURL(require.resolve("@huggingface/transformers")));

const [folder, task, ...photos] = process.argv.slice(2);
env.allowRemoteModels = false;
env.localModelPath = path.dirname(folder);
const run = await pipeline(task, path.basename(folder), { dtype: "fp32" });
const told = (tensor) => ({ dims: tensor.dims, values: Array.from(tensor.data) });

function masks(found) {
  return found.map(({ label, mask }) => [label, mask.data.reduce((a, b) => a + b, 0) / 255]);
}

const found = {
  "image-feature-extraction": async () => told(await run(photos)),
  "depth-estimation": async () => (await run(photos)).map((each) => told(each.predicted_depth)),
  "image-segmentation": async () => {
    const each = [];
    for (const photo of photos) each.push(masks(await run(photo))); // it takes no lists
    return each;
  },
};
console.log(JSON.stringify(await found[task]()));
