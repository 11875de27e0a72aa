"""A ViT with massive outliers through the stock static routes and through ours.

Run: ``python benchmarks/outliers.py --weights deit_tiny_patch16_224.safetensors --photos FOLDER``
(``pip install -e '.[benchmarks]'``). ``outlier_vit`` gives the model its outliers without changing
a logit, and ``register_vit`` gives it registers of massive numbers. What is printed is the share of
validation photos whose top class is still that of the same model in float32, and the
signal-to-noise ratio of the logits, for the model as it is and for those two.
Artefacts stay in ``--folder``, and a later run measures them again without making them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from contenders import say
from outlier_vit import with_outliers
from register_vit import with_massive_registers
from stock_routes import ROUTES, Workbench

from vitedge.images.image_sets import ImageSet, open_images
from vitedge.importers import read_model
from vitedge.network.network import Network
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.pipeline.keras_model import write_keras
from vitedge.runtimes import run_batches, runtime_for
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.precisions import Precision

# Percent agreement that the stock routes shall fall below, and that ours shall keep.
_COLLAPSED, _KEPT = 60.0, 97.0

STOCK = ("stock-full-tflite", "stock-static-onnx", "stock-linear-onnx", "stock-nncf-openvino")
OURS = (
    (Format.TFLITE, Precision.INT8),
    (Format.ONNX, Precision.INT8),
    (Format.OPENVINO, Precision.INT8),
    (Format.TFLITE, Precision.INT8_STATIC),
    (Format.ONNX, Precision.INT8_STATIC),
)


@dataclass(frozen=True)
class Result:
    """How near the logits of an artefact are to float32's."""

    agreement: float
    sqnr_db: float


def main() -> None:
    """Prints both tables side by side."""
    arguments = _arguments()
    network = read_model(arguments.weights).network
    seen = [network.preprocessing(each.image) for each in _calibration(arguments).samples[:8]]
    models = {
        "as it is": network,
        "with outliers": with_outliers(network),
        "massive registers": with_massive_registers(network, np.stack(seen)),
    }
    found = {name: dict(_results(each, name, arguments)) for name, each in models.items()}
    print(f"{'':28}" + "".join(f"{name:>28}" for name in found))
    for artifact in found["as it is"]:
        cells = (found[name][artifact] for name in found)
        words = (f"{each.agreement:9.1f} % {each.sqnr_db:6.1f} dB" for each in cells)
        print(f"{artifact:28}" + "".join(f"{word:>28}" for word in words))
    for name in list(models)[1:]:
        print(f"{name}:", *_verdicts(found[name]), sep="\n")


def _verdicts(found: dict[str, Result]) -> Iterator[str]:
    """The goals: the stock routes collapse, and our int8 does not."""
    stock = max(found[route].agreement for route in STOCK)
    yield f"best stock route {stock:.1f} %, goal under 60: {_said(stock < _COLLAPSED)}"
    ours = min(
        found[_ours(target, precision)].agreement
        for target, precision in OURS
        if precision is Precision.INT8
    )
    yield f"worst of our int8 {ours:.1f} %, goal over 97: {_said(ours > _KEPT)}"


def _said(reached: bool) -> str:
    return "reached" if reached else "MISSED"


def _ours(target: Format, precision: Precision) -> str:
    return f"ours {precision} {target}"


def _results(
    network: Network, name: str, arguments: argparse.Namespace
) -> Iterator[tuple[str, Result]]:
    folder = arguments.folder / name.replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "model.keras"
    if not source.exists():
        write_keras(network, source)
    calibration = _calibration(arguments)
    validation = open_images(arguments.photos / "validation").samples[: arguments.n]
    pixels = [network.preprocessing.batch([sample.image]) for sample in validation]

    if not (folder / "model.fp32.xml").exists():
        say(f"{name}: ours")
        precisions = (*dict.fromkeys(precision for _, precision in OURS), Precision.FP32)
        convert(
            source,
            ConvertOptions(all_formats(), precisions, folder, force=True),
            calibration=calibration,
            on_refusal=lambda path, why: say(f"{path.name}: {why}"),
        )
    reference = _logits(folder / "model.fp32.xml", Format.OPENVINO, pixels)
    for target, precision in OURS:
        path = folder / f"model.{precision}{target.suffix}"
        if not path.exists():  # refused: converting found it wrong
            yield _ours(target, precision), Result(0.0, float("-inf"))
            continue
        yield _ours(target, precision), _compared(_logits(path, target, pixels), reference)
    photos = [network.preprocessing(sample.image) for sample in calibration.samples]
    bench = Workbench(network, photos, folder, folder / "model.fp32.xml")
    for route in STOCK:
        say(f"{name}: {route}")
        logits = _logits(bench.make(route), ROUTES[route].format, pixels)
        yield route, _compared(logits, reference)


def _calibration(arguments: argparse.Namespace) -> ImageSet:
    found = open_images(arguments.photos / "calibration")
    return ImageSet(found.name, found.samples[: arguments.calibrate_on], found.class_names)


def _logits(
    path: Path, target: Format, pixels: list[npt.NDArray[np.uint8]]
) -> npt.NDArray[np.float32]:
    chosen = target.default_target
    session = runtime_for(chosen).open(path, chosen.device)
    try:
        return np.concatenate([run_batches(session, each) for each in pixels])
    finally:
        session.close()


def _compared(logits: npt.NDArray[np.float32], reference: npt.NDArray[np.float32]) -> Result:
    same = (logits.argmax(axis=1) == reference.argmax(axis=1)).mean()
    signal = np.square(reference.astype(np.float64)).sum()
    error = np.square((logits - reference).astype(np.float64)).sum()
    return Result(float(100 * same), float(10 * np.log10(signal / error)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument(
        "--photos", type=Path, required=True, help="folder of calibration/ and validation/"
    )
    parser.add_argument("--calibrate-on", type=int, help="so many of them [default: all]")
    parser.add_argument("--n", type=int, default=500, help="validation photos")
    parser.add_argument("--folder", type=Path, default=Path("outliers"), help="for the artefacts")
    return parser.parse_args()


if __name__ == "__main__":
    main()
