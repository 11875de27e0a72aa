"""Operators of ONNX that are read node by node: what is read computes what ONNX Runtime does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.unit.importers.lift.test_network_form import GOLDEN, insert_before_softmax, runs_as
from vitedge.errors import NotAViTError
from vitedge.importers import read_model
from vitedge.network.kinds import NormKind
from vitedge.network.operators import Norm, Take


def with_nodes(path: Path, nodes: list[onnx.NodeProto], made: str, **constants: np.ndarray) -> Path:
    """A golden model with nodes before its first softmax, whose scores are ``(1, 3, 16, 16)``."""
    model = onnx.load(GOLDEN / "attention_pooling.onnx")
    model.opset_import[0].version = 18  # the first with Col2Im
    for name, values in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    insert_before_softmax(model.graph, nodes, made)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("image", "attributes"),
    [
        ([16, 16], {"strides": [4, 4]}),
        ([8, 8], {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ([4, 8], {"strides": [1, 2], "pads": [1, 1, 2, 1]}),
    ],
    ids=["apart", "overlapping", "oblong"],
)
def test_patches_are_folded_into_an_image(
    image: list[int], attributes: dict[str, list[int]], tmp_path: Path
) -> None:
    make = helper.make_node
    repeats = [1, 1, 16 // image[0], 16 // image[1]]
    nodes = [
        make("Reshape", ["", "patches"], ["cut"]),
        make("Col2Im", ["cut", "folded_size", "block"], ["folded"], **attributes),
        make("Tile", ["folded", "repeats"], ["tiled"]),
    ]
    constants = {
        "patches": np.array([1, 3 * 16, 16]),
        "folded_size": np.array(image),
        "block": np.array([4, 4]),
        "repeats": np.array(repeats),
    }
    network = runs_as(with_nodes(tmp_path / "m.onnx", nodes, "tiled", **constants)).network
    taken = [each for each in network.values if isinstance(each.operator, Take)]
    assert bool(taken) == ("pads" in attributes)


def test_patches_whose_steps_do_not_fill_the_image_are_folded(tmp_path: Path) -> None:
    make = helper.make_node
    nodes = [
        make("Reshape", ["", "patches"], ["cut"]),
        make(
            "Col2Im", ["cut", "folded_size", "block"], ["folded"], strides=[3, 3], pads=[0, 0, 0, 0]
        ),
        make("Slice", ["folded", "starts", "ends"], ["kept"]),
        make("Tile", ["kept", "repeats"], ["tiled"]),
    ]
    constants = {
        "patches": np.array([1, 3 * 16, 16]),
        "folded_size": np.array([13, 13]),
        "block": np.array([4, 4]),
        "starts": np.array([0, 0, 0, 0]),
        "ends": np.array([1, 3, 8, 8]),
        "repeats": np.array([1, 1, 2, 2]),
    }
    runs_as(with_nodes(tmp_path / "m.onnx", nodes, "tiled", **constants))


@pytest.mark.parametrize(("axes", "keep"), [([-1], 1), ([1, 3], 1), ([2, 3], 0), (None, 1)])
def test_the_length_of_vectors_is_read(axes: list[int] | None, keep: int, tmp_path: Path) -> None:
    make = helper.make_node
    inputs = ["scores", "axes"] if axes else ["scores"]
    nodes = [
        make("Identity", [""], ["scores"]),
        make("ReduceL2", inputs, ["lengths"], keepdims=keep),
        make("Reshape", ["lengths", "shape"], ["kept"]),
        make("Sub", ["scores", "kept"], ["less"]),
    ]
    gone = {axis % 4 for axis in axes or range(4)}
    shape = [1 if axis in gone else size for axis, size in enumerate((1, 3, 16, 16))]
    constants = {"shape": np.array(shape)} | ({"axes": np.array(axes)} if axes else {})
    runs_as(with_nodes(tmp_path / "m.onnx", nodes, "less", **constants))


@pytest.mark.parametrize("sizes", [[1, 3, 14, 16], [1, 3, 24, 20]])
def test_a_cubic_resize_is_read(sizes: list[int], tmp_path: Path) -> None:
    # CrossViT makes its second image so.
    make = helper.make_node
    nodes = [
        make("Identity", [""], ["scores"]),
        make("Resize", ["scores", "", "", "sizes"], ["resized"], mode="cubic"),
        make("Tanh", ["resized"], ["bent"]),
        make("Resize", ["bent", "", "", "back"], ["made"], mode="cubic"),
    ]
    constants = {"sizes": np.array(sizes), "back": np.array([1, 3, 16, 16])}
    runs_as(with_nodes(tmp_path / "m.onnx", nodes, "made", **constants))


@pytest.mark.parametrize(("window", "is_read"), [(2, True), (3, False)])
def test_a_pool_that_rounds_up_is_read_where_that_changes_nothing(
    window: int, is_read: bool, tmp_path: Path
) -> None:
    make = helper.make_node
    attributes = {"kernel_shape": [window] * 2, "strides": [2, 2], "ceil_mode": 1}
    nodes = [
        make("Identity", [""], ["scores"]),
        make("AveragePool", ["scores"], ["fewer"], count_include_pad=1, **attributes),
        make("Tile", ["fewer", "repeats"], ["tiled"]),
    ]
    repeats = np.array([1, 1, 2, 2])
    path = with_nodes(tmp_path / "m.onnx", nodes, "tiled", repeats=repeats)
    if is_read:
        runs_as(path)
        return
    with pytest.raises(NotAViTError, match="counts some of the padding"):
        read_model(path)


@pytest.mark.parametrize("operator", ["AveragePool", "MaxPool"])
def test_a_pool_of_tokens_is_read(operator: str, tmp_path: Path) -> None:
    # As NextViT makes fewer keys.
    make = helper.make_node
    nodes = [
        make("Reshape", ["", "lines"], ["tokens"]),
        make(operator, ["tokens"], ["fewer"], kernel_shape=[4], strides=[4]),
        make("Reshape", ["fewer", "grid"], ["small"]),
        make("Tile", ["small", "repeats"], ["tiled"]),
    ]
    constants = {
        "lines": np.array([1, 48, 16]),
        "grid": np.array([1, 3, 16, 4]),
        "repeats": np.array([1, 1, 1, 4]),
    }
    runs_as(with_nodes(tmp_path / "m.onnx", nodes, "tiled", **constants))


@pytest.mark.parametrize(
    ("operator", "inputs", "attributes"),
    [
        ("Clip", ["scores", "low"], {}),
        ("Clip", ["scores", "", "high"], {}),
        ("Clip", ["scores", "low", "high"], {}),
        ("HardSigmoid", ["scores"], {"alpha": 1 / 6, "beta": 0.5}),
        ("HardSigmoid", ["scores"], {}),
    ],
)
def test_a_line_with_two_bends_is_read(
    operator: str, inputs: list[str], attributes: dict[str, float], tmp_path: Path
) -> None:
    make = helper.make_node
    nodes = [
        make("Identity", [""], ["scores"]),
        make(operator, inputs, ["bent"], **attributes),
        make("Sub", ["bent", "scores"], ["made"]),
    ]
    constants = {"low": np.array(-0.25, np.float32), "high": np.array(0.5, np.float32)}
    runs_as(with_nodes(tmp_path / "m.onnx", nodes, "made", **constants))


def test_unit_vectors_that_are_weighted_and_added_are_read_as_a_norm(tmp_path: Path) -> None:
    # transformers' SwiftFormer weights them by a softmax over one place, which changes nothing.
    make = helper.make_node
    nodes = [
        make("Identity", [""], ["scores"]),
        make("ReduceL2", ["scores", "last"], ["lengths"], "length", keepdims=1),
        make("Clip", ["lengths", "least"], ["clipped"]),
        make("Div", ["scores", "clipped"], ["unit"]),
        make("ReduceMean", ["unit", "last"], ["mean"], keepdims=1),
        make("Softmax", ["mean"], ["share"], axis=-1),
        make("Mul", ["share", "unit"], ["weighted"]),
        make("Add", ["weighted", "unit"], ["twice"]),
    ]
    constants = {"last": np.array([-1]), "least": np.array(1e-12, np.float32)}
    network = runs_as(with_nodes(tmp_path / "m.onnx", nodes, "twice", **constants)).network
    norms = [each.operator for each in network.values if isinstance(each.operator, Norm)]
    assert NormKind.RMS in {each.kind for each in norms}


def test_a_wide_norm_that_leaves_one_number_alone_is_recognised(tmp_path: Path) -> None:
    # Of 2304 numbers the probe's first change moves mean and deviation so that one stays.
    make, width = helper.make_node, 2304
    rng = np.random.default_rng(0)
    model = onnx.load(GOLDEN / "attention_pooling.onnx")
    head = model.graph.node[-1]
    assert head.op_type == "Gemm"
    before = head.input[0]
    features = next(each for each in model.graph.initializer if each.name == head.input[1]).dims[1]
    wide = rng.standard_normal((features, width)).astype(np.float32)
    narrow = rng.standard_normal((width, features)).astype(np.float32) / width
    for name, values in {
        "wide": wide,
        "narrow": narrow,
        "gamma": np.ones(width, np.float32),
        "beta": np.zeros(width, np.float32),
    }.items():
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    for node in (
        make("MatMul", [before, "wide"], ["widened"]),
        make("LayerNormalization", ["widened", "gamma", "beta"], ["normed"], epsilon=1e-6),
        make("MatMul", ["normed", "narrow"], ["narrowed"]),
    ):
        model.graph.node.insert(len(model.graph.node) - 1, node)
    head.input[0] = "narrowed"
    onnx.save(model, tmp_path / "m.onnx")
    network = runs_as(tmp_path / "m.onnx").network
    widths = [len(e.operator.gamma) for e in network.values if isinstance(e.operator, Norm)]
    assert width in widths


def test_a_mask_of_minus_infinity_hides_keys(tmp_path: Path) -> None:
    # It was refused as weights that a diverged training had made.
    seen = np.random.default_rng(0).random((16, 16)) > 0.3
    seen[:, 0] = True
    nodes = [
        helper.make_node("Identity", [""], ["scores"]),
        helper.make_node("Where", ["seen", "nothing", "infinity"], ["mask"]),
        helper.make_node("Add", ["scores", "mask"], ["masked"]),
    ]
    constants = {"nothing": np.float32(0), "infinity": np.float32(-np.inf), "seen": seen}
    path = with_nodes(tmp_path / "m.onnx", nodes, "masked", **constants)
    arrays = dict(runs_as(path).network.named_arrays())
    assert all(np.isfinite(array).all() for array in arrays.values())


def test_a_constant_that_is_cast_like_the_scores_is_a_constant(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Identity", [""], ["scores"]),
        helper.make_node("Shape", ["scores"], ["shape"]),
        helper.make_node("ReduceMax", ["shape"], ["size"], keepdims=0),
        helper.make_node("CastLike", ["size", "scores"], ["number"]),
        helper.make_node("Sqrt", ["number"], ["root"]),
        helper.make_node("Div", ["scores", "root"], ["scaled"]),
    ]
    runs_as(with_nodes(tmp_path / "m.onnx", nodes, "scaled"))


def test_an_attention_that_is_not_read_says_why(tmp_path: Path) -> None:
    model = onnx.load(GOLDEN / "attention_pooling.onnx")
    model.opset_import[0].version = 23
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    scores = softmax.input[0]
    node = helper.make_node("Attention", [scores] * 3, ["attended"], is_causal=1)
    insert_before_softmax(model.graph, [node], "attended")
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(NotAViTError, match=r"\(Attention\) has a causal or computed mask"):
        read_model(tmp_path / "m.onnx")
