"""ONNX graphs on pixels ``(1, 8, 8, 3)`` that go wrong in real engines."""

from __future__ import annotations

from pathlib import Path

from vitedge.artifacts.metadata import METADATA_KEY, Metadata, Source
from vitedge.images.preprocess import Preprocessing
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision

_HEADER = '<ir_version: 8, opset_import: ["" : 13]>\n'
_TAKES_AND_GIVES = "(float[1,8,8,3] pixels) => (float[1,3] logits)"
_MEANS = "means = ReduceMean <axes=[1,2], keepdims=0> (pixels)"

NOT_A_NUMBER = f"{_MEANS} negative = Neg (means) logits = Log (negative)"
ALL_ZERO = f"{_MEANS} negative = Neg (means) logits = Relu (negative)"
CONSTANT = f"{_MEANS} zero = Sub (means, means) logits = Exp (zero)"
BEYOND_HALF = (
    "square = Mul (pixels, pixels) cube = Mul (square, pixels)"
    " logits = ReduceMean <axes=[1,2], keepdims=0> (cube)"
)
"""Finite in float32; half precision ends at 65504."""
ERROR_FUNCTION = f"{_MEANS} logits = Erf (means)"
ENDLESS = (
    f"{_MEANS} logits = Loop (trips, go, means) <body = step (int64 i, bool c, float[1,3] x)"
    " => (bool d, float[1,3] y) { d = Identity (c) y = Abs (x) }>"
)


def save_graph(path: Path, body: str) -> Path:
    """Writes a graph in ONNX's text form as a float32 artefact."""
    import onnx

    constants = "<int64 trips = {1000000000000}, bool go = {1}>" if body is ENDLESS else ""
    text = f"{_HEADER}graph {_TAKES_AND_GIVES} {constants} {{ {body} }}"
    model = onnx.parser.parse_model(text)
    metadata = Metadata(
        format=Format.ONNX,
        precision=Precision.FP32,
        labels=("red", "green", "blue"),
        preprocessing=Preprocessing(size=(8, 8)),
        source=Source("by hand", "0" * 64, "by hand"),
    )
    onnx.helper.set_model_props(model, {METADATA_KEY: metadata.to_json()})
    onnx.save(model, str(path))
    return path
