"""What runs on the emulated device, and here beside it: every artefact through the wrapper.

``python raspberry_pi_program.py ARTEFACTS PHOTOS OUTPUT`` writes an ``.npz`` of the logits of each
artefact on each photo, and prints what it classified as JSON.
"""

import json
import platform
import sys
from pathlib import Path

import numpy as np

import vitedge

artefacts, photos, output = map(Path, sys.argv[1:])
logits, named = {}, {}
for artefact in sorted(artefacts.iterdir()):
    if artefact.suffix == ".bin":
        continue
    with vitedge.load(artefact, threads=2) as model:
        paths = sorted(photos.iterdir())
        rankings = [each.ranking for each in model.stream(photos, top=1)]
        named[artefact.name] = [ranking[0][0] for ranking in rankings]
        logits[artefact.name] = model.logits(paths)
        assert model.info.precision is not None
np.savez(output, **logits)
print(json.dumps({"machine": platform.machine(), "python": sys.version.split()[0], "named": named}))
