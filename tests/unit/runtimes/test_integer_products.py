"""Products of 8 bits are exact in every runtime, on whatever processor the tests run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.models import random_images
from tests.support.target_artifacts import small_vit
from vitedge.artifacts.metadata import FLOAT32_FOR_ACCURACY, Metadata, Source
from vitedge.converters.tools import converter_for
from vitedge.machine.processor import processor_flags, products_saturate
from vitedge.network.network import with_operators
from vitedge.network.operators import Linear
from vitedge.quantize import Recipe
from vitedge.quantize.calibrate import calibrate
from vitedge.quantize.recipe import quantize
from vitedge.quantize.simulate import simulate
from vitedge.runtimes import onnx_runtime, openvino_runtime, runtime_for
from vitedge.runtimes.onnx_runtime import multiply_exactly
from vitedge.runtimes.openvino_runtime import OpenVINOSession, exact_products
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.targets.target import Target


@pytest.mark.parametrize("format_", [Format.TFLITE, Format.ONNX, Format.OPENVINO], ids=str)
def test_sums_of_large_products_do_not_saturate(tmp_path: Path, format_: Format) -> None:
    network, images = with_large_integers(), random_images(small_vit(), 4, seed=2)
    converter = converter_for(format_, Precision.INT8)
    statistics = calibrate(network, random_images(small_vit(), 16, seed=1))
    made = quantize(network, Precision.INT8, statistics, activations=converter.activations)
    path = tmp_path / f"large{format_.suffix}"
    converter.convert(made.network, made.recipe).save(path, metadata(format_))
    session = runtime_for(Target(format_.record.default_target.runtime, "cpu")).open(path, "cpu")
    found = np.concatenate([np.asarray(session.run(each[None])) for each in images])
    session.close()
    expected = simulate(made.network, made.recipe, images, activations=converter.activations)
    noise = np.square(found - expected).sum() / np.square(expected).sum()
    # Saturated sums leave 5 dB; a rounding that falls the other way, 35 or more.
    assert -10 * np.log10(noise) > 25


def with_large_integers():
    """A network whose weights become 127 or -127, so that two products exceed 16 bits."""
    network = small_vit()
    return with_operators(
        network,
        {
            value: replace(operator, weight=largest(operator.weight))
            for value in network.values
            if isinstance(operator := value.operator, Linear) and value.name != "head"
        },
    )


def largest(weight: np.ndarray) -> np.ndarray:
    return (np.sign(weight) * np.abs(weight).mean()).astype(np.float32)


def metadata(
    format_: Format, precision: Precision = Precision.INT8, read: str = "by name: test"
) -> Metadata:
    network = small_vit()
    return Metadata(
        format=format_,
        precision=precision,
        labels=network.labels,
        preprocessing=network.preprocessing,
        source=Source("large.keras", "0" * 64, read),
    )


@pytest.mark.parametrize("read", ["by name: test", "generic: it has no attention"])
def test_openvino_multiplies_as_floats_where_products_saturate(
    read: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_runtime, "processor_flags", lambda: frozenset(["avx2"]))
    integers = metadata(Format.OPENVINO, Precision.INT8, read)
    assert exact_products(integers) == {"LP_TRANSFORMS_MODE": "NO"}
    assert exact_products(metadata(Format.OPENVINO, Precision.FP16, read)) == {}
    monkeypatch.setattr(openvino_runtime, "processor_flags", lambda: frozenset(["avx_vnni"]))
    assert exact_products(integers) == {}


def test_openvino_turns_weights_into_floats_once_where_it_multiplies_floats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openvino

    network, images = small_vit(), random_images(small_vit(), 2, seed=2)
    converter = converter_for(Format.OPENVINO, Precision.INT8)
    made = quantize(
        network, Precision.INT8, calibrate(network, images), activations=converter.activations
    )
    path = tmp_path / "small.int8.xml"
    # In bfloat16, which this processor may have, sums in another order differ by more.
    in_float32 = replace(metadata(Format.OPENVINO), quantization={FLOAT32_FOR_ACCURACY: "yes"})
    converter.convert(made.network, made.recipe).save(path, in_float32)
    monkeypatch.setattr(openvino_runtime, "processor_flags", lambda: frozenset(["avx2"]))

    session = runtime_for(Target("openvino", "cpu")).open(path, "cpu")
    assert isinstance(session, OpenVINOSession)
    types, found = constants_of(session._model), np.asarray(session.run(images[:1]))
    session.close()

    # Of weights that stay integers, the plug-in would round the inputs where it has VNNI.
    config = {
        "LP_TRANSFORMS_MODE": "NO",
        "INFERENCE_PRECISION_HINT": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
    }
    as_it_is = openvino.Core().compile_model(str(path), "CPU", config)
    assert "i8" not in types
    assert "i8" in constants_of(as_it_is)
    np.testing.assert_allclose(found, as_it_is(images[:1].astype(np.float32))[0], atol=1e-2)


def constants_of(compiled: Any) -> set[str]:
    """Types of the constants that OpenVINO reads when it computes."""
    nodes = compiled.get_runtime_model().get_ops()
    constants = [node for node in nodes if node.get_rt_info()["layerType"].astype(str) == "Const"]
    return {node.get_output_element_type(0).get_type_name() for node in constants}


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [(["avx2"], "1"), ([], "1"), (["avx2", "avx512_vnni", "amx_int8"], None)],
    ids=["AVX2", "unknown", "AMX"],
)
def test_onnx_runtime_gets_its_slower_exact_product_only_without_vnni(
    flags: list[str], wanted: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    monkeypatch.setattr(onnx_runtime, "processor_flags", lambda: frozenset(flags))
    options = onnxruntime.SessionOptions()
    multiply_exactly(options)
    try:
        found = options.get_session_config_entry("session.x64quantprecision")
    except RuntimeError:  # has no such key
        found = None
    assert found == wanted


def test_the_processor_says_whether_products_saturate(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nflags\t\t: fpu avx2 fma\nbugs\t\t:\n")
    assert processor_flags(path) == {"fpu", "avx2", "fma"}
    assert products_saturate(processor_flags(path))
    assert not products_saturate(frozenset(["avx2", "avx_vnni"]))
    assert not products_saturate(processor_flags(tmp_path / "absent"))  # not Linux on x86


def test_floats_beside_integers_stay_float32_where_the_model_multiplies_rounding(
    tmp_path: Path,
) -> None:
    network = small_vit()
    about = metadata(Format.OPENVINO, Precision.INT8)
    coarse = replace(about, quantization={FLOAT32_FOR_ACCURACY: "bfloat16 alone would leave 14 dB"})
    assert coarse.multiplies_rounding
    assert not about.multiplies_rounding
    path = tmp_path / "coarse.int8.xml"
    converter = converter_for(Format.OPENVINO, Precision.INT8)
    converter.convert(network, Recipe(Precision.INT8)).save(path, coarse)
    session = runtime_for(Target("openvino", "cpu")).open(path, "cpu")
    assert isinstance(session, OpenVINOSession)
    # Left to itself the plug-in takes bfloat16 where the processor has it.
    hint = session._model.get_property("INFERENCE_PRECISION_HINT")
    session.close()
    assert hint.to_string() == "f32"
