"""ONNX files as people have them: fused, in half precision, quantized, of bytes, of open sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from vitedge.converters.generic.model import open_generic
from vitedge.errors import ModelError
from vitedge.importers import ImportOptions, read_model
from vitedge.network.evaluate import forward

GOLDEN = Path(__file__).parents[3] / "golden" / "lift"
TIMM = GOLDEN / "timm_dynamo_free.onnx"
SCRIPT = GOLDEN / "torchvision_script_one.onnx"
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.float32)


def logits(path: Path, **options: object) -> np.ndarray:
    network = read_model(path, ImportOptions(**options)).network
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, *network.image_shape)).astype(np.float32)
    return np.asarray(forward(network, pixels))


def optimized(source: Path, target: Path, level: str) -> Path:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    return target


@pytest.mark.parametrize("source", [TIMM, SCRIPT], ids=["dynamo", "script"])
@pytest.mark.parametrize("level", ["ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"])
def test_what_onnx_runtime_fused_lifts_to_the_same_logits(
    source: Path, level: str, tmp_path: Path
) -> None:
    path = optimized(source, tmp_path / "fused.onnx", level)
    domains = {node.domain for node in onnx.load(path).graph.node}
    assert any(domain.startswith("com.microsoft") for domain in domains)
    np.testing.assert_allclose(logits(path), logits(source), atol=1e-4)


def in_half(source: Path, target: Path, *, of_floats: bool) -> Path:
    """Weights and arithmetic in float16, as ``model.half()`` exports, or behind casts of floats."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=of_floats), target)
    return target


@pytest.mark.filterwarnings("ignore")  # the converter warns of each number that it rounds to zero
@pytest.mark.parametrize("of_floats", [False, True])
def test_half_precision_is_computed_in_float32(of_floats: bool, tmp_path: Path) -> None:
    # With casts, the converter appends them at the end, where ONNX demands them in front.
    path = in_half(TIMM, tmp_path / "half.onnx", of_floats=of_floats)
    difference = np.abs(logits(path) - logits(TIMM)).max()
    assert 0 < difference < 0.02 * np.ptp(logits(TIMM))
    imported = read_model(path)
    assert float(imported.proof.split()[3]) < 1e-4, imported.proof


def test_nodes_may_stand_in_any_order(tmp_path: Path) -> None:
    model = onnx.load(TIMM)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(
        nodes[number] for number in np.random.default_rng(0).permutation(len(nodes))
    )
    onnx.save(model, tmp_path / "mixed.onnx")
    np.testing.assert_array_equal(logits(tmp_path / "mixed.onnx"), logits(TIMM))


class Photos:
    def __init__(self, source: Path) -> None:
        (image,) = onnxruntime.InferenceSession(str(source)).get_inputs()
        self.name, self.left = image.name, 4
        self.shape = [size if isinstance(size, int) else 1 for size in image.shape]

    def get_next(self) -> dict[str, np.ndarray] | None:
        self.left -= 1
        if self.left < 0:
            return None
        rng = np.random.default_rng(self.left)
        return {self.name: rng.random(self.shape, np.float32)}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["qdq", "operators", "dynamic"])
def test_quantized_models_are_refused_by_the_name_of_an_operator(kind: str, tmp_path: Path) -> None:
    from onnxruntime import quantization

    path = tmp_path / "quantized.onnx"
    if kind == "dynamic":
        quantization.quantize_dynamic(SCRIPT, path)
    else:
        form = quantization.QuantFormat[{"qdq": "QDQ", "operators": "QOperator"}[kind]]
        quantization.quantize_static(SCRIPT, path, Photos(SCRIPT), quant_format=form)
    for read in (read_model, open_generic):
        with pytest.raises(ModelError, match=r"quantized already \(operator .*float model"):
            read(path, ImportOptions())


