"""Makes the artefacts and images in ``vitedge/builtin``: the demo's model, in int8.

Run it when the converters or the quantizer change: ``python benchmarks/make_builtin.py``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import vitedge.builtin
from vitedge.data import digits
from vitedge.measure import selected
from vitedge.pipeline import ConvertOptions, convert, write_keras
from vitedge.spec import Precision
from vitedge.train import train
from vitedge.train.digits import digits_recipe, digits_vit

FOLDER = Path(vitedge.builtin.__file__).parent


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
