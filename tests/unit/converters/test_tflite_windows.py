"""A wide depthwise window is the sum of windows that XNNPACK has kernels for, in TFLite."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.support.bench_artifacts import metadata
from vitedge.converters.tflite.emitter import TFLiteEmitter
from vitedge.converters.tflite.operators import read_operators
from vitedge.converters.tflite.window_parts import MOST_TAPS, window_parts
from vitedge.images.preprocess import Preprocessing
from vitedge.network.evaluate import evaluate
from vitedge.network.network import Builder, Network
from vitedge.network.operators import Convolution, Pixels
from vitedge.quantize import Recipe
from vitedge.runtimes.litert import LiteRTSession
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision

SIZE, CHANNELS = (13, 18), 3


@dataclass(frozen=True)
class Case:
    """A depthwise convolution, and how many operators it becomes."""

    window: tuple[int, int]
    parts: int
    strides: tuple[int, int] = (1, 1)
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    outputs: int = CHANNELS


CASES = {
    "5x5 is one": Case((5, 5), 1, padding=((2, 2), (2, 2))),
    "7x7": Case((7, 7), 3, padding=((3, 3), (3, 3))),
    "7x7 of a margin": Case((7, 7), 3, (2, 3), ((3, 1), (0, 2)), 2 * CHANNELS),
    "9x9": Case((9, 9), 4, (2, 2), ((4, 4), (4, 4))),
    "2x13": Case((2, 13), 2),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8])
def test_the_parts_of_a_window_add_up_to_it(
    case: Case, precision: Precision, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((*case.window, 1, case.outputs)).astype(np.float32)
    bias = rng.standard_normal(case.outputs).astype(np.float32)
    layer = Convolution(weight, bias, case.strides, case.padding, CHANNELS)
    net = Builder()
    image = net("conv", layer, net("pixels", Pixels(*SIZE, CHANNELS)))
    network = net.network({"map": image}, Preprocessing(size=SIZE, channels=CHANNELS))
    path = tmp_path / "windows.tflite"
    _write(path, network, Recipe(precision))

    kinds = [each.name for each in read_operators(path)]
    assert kinds.count("DEPTHWISE_CONV_2D") == case.parts

    pixels = rng.integers(0, 256, (2, *SIZE, CHANNELS)).astype(np.uint8)
    session = LiteRTSession(path, 1)
    found = session.run(pixels)
    session.close()
    wanted = evaluate(network, pixels)["map"]
    # Float32 sums in another order; weights of int8 files are stored in half precision.
    error = 1e-5 if precision is Precision.FP32 else 2e-3
    assert np.abs(found.reshape(wanted.shape) - wanted).max() < error * np.abs(wanted).max()


@pytest.mark.parametrize("rows", range(1, 16))
def test_parts_cover_each_tap_once_in_whole_rows_where_that_takes_no_more(rows: int) -> None:
    for columns in range(1, 16):
        seen = np.zeros((rows, columns), int)
        parts = list(window_parts(rows, columns))
        for part in parts:
            assert part.height * part.width <= MOST_TAPS
            seen[part.top : part.top + part.height, part.left : part.left + part.width] += 1
        assert (seen == 1).all()
        if rows == columns == 7:
            assert all(part.width == 7 for part in parts)


def _write(path: Path, network: Network, recipe: Recipe) -> None:
    emitter = TFLiteEmitter(network, recipe, 2)
    described = metadata(Format.TFLITE, recipe.precision)
    path.write_bytes(emitter.model.to_bytes(emitter.emit(), "windows", described))
