"""MediaPipe Tasks: ARTEFACT PHOTO... -> JSON of [index, name, score] of the first class of each."""

import json
import sys

import mediapipe
from mediapipe.tasks.python import BaseOptions, vision

artefact, *photos = sys.argv[1:]
options = vision.ImageClassifierOptions(BaseOptions(model_asset_path=artefact), max_results=1)
found = []
with vision.ImageClassifier.create_from_options(options) as classifier:
    for photo in photos:
        result = classifier.classify(mediapipe.Image.create_from_file(photo))
        best = result.classifications[0].categories[0]
        found.append([best.index, best.category_name, best.score])
print(json.dumps(found))
