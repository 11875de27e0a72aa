"""What lifting costs as models grow: seconds and peak memory, each model in its own process.

How often the weights are held shows in the peak above that of the imports, which grows by so many
times the weights from one size to the next; what does not grow are activations and the engine.

Run: ``python benchmarks/lift_cost.py [--json]``. The models are stock Keras functional ViTs
(``keras.layers.MultiHeadAttention``) with random weights, saved as ``.keras``; what is measured is
``read_compared`` from nothing to the proved ViT and, apart, the import of TensorFlow and Keras and
the writing of ``model.keras``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
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
    write_s: float
    imported_mib: int
    lifted_mib: int
    written_mib: int
    weights_mib: int
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
    start = time.perf_counter()
    import keras  # noqa: F401

    from vitedge.importers import ImportOptions
    from vitedge.pipeline.keras_model import write_keras
    from vitedge.pipeline.source_check import read_compared

    imported, imported_mib = time.perf_counter(), peak_mib()
    found = read_compared(path, ImportOptions())
    lifted, lifted_mib = time.perf_counter(), peak_mib()
    write_keras(found.network, path.with_name("imported.keras"))
    parameters = found.network.parameters
    cost = Cost(
        model=name,
        parameters=parameters,
        import_s=round(imported - start, 1),
        lift_s=round(lifted - imported, 1),
        write_s=round(time.perf_counter() - lifted, 1),
        imported_mib=imported_mib,
        lifted_mib=lifted_mib,
        written_mib=peak_mib(),
        weights_mib=round(parameters * 4 / 2**20),
        path=found.path,
    )
    result.write_text(json.dumps(asdict(cost)))


def peak_mib() -> int:
    """The most memory that this process has had in use so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)  # KiB on Linux


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
    print("model       parameters   import s   lift s   write s   weights MiB   peak MiB: ", end="")
    print("imported   lifted   written")
    for cost in costs:
        print(
            f"{cost.model:10}  {cost.parameters:>10,}  {cost.import_s:>9}  {cost.lift_s:>7}  "
            f"{cost.write_s:>8}  {cost.weights_mib:>12}  {cost.imported_mib:>20}  "
            f"{cost.lifted_mib:>7}  {cost.written_mib:>8}"
        )


if __name__ == "__main__":
    main()
