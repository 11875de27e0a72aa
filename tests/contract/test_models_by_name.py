"""Models of other elements that are read by name, in every format and precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.contract.test_converters_of_networks import integer_recipe, sqnr_db, written
from tests.support.golden_cases import golden_cases
from vitedge.converters.tools import converters, precisions_of
from vitedge.importers import read_model
from vitedge.network.evaluate import forward
from vitedge.quantize import Recipe
from vitedge.rewrite import apply_rewrites
from vitedge.runtimes import run_batches, runtimes
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision, all_precisions

CASES = {case.name: case for case in golden_cases()}
NAMES = (
    *("timm_dinov3_folder", "timm_eva02_clip", "timm_pe_core", "timm_beit"),
    *(
        "timm_swin",
        "hugging_face_swinv2",
        "hugging_face_siglip",
        "hugging_face_beit_shared",
        "hugging_face_clip",
    ),
)

# Of tiny random models of 16 channels; a wrong place or sign leaves 0.
LEAST_SQNR_DB = {
    Precision.FP32: 80.0,
    Precision.FP16: 40.0,
    Precision.INT8: 24.0,
    Precision.INT8_STATIC: 18.0,
    Precision.W8A16: 24.0,
    Precision.INT4: 8.0,
}
PAIRS = sorted({(each.format, which) for each in converters() for which in precisions_of(each)})


@pytest.mark.slow
@pytest.mark.parametrize(("target", "precision"), PAIRS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_it_converts(name: str, target: Format, precision: Precision, tmp_path: Path) -> None:
    case = CASES[name]
    network = read_model(case.model, case.options).network
    pixels, _ = case.expected()
    if precision in (Precision.FP32, Precision.FP16):
        path = written(apply_rewrites(network)[0], Recipe(precision), target, tmp_path)
    else:
        made = integer_recipe(network, precision)
        path = written(made.network, made.recipe, target, tmp_path)
    runtime = next(each for each in runtimes() if each.format is target and "cpu" in each.devices)
    session = runtime.open(path, "cpu", threads=1)
    try:
        found = run_batches(session, pixels)
    finally:
        session.close()
    assert sqnr_db(found, forward(network, pixels)) >= LEAST_SQNR_DB[precision]


@pytest.mark.slow
@pytest.mark.parametrize(("target", "precision"), PAIRS, ids=str)
@pytest.mark.parametrize("name", ["depth_anything", "segformer"])
def test_a_map_converts(name: str, target: Format, precision: Precision, tmp_path: Path) -> None:
    test_it_converts(f"hugging_face_{name}", target, precision, tmp_path)


def test_the_precisions_are_all() -> None:
    assert {precision for _, precision in PAIRS} == set(all_precisions())
    assert np.isfinite(list(LEAST_SQNR_DB.values())).all()
