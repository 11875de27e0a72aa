"""What lifting costs as models grow: seconds and peak memory, each model in its own process.

Run: ``python benchmarks/lift_cost.py [--json]``. The models are stock Keras functional ViTs
(``keras.layers.MultiHeadAttention``) with random weights, saved as ``.keras``; what is measured is
``read_model`` from nothing to the proved ViT, and, apart, the import of TensorFlow and Keras.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Size:
    """A published size at 224 pixels and patches of 16."""

    dim: int
    depth: int
    heads: int

    @property
    def mlp_dim(self) -> int:
        """Width of the MLPs."""
        return 4 * self.dim


SIZES = {
    "DeiT-tiny": Size(192, 12, 3),
    "ViT-B/16": Size(768, 12, 12),
    "ViT-L/16": Size(1024, 24, 16),
}


@dataclass(frozen=True)
class Cost:
    """One measurement."""

    model: str
    parameters: int
    import_s: float
    lift_s: float
    peak_mib: float
    weights_mib: float
    path: str


def save_model(size: Size, path: Path) -> None:
    """Writes a stock Keras ViT with random weights."""
    import keras
    from keras import layers

    image = keras.Input((224, 224, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = layers.Conv2D(size.dim, 16, 16)(x)
    x = layers.Reshape((196, size.dim))(x)
    for _ in range(size.depth):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        y = layers.MultiHeadAttention(size.heads, size.dim // size.heads)(y, y)
        x = layers.Add()([x, y])
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        y = layers.Dense(size.mlp_dim, activation="gelu")(y)
        x = layers.Add()([x, layers.Dense(size.dim)(y)])
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    x = layers.GlobalAveragePooling1D()(x)
    keras.Model(image, layers.Dense(1000)(x)).save(path)


def measure(name: str, path: Path, result: Path) -> None:
    """Lifts a file and writes the cost."""
    import resource

    start = time.perf_counter()
    import keras  # noqa: F401

    from vitedge.importers import read_model

    imported = time.perf_counter()
    found = read_model(path)
    lifted = time.perf_counter()
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
    parameters = found.vit.parameters
    cost = Cost(
        name,
        parameters,
        round(imported - start, 2),
        round(lifted - imported, 2),
        round(peak_mib),
        round(parameters * 4 / 2**20),
        found.path,
    )
    result.write_text(json.dumps(asdict(cost)))


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON list instead of a table")
    parser.add_argument("--models", nargs="*", choices=SIZES, default=list(SIZES))
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    processes = multiprocessing.get_context("spawn")
    costs = []
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.models:
            path, result = Path(folder) / "model.keras", Path(folder) / "cost.json"
            for target, values in (
                (save_model, (SIZES[name], path)),
                (measure, (name, path, result)),
            ):
                process = processes.Process(target=target, args=values)
                process.start()
                process.join()
                if process.exitcode:
                    raise SystemExit(f"{name}: a process ended with {process.exitcode}")
            costs.append(Cost(**json.loads(result.read_text())))
    if arguments.json:
        print(json.dumps([asdict(cost) for cost in costs], indent=2))
        return
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, n = 1"
    )
    print("model       parameters   import s   lift s   peak MiB   weights MiB")
    for cost in costs:
        print(
            f"{cost.model:10}  {cost.parameters:>10,}  {cost.import_s:>9}  {cost.lift_s:>7}  "
            f"{cost.peak_mib:>9}  {cost.weights_mib:>12}"
        )


if __name__ == "__main__":
    main()
