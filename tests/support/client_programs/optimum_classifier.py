"""Optimum: FOLDER[:FILE] PHOTO... -> JSON of [index, name, score] of the first class of each."""

import json
import sys

from optimum.onnxruntime import ORTModelForImageClassification
from PIL import Image
from transformers import AutoImageProcessor

TOGETHER = 4  # images in one run, as people give lists of them

place, *photos = sys.argv[1:]
folder, _, file = place.partition(":")
model = ORTModelForImageClassification.from_pretrained(
    folder, subfolder="onnx", file_name=file or "model.onnx"
)
processor = AutoImageProcessor.from_pretrained(folder)
found = []
for first in range(0, len(photos), TOGETHER):
    images = [Image.open(photo) for photo in photos[first : first + TOGETHER]]
    inputs = processor(images=images, return_tensors="pt")
    for scores in model(**inputs).logits.softmax(-1):
        best = int(scores.argmax())
        found.append([best, model.config.id2label[best], float(scores[best])])
print(json.dumps(found))
