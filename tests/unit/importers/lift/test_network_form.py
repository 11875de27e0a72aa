"""Models that are no plain vision transformers, read node by node."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.support import generic_models
from vitedge.errors import NotAViTError
from vitedge.images.preprocess import IMAGENET_MEAN, IMAGENET_STD
from vitedge.importers import Imported, ImportOptions, read_model
from vitedge.network.evaluate import forward
from vitedge.network.operators import Convolution, Linear, Norm, Pool, Product, Resize
from vitedge.network.structure import attentions
from vitedge.network.tasks import Task
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.targets.formats import all_formats
from vitedge.targets.precisions import Precision, all_precisions

GOLDEN = Path(__file__).parents[3] / "golden" / "lift_networks"

# Float sums in another order, of the range of the logits.
TOLERANCE = 1e-5

ATTENTIONS = {
    "attention_pooling": 2,
    "convolutional_stem": 3,
    "cosine_windows": 2,
    "gated_positions": 1,
    "linear_attention": 0,
    "rope_and_swiglu": 2,
    "windows": 3,
}


def assert_same(imported: Imported, pixels: np.ndarray, logits: np.ndarray) -> None:
    found = forward(imported.network, pixels)
    assert np.abs(found - logits).max() <= TOLERANCE * np.ptp(logits)


@pytest.mark.parametrize(("name", "count"), ATTENTIONS.items())
def test_a_golden_network_computes_what_torch_did(name: str, count: int) -> None:
    imported = read_model(GOLDEN / f"{name}.onnx")
    assert imported.path.startswith("lifted")
    assert len(attentions(imported.network)) == count
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        images = arrays["images"].transpose(0, 2, 3, 1)
        pixels = 255 * (images * np.float32(IMAGENET_STD) + np.float32(IMAGENET_MEAN))
        assert_same(imported, pixels, arrays["logits"])


def test_layers_have_names_and_constants_are_inside_of_them() -> None:
    network = read_model(GOLDEN / "rope_and_swiglu.onnx").network
    names = {name for name, _ in network.named_linears()}
    block = {f"blocks.0.{part}" for part in ("q", "k", "v", "out", "gate", "up", "down")}
    assert {"patch", "head", *block} <= names
    biased = {name for name, layer in network.named_linears() if layer.bias.any()}
    assert names - biased <= {"blocks.0.k", "blocks.1.k"}  # which EVA-02 gives none


def test_batch_norm_of_a_stem_is_inside_of_its_convolutions() -> None:
    network = read_model(GOLDEN / "convolutional_stem.onnx").network
    layers = [each for each in network.values if isinstance(each.operator, Convolution)]
    assert len(layers) == 4
    assert not any(isinstance(each.operator, Norm) for each in network.values)
    assert all(each.operator.bias.any() for each in layers)


QUOTIENTS = ("gated_positions", "linear_attention")
"""Models that divide a value by another, which has no integer form."""


@pytest.mark.slow
@pytest.mark.parametrize("name", [each for each in ATTENTIONS if each not in QUOTIENTS])
def test_a_golden_network_converts_in_all_precisions(name: str, tmp_path: Path) -> None:
    refused: list[str] = []
    written = convert(
        GOLDEN / f"{name}.onnx",
        ConvertOptions(precisions=all_precisions(), output=tmp_path),
        on_refusal=lambda path, _: refused.append(path.name),
    )
    assert sorted(refused) == [f"{name}.int8-static.xml", f"{name}.w8a16.xml"]
    assert len(written) == 16


@pytest.mark.slow
@pytest.mark.parametrize("name", QUOTIENTS)
def test_a_quotient_converts_to_every_format_with_float_units(name: str, tmp_path: Path) -> None:
    precisions = (Precision.FP32, Precision.FP16, Precision.INT8, Precision.INT4)
    options = ConvertOptions(precisions=precisions, output=tmp_path)
    assert len(convert(GOLDEN / f"{name}.onnx", options)) == len(precisions) * len(all_formats())


@pytest.mark.parametrize("file", ["model.keras", "model.h5", "saved_model"])
def test_the_example_of_keras_io_lifts_whole_in_every_saved_form(file: str, tmp_path: Path) -> None:
    model = generic_models.build("keras_io_example")
    path = tmp_path / file
    if path.suffix:
        model.save(path)
    else:
        model.export(path, verbose=False)
    options = ImportOptions(custom_objects=generic_models.CUSTOM_OBJECTS)
    imported = read_model(path, options)
    assert imported.path.startswith("lifted: 2 attentions")
    assert "normalises inside" in imported.path
    kinds = [type(each.operator) for each in imported.network.values]
    assert kinds.count(Resize) == 1
    assert kinds.count(Linear) == 1 + 2 * 6 + 3
    pixels = generic_models.pixels()
    logits = np.asarray(model(pixels.astype(np.float32), training=False))
    assert_same(imported, pixels, logits)


@pytest.mark.parametrize("name", ["swin", "mobilevit"])
def test_windows_and_hybrids_of_keras_lift(name: str, tmp_path: Path) -> None:
    model = generic_models.build(name)
    model.save(tmp_path / "model.keras")
    options = ImportOptions(custom_objects=generic_models.CUSTOM_OBJECTS)
    imported = read_model(tmp_path / "model.keras", options)
    pixels = generic_models.pixels()
    factor = 1 / 255 if name == "mobilevit" else 1.0
    logits = np.asarray(model(pixels.astype(np.float32) * factor, training=False))
    assert_same(imported, pixels, logits)
    assert any(isinstance(each.operator, Product) for each in imported.network.values)


def changed(name: str, path: Path, change) -> Path:
    model = onnx.load(GOLDEN / f"{name}.onnx")
    change(model.graph)
    onnx.save(model, path)
    return path


def test_an_operator_that_nobody_has_is_refused_by_its_name_and_type(tmp_path: Path) -> None:
    def with_sine(graph: onnx.GraphProto) -> None:
        node = next(each for each in graph.node if each.op_type == "Softmax")
        node.op_type, node.name = "Sin", "wave"
        del node.attribute[:]

    path = changed("attention_pooling", tmp_path / "model.onnx", with_sine)
    with pytest.raises(NotAViTError, match=r"node 'wave' \(Sin\)"):
        read_model(path)


def test_a_constant_that_is_drawn_at_random_is_refused(tmp_path: Path) -> None:
    def with_noise(graph: onnx.GraphProto) -> None:
        place, node = next((i, n) for i, n in enumerate(graph.node) if n.op_type == "Softmax")
        drawn = onnx.helper.make_node(
            "RandomNormal", [], ["drawn"], "dice", shape=[1], seed=1.0, dtype=1
        )
        read = node.input[0]
        added = onnx.helper.make_node("Add", [read, "drawn"], ["noisy"], "noise")
        node.input[0] = "noisy"
        graph.node.insert(place, added)
        graph.node.insert(place, drawn)

    path = changed("attention_pooling", tmp_path / "model.onnx", with_noise)
    with pytest.raises(NotAViTError, match=r"node 'dice' \(RandomNormal\) draws random numbers"):
        read_model(path)


@pytest.mark.parametrize("name", ["timm_dynamo_free", "hugging_face_vit_script_free"])
def test_one_zero_in_the_weights_of_a_norm_does_not_stop_lifting(name: str, tmp_path: Path) -> None:
    model = onnx.load(GOLDEN.parent / "lift" / f"{name}.onnx")
    gamma = next(
        each
        for node in model.graph.node
        if node.op_type == "LayerNormalization"
        for each in model.graph.initializer
        if each.name == node.input[1]
    )
    values = onnx.numpy_helper.to_array(gamma).copy()
    values[7] = 0
    gamma.CopyFrom(onnx.numpy_helper.from_array(values, gamma.name))
    onnx.save(model, tmp_path / "model.onnx")
    imported = read_model(tmp_path / "model.onnx")
    assert imported.path.startswith("lifted: 2 blocks")


def test_tokens_lift_as_tokens_and_not_as_a_dense_layer(tmp_path: Path) -> None:
    model = onnx.load(GOLDEN.parent / "lift" / "timm_dynamo_free.onnx")
    norms = [each for each in model.graph.node if each.op_type == "LayerNormalization"]
    del model.graph.output[:]
    tokens = onnx.helper.make_tensor_value_info(norms[-1].output[0], 1, ["n", 17, 24])
    model.graph.output.append(tokens)
    onnx.save(model, tmp_path / "model.onnx")
    network = read_model(tmp_path / "model.onnx", ImportOptions(task=Task.EMBEDDING)).network
    assert {name: each.shape for name, each in network.outputs.items()} == {"embedding": (17, 24)}
    assert network.parameters < 20_000


def insert_before_softmax(graph: onnx.GraphProto, nodes: list[onnx.NodeProto], made: str) -> None:
    place, softmax = next((i, n) for i, n in enumerate(graph.node) if n.op_type == "Softmax")
    nodes[0].input[0] = softmax.input[0]
    softmax.input[0] = made
    for node in reversed(nodes):
        graph.node.insert(place, node)


def runs_as(path: Path, options: ImportOptions | None = None) -> Imported:
    """What was read, which computes what ONNX Runtime does of ImageNet's pixels."""
    imported = read_model(path, options)
    network = imported.network
    pixels = np.random.default_rng(0).integers(0, 256, (1, *network.image_shape), np.uint8)
    scaled = pixels.astype(np.float32) / np.float32(255)
    images = (scaled - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    logits = session.run(None, {session.get_inputs()[0].name: images.transpose(0, 3, 1, 2)})[0]
    assert_same(imported, pixels, logits)
    return imported


def test_group_norm_as_torch_spells_it_lifts(tmp_path: Path) -> None:
    def with_group_norm(graph: onnx.GraphProto) -> None:
        make = onnx.helper.make_node
        constants = {"rows": np.array([1, 3, 256]), "back": np.array([1, 3, 16, 16])}
        vectors = {"factor": np.float32([0.5, 1, 2]), "term": np.float32([1, 0, -1])}
        for name, values in (constants | vectors).items():
            graph.initializer.append(onnx.numpy_helper.from_array(values, name))
        nodes = [
            make("Reshape", ["", "rows"], ["cut"]),
            make("InstanceNormalization", ["cut", "factor", "term"], ["normed"], epsilon=1e-3),
            make("Reshape", ["normed", "back"], ["whole"]),
        ]
        insert_before_softmax(graph, nodes, "whole")

    runs_as(changed("attention_pooling", tmp_path / "model.onnx", with_group_norm))


def test_a_model_that_normalises_what_the_caller_normalised_is_read_with_both(
    tmp_path: Path,
) -> None:
    def with_own_arithmetic(graph: onnx.GraphProto) -> None:
        make = onnx.helper.make_node
        for name, value in {"shift": 0.25, "slope": 2.0}.items():
            made = onnx.numpy_helper.from_array(np.full((1, 3, 1, 1), value, np.float32), name)
            graph.initializer.append(made)
        (image,) = graph.input
        for node in graph.node:
            node.input[:] = ["own" if each == image.name else each for each in node.input]
        graph.node.insert(0, make("Mul", ["shifted", "slope"], ["own"]))
        graph.node.insert(0, make("Sub", [image.name, "shift"], ["shifted"]))

    path = changed("attention_pooling", tmp_path / "model.onnx", with_own_arithmetic)
    runs_as(path, ImportOptions(mean=IMAGENET_MEAN, std=IMAGENET_STD))


def test_a_constant_that_a_branch_makes_of_outer_constants_is_read(tmp_path: Path) -> None:
    def with_branch(graph: onnx.GraphProto) -> None:
        make = onnx.helper.make_node
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "yes"))
        graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0.5), "half"))
        result = onnx.helper.make_tensor_value_info("twice", 1, [])
        branches = {
            f"{name}_branch": onnx.helper.make_graph(
                [make("Add", ["outer", "outer"], ["twice"])], name, [], [result]
            )
            for name in ("then", "else")
        }
        nodes = [
            make("Add", ["", "chosen"], ["shifted"]),
            make("If", ["yes"], ["chosen"], **branches),
            make("Identity", ["half"], ["outer"]),
        ]
        place, softmax = next((i, n) for i, n in enumerate(graph.node) if n.op_type == "Softmax")
        nodes[0].input[0] = softmax.input[0]
        softmax.input[0] = "shifted"
        for node in nodes:
            graph.node.insert(place, node)

    runs_as(changed("attention_pooling", tmp_path / "model.onnx", with_branch))


