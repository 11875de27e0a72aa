"""ONNX files as torch exports them: they lift, whatever library and exporter they came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.support.plain import plain
from vitedge.elements.kinds import Pooling
from vitedge.errors import ModelError, NotAViTError
from vitedge.importers import ImportOptions
from vitedge.importers.lifted_onnx import PLUGIN
from vitedge.network.evaluate import forward

GOLDEN = Path(__file__).parents[3] / "golden" / "lift"
MODELS = sorted(path.stem for path in GOLDEN.glob("*.onnx"))

# torch and NumPy sum in different orders: 1e-6 of the range after two blocks.
TOLERANCE = 1e-5

# The golden inputs are normal noise, not pixels; with these, `forward` undoes its own scaling.
AS_IT_IS = ImportOptions(mean=(0.0,) * 3, std=(1 / 255,) * 3)

POOLINGS = {
    "timm_averaged_dynamo_one": Pooling.MEAN,
    "timm_distilled_dynamo_free": Pooling.DISTILLED,
    "hugging_face_deit_dynamo_one": Pooling.DISTILLED,
    "hugging_face_dinov2_dynamo_free": Pooling.CLASS_AND_MEAN,
}


@pytest.mark.parametrize("name", MODELS)
def test_an_exported_model_lifts_to_the_same_logits(name: str) -> None:
    path = GOLDEN / f"{name}.onnx"
    assert PLUGIN.recognizes(path)
    imported = PLUGIN.read(path, AS_IT_IS)
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        images, logits = arrays["images"], arrays["logits"]
    found = forward(imported.network, images.transpose(0, 2, 3, 1))
    assert np.abs(found - logits).max() < TOLERANCE * np.ptp(logits)
    assert plain(imported.network).pooling is POOLINGS.get(name, Pooling.CLASS)
    assert imported.path.startswith("lifted: 2 blocks, max logit difference ")


def test_an_input_with_channels_first_is_taken_for_torchs_and_said_so() -> None:
    imported = PLUGIN.read(GOLDEN / "timm_dynamo_free.onnx", ImportOptions())
    assert "assumed: ImageNet's mean and std" in imported.path
    assert imported.network.preprocessing.mean == (0.485, 0.456, 0.406)


def test_the_golden_files_stay_small() -> None:
    assert MODELS
    assert max(path.stat().st_size for path in GOLDEN.iterdir()) < 300_000


def save(path: Path, nodes: list[onnx.NodeProto], *, outputs: int = 1) -> Path:
    """A model of these nodes, from ``image`` to ``y0``, ``y1``, ..."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 8, 8])
    results = [
        helper.make_tensor_value_info(f"y{index}", TensorProto.FLOAT, ["n", 4 + index])
        for index in range(outputs)
    ]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [192, 4], np.ones(768, np.float32))
    graph = helper.make_graph(nodes, "graph", [image], results, [weight])
    opset = helper.make_opsetid("", 18)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
    return path


def test_a_perceptron_is_no_vit(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Flatten", ["image"], ["x"]),
        helper.make_node("MatMul", ["x", "w"], ["y0"]),
    ]
    with pytest.raises(NotAViTError, match="no softmax attention"):
        PLUGIN.read(save(tmp_path / "model.onnx", nodes), ImportOptions())


def test_an_unknown_nonlinear_node_is_named(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Flatten", ["image"], ["x"]),
        helper.make_node("Sin", ["x"], ["s"], name="wave"),
        helper.make_node("MatMul", ["s", "w"], ["y0"]),
    ]
    with pytest.raises(NotAViTError, match=r"node 'wave' \(Sin\)"):
        PLUGIN.read(save(tmp_path / "model.onnx", nodes), ImportOptions())


def test_several_outputs_without_a_name_are_an_error(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Flatten", ["image"], ["x"]),
        helper.make_node("MatMul", ["x", "w"], ["y0"]),
        helper.make_node("Relu", ["y0"], ["y1"]),
    ]
    with pytest.raises(ModelError, match="outputs 'y0', 'y1'; say with --logits"):
        PLUGIN.read(save(tmp_path / "model.onnx", nodes, outputs=2), ImportOptions())


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98])
def test_a_truncated_file_is_one_clear_error(share: float, tmp_path: Path) -> None:
    data = (GOLDEN / "torchvision_script_one.onnx").read_bytes()
    path = tmp_path / "model.onnx"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ModelError) as caught:
        PLUGIN.read(path, ImportOptions())
    assert "\n" not in str(caught.value)


@pytest.mark.thorough
def test_flipped_bytes_give_a_model_or_one_clear_error(tmp_path: Path) -> None:
    data = np.frombuffer((GOLDEN / "torchvision_script_one.onnx").read_bytes(), np.uint8)
    rng, path = np.random.default_rng(0), tmp_path / "model.onnx"
    for _ in range(25):
        changed = data.copy()
        changed[rng.integers(len(data))] ^= np.uint8(1 << rng.integers(8))
        path.write_bytes(changed.tobytes())
        try:
            PLUGIN.read(path, ImportOptions())
        except ModelError as error:
            assert "\n" not in str(error)
