"""MediaPipe Tasks: ARTEFACT PHOTO... -> JSON of the embeddings, one list for each output."""

import json
import sys

import mediapipe
from mediapipe.tasks.python import BaseOptions, vision

artefact, *photos = sys.argv[1:]
options = vision.ImageEmbedderOptions(BaseOptions(model_asset_path=artefact))
found = []
with vision.ImageEmbedder.create_from_options(options) as embedder:
    for photo in photos:
        result = embedder.embed(mediapipe.Image.create_from_file(photo))
        found.append({each.head_name: each.embedding.tolist() for each in result.embeddings})
print(json.dumps(found))