@pytest.mark.parametrize(
    ("rows", "columns"),
    [(slice(1, None), slice(1, None)), (slice(0, 2), slice(3, 9)), (slice(None), slice(4, 5))],
    ids=["as MViTv2", "corner", "column"],
)
def test_numbers_put_into_a_slice_are_read(rows: slice, columns: slice, tmp_path: Path) -> None:
    def with_placed(graph: onnx.GraphProto) -> None:
        make = onnx.helper.make_node
        every = np.indices((1, 3, 16, 16)).transpose(1, 2, 3, 4, 0)
        (top, bottom, _), (left, right, _) = rows.indices(16), columns.indices(16)
        constants = {
            "places": np.ascontiguousarray(every[:, :, rows, columns]),
            "starts": np.array([top, left]),
            "ends": np.array([bottom, right]),
            "axes": np.array([2, 3]),
            "half": np.array(0.5, np.float32),
        }
        for name, values in constants.items():
            graph.initializer.append(onnx.numpy_helper.from_array(values, name))
        nodes = [
            make("Identity", [""], ["scores"]),
            make("Slice", ["scores", "starts", "ends", "axes"], ["part"]),
            make("Mul", ["part", "half"], ["smaller"]),
            make("ScatterND", ["scores", "places", "smaller"], ["placed"]),
        ]
        insert_before_softmax(graph, nodes, "placed")

    runs_as(changed("attention_pooling", tmp_path / "model.onnx", with_placed))


