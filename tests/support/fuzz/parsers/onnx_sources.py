"""ONNX files that are lifted."""

from __future__ import annotations

from random import Random

from tests.support.fuzz.mutate.protobuf import mutate_message
from tests.support.fuzz.mutate.raw import mutate_bytes
from tests.support.fuzz.parser import Parser, from_files, golden
from tests.support.fuzz.parsers.reading import read_source


def mutate_onnx(data: bytes, rng: Random) -> bytes:
    """Changes fields of the model, or bytes."""
    if rng.random() < 0.4:
        return mutate_bytes(data, rng)
    import onnx

    model = onnx.load_from_string(data)
    mutate_message(model, rng)
    return model.SerializeToString()


PARSERS = (
    Parser(
        "onnx", from_files("model.onnx", lambda: golden("lift/*.onnx"), mutate_onnx), read_source
    ),
)