def test_weights_alone_in_eight_bits_are_read_back_to_float(tmp_path: Path) -> None:
    model = onnx.load(SCRIPT)
    expected = onnx.load(SCRIPT)
    wanted = {item.name: item for item in expected.graph.initializer}
    for item in [each for each in model.graph.initializer if len(each.dims) == 2]:
        values = numpy_helper.to_array(item)
        scale = (np.abs(values).max(axis=0) / 127 + 1e-9).astype(np.float32)
        integers = np.round(values / scale).astype(np.int8)
        wanted[item.name].CopyFrom(numpy_helper.from_array(integers * scale, item.name))
        name = item.name
        item.CopyFrom(numpy_helper.from_array(integers, f"{name} integers"))
        model.graph.initializer.append(numpy_helper.from_array(scale, f"{name} scale"))
        inputs = [f"{name} integers", f"{name} scale"]
        model.graph.node.insert(0, helper.make_node("DequantizeLinear", inputs, [name], axis=1))
    onnx.save(model, tmp_path / "weights.onnx")
    onnx.save(expected, tmp_path / "float.onnx")
    found = logits(tmp_path / "weights.onnx")
    np.testing.assert_allclose(found, logits(tmp_path / "float.onnx"), atol=1e-5)


def of_bytes(source: Path, target: Path) -> Path:
    """The same model of uint8 pixels, channels last, with its normalisation inside."""
    model = onnx.load(source)
    image = model.graph.input[0]
    old, shape = image.name, [dim.dim_value for dim in image.type.tensor_type.shape.dim]
    sizes = [shape[0] or "n", shape[2], shape[3], shape[1]]
    image.CopyFrom(helper.make_tensor_value_info("bytes", TensorProto.UINT8, sizes))
    constants = {"c": 255.0, "m": 0.45, "s": 0.225}
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.float32(value), name))
    steps = [
        helper.make_node("Transpose", ["bytes"], ["p0"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["p0"], ["p1"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["p1", "c"], ["p2"]),
        helper.make_node("Sub", ["p2", "m"], ["p3"]),
        helper.make_node("Div", ["p3", "s"], [old]),
    ]
    nodes = [*steps, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, target)
    return target


def test_a_model_of_bytes_lifts(tmp_path: Path) -> None:
    path = of_bytes(SCRIPT, tmp_path / "bytes.onnx")
    wanted = logits(SCRIPT, mean=(0.45,) * 3, std=(0.225,) * 3)
    np.testing.assert_allclose(logits(path), wanted, atol=1e-4)
    assert read_model(path).network.preprocessing.channels == 3


def test_four_open_axes_are_told_by_the_convolution_and_image_size(tmp_path: Path) -> None:
    model = onnx.load(SCRIPT)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    height, width = dims[2].dim_value, dims[3].dim_value
    for axis, name in enumerate(("batch", "channels", "height", "width")):
        dims[axis].ClearField("dim_value")
        dims[axis].dim_param = name
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "open.onnx")
    with pytest.raises(ModelError, match=r"images of 3x\?x\?.*give --image-size"):
        read_model(tmp_path / "open.onnx")
    found = logits(tmp_path / "open.onnx", image_size=(height, width))
    np.testing.assert_allclose(found, logits(SCRIPT), atol=1e-5)


def test_an_output_is_chosen_by_name(tmp_path: Path) -> None:
    model = onnx.load(SCRIPT)
    output = model.graph.output[0]
    classes = output.type.tensor_type.shape.dim[1].dim_value
    model.graph.initializer.append(numpy_helper.from_array(np.ones((classes, 2), np.float32), "w"))
    model.graph.node.append(helper.make_node("MatMul", [output.name, "w"], ["age"]))
    model.graph.output.append(helper.make_tensor_value_info("age", TensorProto.FLOAT, [1, 2]))
    path = tmp_path / "two.onnx"
    onnx.save(model, path)
    with pytest.raises(ModelError, match=rf"outputs '{output.name}', 'age'; say with --logits"):
        read_model(path)
    np.testing.assert_array_equal(logits(path, logits=(output.name,)), logits(SCRIPT))
    assert read_model(path, ImportOptions(logits=("age",))).network.classes == 2
    with pytest.raises(ModelError, match="no output 'size', but"):
        read_model(path, ImportOptions(logits=("size",)))


def test_outputs_of_other_kinds_are_no_heads_to_average(tmp_path: Path) -> None:
    # Classes and their places were averaged, and ONNX Runtime's refusal of that was shown.
    model = onnx.load(TIMM)
    (logits_of,) = (item.name for item in model.graph.output)
    model.graph.node.append(helper.make_node("Cast", [logits_of], ["places"], to=TensorProto.INT64))
    classes = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    shape = ["batch", classes]
    model.graph.output.append(helper.make_tensor_value_info("places", TensorProto.INT64, shape))
    onnx.save(model, tmp_path / "two.onnx")
    np.testing.assert_array_equal(logits(tmp_path / "two.onnx"), logits(TIMM))