def test_numbers_put_anywhere_else_are_refused(tmp_path: Path) -> None:
    def with_scattered(graph: onnx.GraphProto) -> None:
        make = onnx.helper.make_node
        constants = {
            "places": np.array([[0, 0, 3, 2], [0, 1, 4, 5]]),
            "numbers": np.float32([1, 2]),
        }
        for name, values in constants.items():
            graph.initializer.append(onnx.numpy_helper.from_array(values, name))
        nodes = [make("ScatterND", ["", "places", "numbers"], ["placed"])]
        insert_before_softmax(graph, nodes, "placed")

    path = changed("attention_pooling", tmp_path / "model.onnx", with_scattered)
    with pytest.raises(NotAViTError, match="not those of a slice"):
        read_model(path)


@pytest.mark.parametrize("operator", ["Conv", "AveragePool", "MaxPool"])
def test_heads_in_the_place_of_a_batch_are_convolved_each_by_itself(
    operator: str, tmp_path: Path
) -> None:
    def with_convolved_heads(graph: onnx.GraphProto) -> None:
        make = onnx.helper.make_node
        kernel = np.random.default_rng(0).normal(size=(1, 1, 3, 3)).astype(np.float32)
        graph.initializer.append(onnx.numpy_helper.from_array(kernel, "kernel"))
        inputs = ["heads", "kernel"] if operator == "Conv" else ["heads"]
        window = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        nodes = [
            make("Transpose", [""], ["heads"], perm=[1, 0, 2, 3]),
            make(operator, inputs, ["slid"], **window),
            make("Transpose", ["slid"], ["back"], perm=[1, 0, 2, 3]),
        ]
        insert_before_softmax(graph, nodes, "back")

    runs_as(changed("attention_pooling", tmp_path / "model.onnx", with_convolved_heads))


