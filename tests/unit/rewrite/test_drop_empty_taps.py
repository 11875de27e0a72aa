"""Transposed convolutions multiply no zeros, and compute what they did."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract.test_rewrites import TOLERANCE, relative_difference
from tests.unit.importers.lift.test_transposed import decoder
from vitedge.importers import ImportOptions, read_model
from vitedge.network.network import Network
from vitedge.network.operators import Convolution
from vitedge.network.tasks import Task
from vitedge.rewrite.drop_empty_taps import DropEmptyTaps


def read(path: Path, kernel: tuple[int, int], **attributes: object) -> Network:
    options = ImportOptions(task=Task.MAP, mean=(0.0,) * 3, std=(1 / 255,) * 3)
    return read_model(decoder(path, kernel, **attributes), options).network


@pytest.mark.parametrize(
    ("kernel", "attributes", "window"),
    [
        ((4, 4), {"strides": [2, 2], "pads": [1, 1, 1, 1]}, (2, 2)),
        ((4, 6), {"strides": [2, 3], "pads": [1, 1, 1, 2]}, (2, 2)),
        ((5, 5), {"strides": [3, 3], "pads": [1, 1, 1, 1]}, (2, 2)),
    ],
)
def test_phases_share_the_smallest_window(
    tmp_path: Path, kernel: tuple[int, int], attributes: dict[str, object], window: tuple[int, int]
) -> None:
    network = read(tmp_path / "m.onnx", kernel, **attributes)
    rewritten = DropEmptyTaps().apply(network)
    (layer,) = (
        each.operator for each in rewritten.values if isinstance(each.operator, Convolution)
    )
    assert layer.weight.shape[:2] == window
    assert relative_difference(network, rewritten) < TOLERANCE
    assert rewritten.main.shape == network.main.shape


@pytest.mark.parametrize(
    ("kernel", "attributes"),
    [
        ((3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
        ((3, 3), {"strides": [1, 1], "pads": [1, 1, 1, 1]}),
        ((2, 2), {"strides": [2, 2]}),
    ],
)
def test_a_window_without_empty_taps_is_left_alone(
    tmp_path: Path, kernel: tuple[int, int], attributes: dict[str, object]
) -> None:
    network = read(tmp_path / "m.onnx", kernel, **attributes)
    assert DropEmptyTaps().apply(network) is network


def test_a_shown_map_of_phases_is_left_alone(tmp_path: Path) -> None:
    network = read(tmp_path / "m.onnx", (4, 4), strides=[2, 2], pads=[1, 1, 1, 1])
    shown = next(each for each in network.values if isinstance(each.operator, Convolution))
    outputs = {**network.outputs, "phases": shown}
    several = replace(network, outputs=outputs)
    assert DropEmptyTaps().apply(several) is several
