"""Optimum: FOLDER[:FILE] PHOTO... -> JSON of [index, name, score] of the first class of each."""

import json
import sys

from optimum.onnxruntime import ORTModelForImageClassification
from PIL import Image
from transformers import AutoImageProcessor

place, *photos = sys.argv[1:]
folder, _, file = place.partition(":")
model = ORTModelForImageClassification.from_pretrained(
    folder, subfolder="onnx", file_name=file or "model.onnx"
)
processor = AutoImageProcessor.from_pretrained(folder)
found = []
for photo in photos:
    inputs = processor(images=Image.open(photo), return_tensors="pt")
    scores = model(**inputs).logits.softmax(-1)[0]
    best = int(scores.argmax())
    found.append([best, model.config.id2label[best], float(scores[best])])
print(json.dumps(found))