@pytest.mark.parametrize(("operator", "edge"), [("Conv", 0.0), ("MaxPool", -np.inf)])
def test_padding_before_a_window_goes_into_it(operator: str, edge: float, tmp_path: Path) -> None:
    # As TensorFlow's "same" padding becomes in timm; infinity is no number of an artefact.
    def with_padded(graph: onnx.GraphProto) -> None:
        make = onnx.helper.make_node
        constants = {
            "kernel": np.random.default_rng(0).normal(size=(1, 1, 3, 3)).astype(np.float32),
            "pads": np.array([0, 0, 1, 0, 0, 0, 1, 2]),
            "edge": np.array(edge, np.float32),
        }
        for name, values in constants.items():
            graph.initializer.append(onnx.numpy_helper.from_array(values, name))
        inputs = ["padded", "kernel"] if operator == "Conv" else ["padded"]
        nodes = [
            make("Transpose", [""], ["heads"], perm=[1, 0, 2, 3]),
            make("Pad", ["heads", "pads", "edge"], ["padded"]),
            make(operator, inputs, ["slid"], kernel_shape=[3, 3]),
            make("Transpose", ["slid"], ["back"], perm=[1, 0, 2, 3]),
        ]
        insert_before_softmax(graph, nodes, "back")

    network = runs_as(changed("attention_pooling", tmp_path / "model.onnx", with_padded)).network
    kinds = (Convolution, Pool)
    windows = [each.operator for each in network.values if isinstance(each.operator, kinds)]
    assert ((1, 1), (0, 2)) in [each.padding for each in windows]


@pytest.mark.parametrize("axes", [[3], [1, -1], [2]])
def test_the_largest_of_an_axis_is_read(axes: list[int], tmp_path: Path) -> None:
    # As Hiera and MViT pool their queries.
    def with_largest(graph: onnx.GraphProto) -> None:
        make = onnx.helper.make_node
        nodes = [
            make("Identity", [""], ["scores"]),
            make("ReduceMax", ["scores"], ["largest"], axes=axes),
            make("Sub", ["scores", "largest"], ["less"]),
        ]
        insert_before_softmax(graph, nodes, "less")

    runs_as(changed("attention_pooling", tmp_path / "model.onnx", with_largest))
