"""tract: ARTEFACT PIXELS.npy -> JSON of the first class of each image."""

import json
import sys

import numpy as np
import tract

artefact, pixels = sys.argv[1:]
model = tract.onnx().load(artefact).into_model().into_runnable()
found = []
for image in np.load(pixels):
    (scores,) = model.run([image[None].astype(np.float32)])
    found.append(int(np.argmax(scores.to_numpy())))
print(json.dumps(found))
