"""What converting keeps in memory."""

from __future__ import annotations

import gc
from pathlib import Path

from tests.support.models import random_network
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.pipeline.keras_model import write_keras
from vitedge.pipeline.open_model import OpenModel
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision


def test_the_model_as_it_was_read_is_let_go_of_before_artefacts_are_made(tmp_path: Path) -> None:
    source = tmp_path / "model.keras"
    write_keras(random_network(), source)
    kept: dict[str, bool] = {}

    def look(stage: str, *_: object) -> None:
        if stage not in kept:
            kept[stage] = any(type(each) is OpenModel for each in gc.get_objects())

    convert(source, ConvertOptions((Format.TFLITE,), (Precision.INT8,), tmp_path), progress=look)
    assert kept["reading the model"]
    assert not kept["writing model.int8.tflite"]
    assert not kept["calibrating on synthetic images"]
