"""Makes the artefacts and images in ``vitedge/bench/builtin``: the demo's model, in int8.

Run it when the converters or the quantizer change: ``python benchmarks/make_builtin.py``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from vitedge.bench import builtin
from vitedge.bench.request import selected
from vitedge.demo.digits import digits_recipe, digits_vit
from vitedge.images.image_sets import digits
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.pipeline.keras_model import write_keras
from vitedge.targets.precisions import Precision
from vitedge.train import train

FOLDER = Path(builtin.__file__).parent


def main() -> None:
    """Trains, converts and writes over what is there."""
    training, held_out = digits()
    trained = train(digits_vit(), training, digits_recipe(), held_out=held_out)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "digits.keras"
        write_keras(trained.network, model)
        convert(
            model,
            ConvertOptions(precisions=(Precision.INT8,), output=FOLDER, force=True),
            calibration=selected(training, 200),
        )
    images = np.stack([trained.network.preprocessing(sample.image) for sample in held_out.samples])
    labels = np.asarray([sample.label for sample in held_out.samples], np.int64)
    np.savez_compressed(FOLDER / "digits.npz", images=images, labels=labels)
    print(f"{trained.history[-1].held_out_accuracy:.1%} of {len(labels)} held-out digits")


if __name__ == "__main__":
    main()
