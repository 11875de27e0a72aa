"""Networks that are no plain ViT, in every format, run in the formats' own runtimes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.support.merged_networks import grouped_tokens, merged_tokens
from tests.support.models import random_network
from tests.support.networks import (
    DIM,
    Random,
    convolutional_stages,
    pooled_by_attention,
    rope_and_swiglu,
    windows_with_bias,
)
from tests.support.networks import NETWORKS as PLAIN_NETWORKS
from tests.support.random_networks import STEMS, Plan, assembled_network
from vitedge.artifacts.metadata import Metadata, Source, read_metadata
from vitedge.converters.tools import converter_for
from vitedge.elements.kinds import Pooling
from vitedge.errors import ConversionError
from vitedge.inspection.operators import read_operators
from vitedge.network.evaluate import evaluate, forward
from vitedge.network.network import Network, map_linears, needed
from vitedge.network.operators import Add, Array, Linear, Mean
from vitedge.quantize import IntegerWeight, Range, Recipe
from vitedge.quantize.calibrate import calibrate
from vitedge.quantize.recipe import Quantized, quantize
from vitedge.rewrite import apply_rewrites
from vitedge.runtimes import run_batches, runtimes
from vitedge.runtimes.onnx_runtime import multiply_exactly
from vitedge.runtimes.openvino_runtime import exact_products
from vitedge.targets.formats import Format, all_formats
from vitedge.targets.precisions import Precision

NETWORKS = (*PLAIN_NETWORKS, merged_tokens, grouped_tokens)

# Of an output's range. Float sums in another order; weights in half.
TOLERANCES = {Precision.FP32: 2e-5, Precision.FP16: 5e-3}

# What 8-bit inputs of all layers leave of the outputs; a wrong place or sign leaves 0.
LEAST_SQNR_DB = 24.0


def images_of(network: Network, count: int) -> npt.NDArray[np.uint8]:
    shape = (count, *network.image_shape)
    return np.random.default_rng(7).integers(0, 256, shape, np.uint8)


def run(path: Path, target: Format, pixels: npt.NDArray[np.uint8]) -> dict[str, Array]:
    given = pixels.astype(np.float32)
    match target:
        case Format.TFLITE:
            from ai_edge_litert.interpreter import Interpreter

            runner = Interpreter(model_path=str(path), num_threads=1).get_signature_runner()
            return dict(runner(pixels=given))
        case Format.ONNX:
            import onnxruntime

            exact = onnxruntime.SessionOptions()
            multiply_exactly(exact)
            session = onnxruntime.InferenceSession(
                str(path), exact, providers=["CPUExecutionProvider"]
            )
            names = [each.name for each in session.get_outputs()]
            return dict(zip(names, session.run(names, {"pixels": given}), strict=True))
        case Format.OPENVINO:
            import openvino

            metadata = read_metadata(path)
            assert metadata is not None
            options = {"INFERENCE_PRECISION_HINT": "f32", **exact_products(metadata)}
            compiled = openvino.Core().compile_model(str(path), "CPU", options)
            found = compiled({"pixels": given})
            return {name: np.array(found[name]) for each in compiled.outputs for name in each.names}


def written(network: Network, recipe: Recipe, target: Format, folder: Path, batch: int = 1) -> Path:
    path = folder / f"model{target.suffix}"
    source = Source("random", "0" * 64, "a test")
    metadata = Metadata(target, recipe.precision, (), network.preprocessing, source)
    converter = converter_for(target, recipe.precision)
    converter.convert(network, recipe, batch=batch).save(path, metadata)
    return path


def integers(layer: Linear) -> IntegerWeight:
    scale = (np.abs(layer.weight).max(axis=0) / 127).astype(np.float32)
    return IntegerWeight(np.rint(layer.weight / scale).astype(np.int8), scale)


def ranges(network: Network, images: npt.NDArray[np.uint8]) -> dict[str, Range]:
    seen: dict[str, Range] = {}

    def observe(name: str, x: Array) -> None:
        seen[name] = Range(min(float(x.min()), 0.0), max(float(x.max()), 0.0))

    evaluate(network, images, observe)
    return seen


@pytest.mark.parametrize("precision", TOLERANCES, ids=str)
@pytest.mark.parametrize("target", all_formats(), ids=str)
@pytest.mark.parametrize("make", NETWORKS, ids=lambda make: make.__name__)
def test_every_output_is_what_the_network_computes(
    make: Callable[[], Network], target: Format, precision: Precision, tmp_path: Path
) -> None:
    network, batch = make(), 2
    pixels = images_of(network, batch)
    found = run(written(network, Recipe(precision), target, tmp_path, batch), target, pixels)
    expected = evaluate(network, pixels)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].shape == values.shape
        error = np.abs(found[name] - values).max() / np.ptp(values)
        assert error <= TOLERANCES[precision], name


@pytest.mark.thorough
@pytest.mark.parametrize("ranged", ["none", "all", "some, and some layers float"])
@pytest.mark.parametrize("target", all_formats(), ids=str)
@pytest.mark.parametrize("make", NETWORKS, ids=lambda make: make.__name__)
def test_integer_layers_leave_the_outputs_as_they_are(
    make: Callable[[], Network], target: Format, ranged: str, tmp_path: Path
) -> None:
    network = make()
    pixels = images_of(network, 1)
    weights = {name: integers(layer) for name, layer in network.named_linears()}
    inputs = {} if ranged == "none" else ranges(network, pixels)
    if ranged.startswith("some"):
        # Of queries, keys and values one each is float, has a range and has none.
        weights = {name: each for at, (name, each) in enumerate(weights.items()) if at % 3}
        inputs = {name: each for at, (name, each) in enumerate(inputs.items()) if at % 3 == 1}
    recipe = Recipe(Precision.INT8, weights, inputs)

    def with_integers(name: str, layer: Linear) -> Linear:
        return replace(layer, weight=weights[name].dequantized()) if name in weights else layer

    rounded = map_linears(network, with_integers)
    path = written(network, recipe, target, tmp_path)
    found, expected = run(path, target, pixels), evaluate(rounded, pixels)
    for name, values in expected.items():
        assert sqnr_db(found[name], values) >= LEAST_SQNR_DB, name
    kinds = [kind for each in read_operators(path) for kind in each.inputs]
    assert "int8" in kinds


@pytest.mark.parametrize("target", all_formats(), ids=str)
def test_outputs_may_be_alike_or_fixed_and_values_called_like_tensors(
    target: Format, tmp_path: Path
) -> None:
    made = Random(6)
    net, x = made.net, made.tokens()
    x = made.linear("a", net("stream", Add(), x, made.constant("a.weight", DIM)), DIM)
    x = made.linear("a.bias", made.norm("a/rows", x), DIM)
    fixed = made.linear("fixed", made.constant("token_axis", 2, DIM), 3)
    logits = made.linear("logits", net("pooled/mean", Mean(0), x), 10)
    network = made.network(logits=logits, again=logits, fixed=fixed, image=made.pixels)
    pixels = images_of(network, 2)
    found = run(written(network, Recipe(Precision.FP32), target, tmp_path, 2), target, pixels)
    for name, values in evaluate(network, pixels).items():
        np.testing.assert_allclose(found[name], values, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("make", [merged_tokens, grouped_tokens], ids=lambda make: make.__name__)
def test_openvino_counts_merged_tokens_in_bfloat16(
    make: Callable[[], Network], tmp_path: Path
) -> None:
    import openvino

    network = make()
    pixels = images_of(network, 4)
    path = written(network, Recipe(Precision.FP32), Format.OPENVINO, tmp_path, 4)
    options = {"INFERENCE_PRECISION_HINT": "bf16"}  # float32 on a processor without
    compiled = openvino.Core().compile_model(str(path), "CPU", options)
    found = np.array(compiled({"pixels": pixels.astype(np.float32)})["logits"])
    expected = forward(network, pixels)
    noise = [sqnr_db(*pair) for pair in zip(found, expected, strict=True)]
    assert np.median(noise) > 20  # a choice may turn for one picture


def sqnr_db(found: Array, expected: Array) -> float:
    noise = float(np.square(found - expected).sum())
    return float(10 * np.log10(np.square(expected).sum() / max(noise, 1e-30)))


@pytest.mark.parametrize("make", NETWORKS, ids=lambda make: make.__name__)
def test_no_tensor_of_a_tflite_file_has_more_than_four_axes(
    make: Callable[[], Network], tmp_path: Path
) -> None:
    from ai_edge_litert import schema_py_generated as schema

    path = written(make(), Recipe(Precision.FP32), Format.TFLITE, tmp_path)
    graph = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0).subgraphs[0]
    shown = set(graph.outputs)
    for number, tensor in enumerate(graph.tensors):
        assert number in shown or len(tensor.shape) <= 4, tensor.name


def only(make: Callable[[], Network], output: str) -> Network:
    network = make()
    shown = network.outputs[output]
    return replace(
        network, values=needed(network.values, [shown]), outputs={network.task.output: shown}
    )


def planned(seed: int = 3, **parts: str) -> Network:
    return assembled_network(seed, Plan(pooling=Pooling.MEAN, prefix_tokens=0, **parts))


INTEGER_NETWORKS = {
    "RoPE and SwiGLU": rope_and_swiglu,
    "windows": partial(windows_with_bias, convolves=False),
    "windows behind a convolution": windows_with_bias,
    "attention pooling": partial(only, pooled_by_attention, "pooled"),
    "an embedding of length one": partial(only, pooled_by_attention, "embedding"),
    "stages of convolutions, pools and resizes": partial(only, convolutional_stages, "logits"),
    "a map": partial(only, convolutional_stages, "depth"),
    "cosine attention": partial(planned, 4, attention="cosine"),
    "convolutions in blocks": partial(planned, 4, stem="convolutions", mlp="convolution"),
    **{kind: partial(planned, stem=kind) for kind in STEMS},
    "q/k norm": partial(random_network, qk_norm=True, pooling=Pooling.MEAN),
}


def integer_recipe(network: Network, precision: Precision) -> Quantized:
    rewritten, _ = apply_rewrites(network)
    images = images_of(network, 16)
    statistics = calibrate(rewritten, iter(images))
    return quantize(rewritten, precision, statistics, images=lambda: iter(images))


@pytest.mark.thorough
@pytest.mark.parametrize("precision", [Precision.INT8_STATIC, Precision.W8A16], ids=str)
@pytest.mark.parametrize("target", [Format.TFLITE, Format.ONNX], ids=str)
@pytest.mark.parametrize("name", INTEGER_NETWORKS)
def test_all_integer_files_compute_what_the_network_computes(
    name: str, target: Format, precision: Precision, tmp_path: Path
) -> None:
    network = INTEGER_NETWORKS[name]()
    made = integer_recipe(network, precision)
    path = written(made.network, made.recipe, target, tmp_path)
    runtime = next(each for each in runtimes() if each.format is target and "cpu" in each.devices)
    session = runtime.open(path, "cpu", threads=1)
    pixels = images_of(network, 8)
    try:
        found = run_batches(session, pixels)
    finally:
        session.close()
    assert sqnr_db(found, forward(network, pixels)) >= LEAST_SQNR_DB


@pytest.mark.parametrize("target", [Format.TFLITE, Format.ONNX], ids=str)
def test_a_range_that_a_recipe_lacks_is_named(target: Format, tmp_path: Path) -> None:
    made = integer_recipe(rope_and_swiglu(), Precision.INT8_STATIC)
    tensors = {name: each for name, each in made.recipe.tensors.items() if name != "blocks.1/gated"}
    recipe = replace(made.recipe, tensors=tensors)
    words = r"cannot have 'blocks.1/gated' \(Multiply\): there is no range for 'blocks.1/gated'"
    with pytest.raises(ConversionError, match=words):
        written(made.network, recipe, target, tmp_path)


@pytest.mark.parametrize("target", [Format.TFLITE, Format.ONNX], ids=str)
@pytest.mark.parametrize("make", NETWORKS, ids=lambda make: make.__name__)
def test_what_has_no_integer_form_is_refused_by_its_name(
    make: Callable[[], Network], target: Format, tmp_path: Path
) -> None:
    network = make()
    name, value = next(iter(network.outputs.items()))
    network = replace(network, outputs={name: value})
    anything: Mapping[str, Any] = {"nothing": Range(0.0, 1.0)}
    recipe = Recipe(Precision.INT8_STATIC, tensors=anything)
    with pytest.raises(ConversionError, match=r"cannot have '\S+' \([A-Z][a-z]+\): "):
        written(network, recipe, target, tmp_path)
