"""OpenVINO Model API: ARTEFACT PHOTO... -> JSON of [index, name, score] of the first classes."""

import json
import sys

import cv2
from model_api.adapters import ONNXRuntimeAdapter
from model_api.models import Model

artefact, *photos = sys.argv[1:]
if artefact.startswith("onnxruntime:"):
    model = Model.create_model(ONNXRuntimeAdapter(artefact.removeprefix("onnxruntime:")))
else:
    model = Model.create_model(artefact, device="CPU")
found = []
for photo in photos:
    best = model(cv2.imread(photo)).top_labels[0]
    found.append([int(best.id), best.name, float(best.confidence)])
print(json.dumps(found))
