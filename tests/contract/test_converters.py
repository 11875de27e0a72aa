"""What every converter promises, run through every converter by its own runtime."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.models import random_images, random_network, random_vit
from vitedge.artifacts.contents import Operator
from vitedge.artifacts.metadata import Metadata, Parity, Source, read_metadata
from vitedge.converters.converter import Converter
from vitedge.converters.tools import converter_for, converters, precisions_of
from vitedge.elements.kinds import NormPosition, Pooling
from vitedge.elements.vision_transformer import network_of
from vitedge.errors import ConversionError
from vitedge.inspection.operators import read_operators
from vitedge.network.evaluate import forward
from vitedge.network.kinds import Activation, NormKind
from vitedge.network.network import Network
from vitedge.network.operators import Linear
from vitedge.quantize import Activations, Range
from vitedge.quantize.calibrate import calibrate
from vitedge.quantize.ranges import divides_by_largest
from vitedge.quantize.recipe import Quantized, quantize
from vitedge.quantize.simulate import simulate
from vitedge.rewrite import apply_rewrites
from vitedge.rewrite.learnt_grid import Groups
from vitedge.runtimes import run_batches, runtimes
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.precisions import Precision, all_precisions


@dataclass(frozen=True)
class Case:
    id: str
    model: dict[str, Any] = field(default_factory=dict)
    batch: int = 1


CASES = [
    Case("class token"),
    Case("class token, batch of 3", batch=3),
    Case("class token, all queries", {"depth": 1}),
    Case(
        "distilled, post-norm, quick GELU",
        {
            "pooling": Pooling.DISTILLED,
            "prefix_tokens": 2,
            "norm_position": NormPosition.POST,
            "activation": Activation.QUICK_GELU,
        },
    ),
    Case(
        "mean pooling, registers, q/k norm",
        {"pooling": Pooling.MEAN, "prefix_tokens": 3, "qk_norm": True, "pooled_norm": True},
        batch=2,
    ),
    Case(
        "class and mean, tanh GELU",
        {"pooling": Pooling.CLASS_AND_MEAN, "activation": Activation.GELU_TANH},
    ),
    Case(
        "flatten, RMSNorm, hidden head, no prefix",
        {
            "pooling": Pooling.FLATTEN,
            "prefix_tokens": 0,
            "norm_kind": NormKind.RMS,
            "input_norm": True,
            "head_hidden": (16,),
        },
    ),
    Case(
        "grey, oblong, SiLU",
        {
            "channels": 1,
            "image_size": (8, 12),
            "patch_size": (2, 3),
            "activation": Activation.SILU,
        },
    ),
    Case("ReLU", {"activation": Activation.RELU, "heads": 2, "head_dim": 12}),
]

# What a model of two blocks, pooled by its mean, has: operator, position of the weight, its type,
# how many. int8 keeps the head in float (it sees one token), and stores it in half. q, k and v are
# one product; attention has two products of its own a block.
EXPECTED_WEIGHTS = {
    (Format.TFLITE, Precision.FP32): [("FULLY_CONNECTED", 1, "float32", 9)],
    (Format.ONNX, Precision.FP32): [("Gemm", 1, "float32", 10)],
    (Format.OPENVINO, Precision.FP32): [("MatMul", 1, "float32", 10 + 4)],
    (Format.TFLITE, Precision.FP16): [("DEQUANTIZE", 0, "float16", 10)],
    (Format.ONNX, Precision.FP16): [("Cast", 0, "float16", 10)],
    (Format.OPENVINO, Precision.FP16): [("Convert", 0, "float16", 10)],
    (Format.TFLITE, Precision.INT8): [
        ("FULLY_CONNECTED", 1, "int8", 9),
        ("DEQUANTIZE", 0, "float16", 1),
    ],
    (Format.ONNX, Precision.INT8): [
        ("MatMulInteger", 1, "int8", 8),
        ("Cast", 0, "float16", 1),
    ],
    (Format.TFLITE, Precision.INT8_STATIC): [
        ("FULLY_CONNECTED", 1, "int8", 13),
        ("FULLY_CONNECTED", 0, "int8", 12),
        ("FULLY_CONNECTED", 0, "int16", 1),
        ("CONV_2D", 0, "int16", 1),
        ("BATCH_MATMUL", 0, "int8", 6),
        ("RSQRT", 0, "int16", 5),
    ],
    (Format.TFLITE, Precision.W8A16): [
        ("FULLY_CONNECTED", 1, "int8", 13),
        ("FULLY_CONNECTED", 0, "int16", 13),
        ("BATCH_MATMUL", 0, "int16", 4),
    ],
    (Format.ONNX, Precision.INT8_STATIC): [("DequantizeLinear", 0, "int8", 14)],
    (Format.ONNX, Precision.W8A16): [
        ("DequantizeLinear", 0, "int8", 14),
        ("DequantizeLinear", 0, "uint8", 4),
    ],
    (Format.TFLITE, Precision.INT4): [
        ("FULLY_CONNECTED", 1, "int4", 8),
        ("DEQUANTIZE", 0, "float16", 2),
    ],
    (Format.ONNX, Precision.INT4): [
        ("DequantizeLinear", 0, "int4", 8),
        ("DequantizeLinear", 2, "int4", 8),  # zero points
        ("Cast", 0, "float16", 2 + 8),
    ],
    (Format.OPENVINO, Precision.INT4): [
        ("Convert", 0, "uint4", 8 + 8),  # weights and zero points
        ("Convert", 0, "float16", 2 + 8),
    ],
    (Format.OPENVINO, Precision.INT8): [
        ("Convert", 0, "int8", 9),
        ("Convert", 0, "float16", 1),
    ],
}


def quantized(network: Network, converter: Converter, precision: Precision) -> Quantized:
    rewritten, _ = apply_rewrites(network)
    images = random_images(network, 16, seed=1)
    return quantize(
        rewritten,
        precision,
        calibrate(rewritten, images),
        activations=converter.activations,
        images=lambda: images,
        groups=converter.groups,
    )


def write(
    network: Network, converter: Converter, precision: Precision, folder: Path, batch: int
) -> Path:
    made = quantized(network, converter, precision)
    path = folder / f"model{converter.format.suffix}"
    converter.convert(made.network, made.recipe, batch=batch).save(
        path, metadata(network, converter, precision)
    )
    return path


def metadata(network: Network, converter: Converter, precision: Precision) -> Metadata:
    return Metadata(
        format=converter.format,
        precision=precision,
        labels=("Käse", "日本", '"quoted"', *network.labels[3:]),
        preprocessing=network.preprocessing,
        source=Source("model.keras", "0" * 64, "by name: test"),
        quantization={"weights": "int8"},
    )


def run(path: Path, converter: Converter, pixels: np.ndarray) -> np.ndarray:
    runtime = next(
        each for each in runtimes() if each.format is converter.format and "cpu" in each.devices
    )
    session = runtime.open(path, "cpu", threads=1)
    try:
        return run_batches(session, pixels)
    finally:
        session.close()


def pairs() -> list[Any]:
    return [
        pytest.param(converter, precision, id=f"{converter.format}-{precision}")
        for converter in converters()
        for precision in precisions_of(converter)
    ]


@pytest.mark.thorough
@pytest.mark.parametrize(("converter", "precision"), pairs())
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_an_artefact_computes_what_the_reference_computes(
    case: Case, converter: Converter, precision: Precision, tmp_path: Path
) -> None:
    network = random_network(3, **case.model)
    pixels = random_images(network, 5, seed=2)
    path = write(network, converter, precision, tmp_path, case.batch)
    parity = Parity.of(run(path, converter, pixels), forward(network, pixels))
    tolerance = precision.row.tolerance
    assert parity.relative_difference <= tolerance.relative_difference
    assert parity.sqnr_db is None or parity.sqnr_db >= tolerance.sqnr_db


@pytest.mark.parametrize(("converter", "precision"), pairs())
def test_metadata_comes_back_without_any_engine(
    converter: Converter, precision: Precision, tmp_path: Path
) -> None:
    network = random_network()
    path = write(network, converter, precision, tmp_path, 1)
    assert read_metadata(path) == metadata(network, converter, precision)


@pytest.mark.parametrize(("converter", "precision"), pairs())
def test_weights_have_the_type_that_the_precision_promises(
    converter: Converter, precision: Precision, tmp_path: Path
) -> None:
    path = write(random_network(pooling=Pooling.MEAN), converter, precision, tmp_path, 1)
    operators = read_operators(path)
    for name, position, kind, count in EXPECTED_WEIGHTS[converter.format, precision]:
        found = [each for each in operators if each.name == name and each.inputs[position] == kind]
        assert sum(operators[each] for each in found) == count, (name, kind)


@pytest.mark.parametrize("precision", [Precision.INT8_STATIC, Precision.W8A16])
def test_an_all_integer_tflite_file_holds_no_float_at_all(
    precision: Precision, tmp_path: Path
) -> None:
    converter = converter_for(Format.TFLITE, precision)
    for operator in read_operators(write(random_network(), converter, precision, tmp_path, 1)):
        assert not [kind for kind in operator.inputs + operator.outputs if "float" in kind]


@pytest.mark.parametrize("precision", [Precision.INT8_STATIC, Precision.W8A16])
def test_every_node_of_an_all_integer_onnx_file_stands_between_quantizations(
    precision: Precision, tmp_path: Path
) -> None:
    import onnx

    converter = converter_for(Format.ONNX, precision)
    graph = onnx.load(str(write(random_network(), converter, precision, tmp_path, 1))).graph
    made_by = {output: node.op_type for node in graph.node for output in node.output}
    integers = {each.name for each in graph.initializer if each.data_type == onnx.TensorProto.INT64}
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            continue
        sources = {made_by[each] for each in node.input if each not in integers}
        readers = {each.op_type for each in graph.node if set(node.output) & set(each.input)}
        assert sources == {"DequantizeLinear"}, node.name
        assert readers == {"QuantizeLinear"}, node.name
    assert [each.type.tensor_type.elem_type for each in graph.input] == [onnx.TensorProto.UINT8]
    assert [each.type.tensor_type.elem_type for each in graph.output] == [onnx.TensorProto.UINT16]


@pytest.mark.parametrize(("converter", "precision"), pairs())
def test_only_standard_operators_are_used(
    converter: Converter, precision: Precision, tmp_path: Path
) -> None:
    operators = read_operators(write(random_network(), converter, precision, tmp_path, 1))
    assert operators
    assert not [each.name for each in operators if is_foreign(each)]


def is_foreign(operator: Operator) -> bool:
    """Custom and Flex operators of TFLite, and ONNX operators with a domain of their own."""
    return operator.name.startswith("CUSTOM") or "." in operator.name


@pytest.mark.parametrize(("converter", "precision"), pairs())
def test_the_same_model_gives_the_same_bytes(
    converter: Converter, precision: Precision, tmp_path: Path
) -> None:
    contents = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        path = write(random_network(), converter, precision, tmp_path / name, 1)
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.parametrize("converter", converters(), ids=lambda each: str(each.format))
def test_fp16_does_not_overflow_where_the_stream_holds_thousands(
    converter: Converter, tmp_path: Path
) -> None:
    vit = random_vit(depth=8)
    # LayerNorm does not see the scale of its input but for its epsilon, so the logits stay.
    factor = np.float32(3000)

    def grown(layer: Linear) -> Linear:
        return Linear(layer.weight * factor, layer.bias * factor)

    grown_vit = replace(
        vit,
        patch=grown(vit.patch),
        prefix=vit.prefix * factor,
        positions=vit.positions * factor,
        blocks=tuple(
            replace(block, out=grown(block.out), fc2=grown(block.fc2)) for block in vit.blocks
        ),
    )
    # Squared, the stream is over half precision's 65504.
    assert np.square(grown_vit.positions).max() > 65504
    large = network_of(grown_vit)
    pixels = random_images(large, 4)
    path = write(large, converter, Precision.FP16, tmp_path, 1)
    found = Parity.of(run(path, converter, pixels), forward(large, pixels))
    assert found.sqnr_db is not None
    assert found.sqnr_db > 50


@pytest.mark.parametrize("converter", converters(), ids=lambda each: str(each.format))
def test_a_normalisation_that_was_not_folded_is_computed(
    converter: Converter, tmp_path: Path
) -> None:
    network = random_network()
    path = tmp_path / f"plain{converter.format.suffix}"
    draft = converter.convert(network, quantize(network, Precision.FP32).recipe)
    draft.save(path, metadata(network, converter, Precision.FP32))
    pixels = random_images(network, 1)
    np.testing.assert_allclose(run(path, converter, pixels), forward(network, pixels), atol=1e-4)


@pytest.mark.parametrize(
    "converter",
    [each for each in converters() if each.activations is not Activations.PER_TOKEN],
    ids=lambda each: str(each.format),
)
def test_tokens_are_divided_by_their_largest_number_and_multiplied_back(
    converter: Converter, tmp_path: Path
) -> None:
    network, _ = apply_rewrites(random_network(pooling=Pooling.MEAN))
    images = random_images(network, 16, seed=1)
    made = quantize(
        network,
        Precision.INT8,
        calibrate(network, images),
        activations=converter.activations,
        images=lambda: images,
        costly_below_db=300.0,
    )
    # Behind GELU, numbers reach further up than down; behind norms, as far.
    assert any(
        map(divides_by_largest, map(made.recipe.inputs.__getitem__, made.recipe.token_scaled))
    )
    behind_norms = [name for name in made.recipe.weights if name[-2:] in (".q", ".k", ".v")]
    recipe = replace(
        made.recipe,
        inputs=made.recipe.inputs | dict.fromkeys(behind_norms, Range(-1.0, 1.0)),
        token_scaled=made.recipe.token_scaled | dict.fromkeys(behind_norms, 0.01),
    )
    path = tmp_path / f"model{converter.format.suffix}"
    draft = converter.convert(made.network, recipe)
    draft.save(path, metadata(made.network, converter, Precision.INT8))
    pixels = random_images(network, 4)
    expected = simulate(made.network, recipe, pixels, activations=converter.activations)
    parity = Parity.of(run(path, converter, pixels), expected)
    # A token that is not multiplied back leaves 0 dB; bfloat16 between the layers leaves 30.
    assert parity.sqnr_db is not None
    assert parity.sqnr_db > 25


@pytest.mark.parametrize("converter", converters(), ids=lambda each: str(each.format))
def test_all_integers_and_zero_points_of_4_bits_are_read_as_they_are(
    converter: Converter, tmp_path: Path
) -> None:
    made = quantized(random_network(dim=64, heads=2, mlp_dim=128), converter, Precision.INT4)
    rng = np.random.default_rng(0)

    def random_nibbles(like: np.ndarray) -> np.ndarray:
        return rng.choice([-8, 0, 7], like.shape).astype(np.int8)

    weights = {
        name: replace(
            weight,
            values=random_nibbles(weight.values),
            zero=None if weight.zero is None else random_nibbles(weight.zero),
        )
        for name, weight in made.recipe.weights.items()
    }
    recipe = replace(made.recipe, weights=weights)
    path = tmp_path / f"model{converter.format.suffix}"
    draft = converter.convert(made.network, recipe)
    draft.save(path, metadata(made.network, converter, Precision.INT4))
    pixels = random_images(made.network, 4)
    found = run(path, converter, pixels)
    expected = simulate(made.network, recipe, pixels, activations=Activations.PER_TOKEN)
    parity = Parity.of(found, expected)
    # Runtimes quantize inputs in ways of their own; another sign of -8 leaves 0 dB.
    assert parity.sqnr_db is not None
    assert parity.sqnr_db > 20


def test_onnx_runtime_multiplies_4_bit_weights_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx
    import onnxruntime

    optimized = tmp_path / "optimized.onnx"

    def options() -> Any:
        made = make_options()
        made.optimized_model_filepath = str(optimized)
        return made

    make_options = onnxruntime.SessionOptions
    monkeypatch.setattr(onnxruntime, "SessionOptions", options)
    converter = converter_for(Format.ONNX, Precision.INT4)
    network = random_network(dim=64, heads=2, mlp_dim=128, pooling=Pooling.MEAN)
    run(
        write(network, converter, Precision.INT4, tmp_path, 1), converter, random_images(network, 1)
    )
    nodes = onnx.load(str(optimized)).graph.node
    products = [node for node in nodes if node.op_type == "MatMulNBits"]
    assert len(products) == 8
    assert not [node.name for node in nodes if node.op_type in ("DequantizeLinear", "Cast")]
    found = [{each.name: each.i for each in node.attribute} for node in products]
    assert {each["block_size"] for each in found} == {16}
    if platform.machine() in ("x86_64", "AMD64"):
        assert {each["accuracy_level"] for each in found} == {1}  # float inputs


def test_a_tflite_file_refuses_zero_points() -> None:
    converter = converter_for(Format.TFLITE, Precision.INT4)
    network, _ = apply_rewrites(random_network())
    statistics = calibrate(network, random_images(network, 4))
    groups = Groups(16, zero_points=True)
    made = quantize(network, Precision.INT4, statistics, groups=groups)
    with pytest.raises(ConversionError, match="zero points"):
        converter.convert(made.network, made.recipe)


def test_every_format_has_a_converter() -> None:
    assert [each.format for each in converters()] == list(all_formats())
    for each in all_formats():
        for precision in all_precisions():
            try:
                assert converter_for(each, precision).format is each
            except ConversionError as error:
                assert f"{each} has no {precision}: " in str(error)


def test_16_bit_tensors_keep_their_grid_where_a_linear_layer_reads_them(tmp_path: Path) -> None:
    import onnx

    converter = converter_for(Format.ONNX, Precision.W8A16)
    graph = onnx.load(str(write(random_network(), converter, Precision.W8A16, tmp_path, 1))).graph
    # Pixels have 8 bits and need a wider grid; Qualcomm's compiler gets any other change wrong.
    changed = [node.name for node in graph.node if node.name.endswith("/input/quantize")]
    assert changed == ["patch/input/quantize"]
