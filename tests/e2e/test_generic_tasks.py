"""Models that do not lift, and whose outputs are no classes: the formats' own tools take them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import vitedge
from vitedge.errors import ModelError
from vitedge.importers import ImportOptions
from vitedge.network.tasks import Task
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision

SIZE = 24


def dense_onnx(path: Path, channels: int) -> Path:
    """Maps of half the size, channels first, as PyTorch exports them."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.normal(size=(8, 3, 3, 3)).astype(np.float32) * 0.2,
        "w2": rng.normal(size=(channels, 8, 1, 1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("HardSwish", ["c1"], ["h"]),
        helper.make_node("Conv", ["h", "w2"], ["c2"]),
        helper.make_node("Sigmoid", ["c2"], ["depth"]),
    ]
    shapes = {"image": [1, 3, SIZE, SIZE], "depth": [1, channels, SIZE // 2, SIZE // 2]}
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    ]
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "dense", ports[:1], ports[1:], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def options_of(folder: Path, *formats: Format, task: Task | None = Task.MAP) -> ConvertOptions:
    importing = ImportOptions(task=task, mean=(0, 0, 0), std=(1, 1, 1))
    return ConvertOptions(formats, (Precision.FP32,), folder, importing=importing)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_map_of_channels_first_comes_back_with_channels_last(
    channels: int, tmp_path: Path
) -> None:
    source = dense_onnx(tmp_path / "dense.onnx", channels)
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    session = onnxruntime.InferenceSession(source)
    expected = np.concatenate(
        [
            session.run(None, {"image": (image[None] / np.float32(255)).transpose(0, 3, 1, 2)})[0]
            for image in images
        ]
    ).transpose(0, 2, 3, 1)
    options = options_of(tmp_path / "out", Format.ONNX, Format.OPENVINO)
    for written in convert(source, options):
        assert written.metadata.task is Task.MAP
        with vitedge.load(written.path) as model:
            assert isinstance(model, vitedge.Mapper)
            found = model.raw(list(images))
            wanted = expected if channels > 1 else expected[..., 0]
            # The sigmoid stays: it is part of the map's values.
            np.testing.assert_allclose(found, wanted, atol=1e-5)
            assert model.predict(images[0]).shape == (SIZE, SIZE, *found.shape[3:])


def test_a_map_that_nobody_named_is_refused_with_the_choices(tmp_path: Path) -> None:
    source = dense_onnx(tmp_path / "dense.onnx", 1)
    options = options_of(tmp_path / "out", Format.ONNX, task=None)
    with pytest.raises(ModelError, match=r"12 x 12 numbers.*--task embedding.*--task map"):
        convert(source, options)
    assert not (tmp_path / "out").exists()
