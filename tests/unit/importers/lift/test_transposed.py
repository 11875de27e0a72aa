"""Transposed convolutions, whose windows overlap, as ONNX Runtime computes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from vitedge.errors import NotAViTError
from vitedge.importers import ImportOptions, read_model
from vitedge.importers.lift.transposed import phases_of
from vitedge.network.evaluate import forward
from vitedge.network.operators import Convolution
from vitedge.network.tasks import Task

RNG = np.random.default_rng(7)


def decoder(path: Path, kernel: tuple[int, int], **attributes: object) -> Path:
    """A convolution, attention without layers, a transposed convolution and one more."""
    arrays = {
        "patch": RNG.standard_normal((6, 3, 4, 4)) / 300,
        "up": RNG.standard_normal((6, 5, *kernel)) / 3,
        "bias": RNG.standard_normal(5),
        "last": RNG.standard_normal((1, 5, 1, 1)),
    }
    shapes = {"tokens": [1, 6, 24], "grid": [1, 6, 4, 6]}
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "patch"], ["a"], strides=[4, 4]),
            helper.make_node("Reshape", ["a", "tokens"], ["values"]),
            helper.make_node("Transpose", ["values"], ["queries"], perm=[0, 2, 1]),
            helper.make_node("MatMul", ["queries", "values"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["shares"], axis=-1),
            helper.make_node("MatMul", ["shares", "queries"], ["mixed"]),
            helper.make_node("Transpose", ["mixed"], ["turned"], perm=[0, 2, 1]),
            helper.make_node("Reshape", ["turned", "grid"], ["b"]),
            helper.make_node("ConvTranspose", ["b", "up", "bias"], ["c"], **attributes),
            helper.make_node("Relu", ["c"], ["d"]),
            helper.make_node("Conv", ["d", "last"], ["map"]),
        ],
        "decoder",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 16, 24])],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, [1, 1, None, None])],
        [
            *(numpy_helper.from_array(each.astype(np.float32), n) for n, each in arrays.items()),
            *(numpy_helper.from_array(np.array(each), name) for name, each in shapes.items()),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.mark.parametrize(
    ("kernel", "attributes"),
    [
        ((3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
        ((4, 4), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ((2, 2), {"strides": [2, 2]}),
        ((5, 3), {"strides": [2, 1], "pads": [2, 1, 2, 1], "output_padding": [1, 0]}),
        ((4, 6), {"strides": [2, 3], "pads": [1, 1, 1, 2]}),
        ((3, 3), {"strides": [1, 1], "pads": [1, 1, 1, 1]}),
    ],
)
def test_a_transposed_convolution_computes_what_it_did(
    tmp_path: Path, kernel: tuple[int, int], attributes: dict[str, object]
) -> None:
    path = decoder(tmp_path / "m.onnx", kernel, **attributes)
    options = ImportOptions(task=Task.MAP, mean=(0.0,) * 3, std=(1 / 255,) * 3)
    network = read_model(path, options).network
    pixels = RNG.integers(0, 256, (2, 16, 24, 3)).astype(np.float32)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    expected = np.concatenate(
        [session.run(None, {"image": each[None].transpose(0, 3, 1, 2)})[0] for each in pixels]
    )
    found = forward(network, pixels).reshape(expected.shape)
    assert np.abs(found - expected).max() < 1e-5 * np.ptp(expected)
    convolutions = [each for each in network.values if isinstance(each.operator, Convolution)]
    assert bool(convolutions) == (kernel != (2, 2))


def test_a_result_that_does_not_follow_from_the_strides_is_refused(tmp_path: Path) -> None:
    path = decoder(tmp_path / "m.onnx", (3, 3), strides=[2, 2])
    with pytest.raises(NotAViTError, match="strides"):
        read_model(path, ImportOptions(task=Task.MAP))


def test_phases_take_turns_with_the_taps() -> None:
    phases = phases_of(7, 3, 2, (1, 1), 1)
    assert phases.taps == ((1, -1), (2, 0))
    assert phases.padding == (0, 1)


@pytest.mark.parametrize(
    ("kernel", "strides", "padding"),
    [(4, 4, "valid"), (3, 2, "same")],
)
def test_a_transposed_convolution_of_keras_computes_what_it_did(
    kernel: int, strides: int, padding: str, tmp_path: Path
) -> None:
    import keras

    keras.utils.set_random_seed(0)
    image = keras.Input((16, 24, 3))
    x = keras.layers.Conv2D(6, 4, 4)(image)
    tokens = keras.layers.Reshape((24, 6))(x)
    tokens = keras.layers.Attention()([tokens, tokens])
    x = keras.layers.Reshape((4, 6, 6))(tokens)
    x = keras.layers.Conv2DTranspose(5, kernel, strides, padding, activation="relu")(x)
    model = keras.Model(image, keras.layers.Conv2D(1, 1)(x))
    model.save(tmp_path / "model.keras")
    options = ImportOptions(task=Task.MAP, mean=(0.0,) * 3, std=(1.0,) * 3)
    network = read_model(tmp_path / "model.keras", options).network
    pixels = RNG.integers(0, 256, (2, 16, 24, 3)).astype(np.float32)
    expected = np.asarray(model(pixels / 255))
    found = forward(network, pixels).reshape(expected.shape)
    assert np.abs(found - expected).max() < 1e-5 * np.ptp(expected)
