"""Tools that quantize TFLite files refuse two tensors of one name."""

from __future__ import annotations

import numpy as np

from vitedge.converters.tflite.model import TFLiteModel


def test_tensors_of_one_name_are_told_apart() -> None:
    model = TFLiteModel()
    x = model.input("pixels", (1, 4))
    one = model.constant("one", np.ones(4, np.float32))
    also = model.constant("one", np.ones(4, np.float32))
    options = {"table": "AddOptions"}
    for by in (one, also):
        x = model.operator("ADD", [x, by], (1, 4), name="sum", options=options)
    names = [each.name.decode() for each in model._tensors]
    assert names == ["pixels", "one", "one/2", "sum", "sum/2"]
