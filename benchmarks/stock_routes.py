"""What each runtime's own tools make of a Keras model: the artefacts to beat.

Every route is given what its documentation asks for, and the better of two readings where there is
a choice: static shapes, calibration photos as raw pixels, per-channel weights.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vitedge.artifacts.metadata import METADATA_KEY, Metadata, Source
from vitedge.files.weights_digest import WEIGHTS_KEY
from vitedge.network.network import Network
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision

if TYPE_CHECKING:
    import keras

# What holds nearly all weights; the rest of the graph then stays float.
_INT8_OPERATORS = ("MatMul", "Gemm", "Conv")


@dataclass(frozen=True)
class Workbench:
    """One model on its way through the stock tools.

    Attributes:
        network: The model.
        photos: Calibration photos, uint8 ``(H, W, C)`` each.
        folder: Where files go; what lies there already is not made again.
        ours: Our own float32 OpenVINO artefact.
        graph: An ONNX file that takes pixels as the artefacts do. Routes to ONNX and OpenVINO start
            from it, and those to TFLite from our Keras model; without it all start from a stock
            Keras model, which only a plain ViT has.
    """

    network: Network
    photos: Sequence[npt.NDArray[np.uint8]]
    folder: Path
    ours: Path
    graph: Path | None = None

    @cached_property
    def keras_model(self) -> keras.Model:
        """The Keras model that routes start from."""
        import keras
        from stock_keras import stock_keras_model

        from vitedge.in_keras.model import to_keras

        if self.graph is not None:  # the converter takes no subclass of Keras's model
            image = keras.Input(self.network.image_shape, batch_size=1, name="pixels")
            return keras.Model(image, to_keras(self.network)(image))
        model = stock_keras_model(self.network)
        # Keras exports no model that was never called.
        model(np.zeros((1, *self.network.image_shape), np.float32))
        return model

    def samples(self) -> Iterator[npt.NDArray[np.float32]]:
        """The calibration photos as the artefacts take them, ``(1, H, W, C)``."""
        for photo in self.photos:
            yield photo[None].astype(np.float32)

    def make(self, name: str) -> Path:
        """The file of a route, made now or before.

        Raises:
            KeyError: There is no such route.
        """
        route = ROUTES[name]
        path = self.folder / f"{name}{route.format.suffix}"
        if not path.exists():
            # Under another name until it is whole: a run that was stopped leaves no half file.
            staged = self.folder / f"unfinished{route.format.suffix}"
            with contextlib.redirect_stdout(sys.stderr):  # the tools are talkative
                route.write(self, staged)
            for part in (staged.with_suffix(".bin"), staged):
                if part.exists():
                    part.rename(path.with_suffix(part.suffix))
        return path


@dataclass(frozen=True)
class Route:
    """One stock way to an artefact.

    Attributes:
        format: What comes out.
        precision: What it computes in.
        words: Which tool with which settings.
        write: Makes the file.
    """

    format: Format
    precision: Precision
    words: str
    write: Callable[[Workbench, Path], None]


# --- TFLite ---------------------------------------------------------------------------------------


def _tflite(bench: Workbench, path: Path, prepare: Callable[[Any], None]) -> None:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(bench.keras_model)
    prepare(converter)
    path.write_bytes(converter.convert())


def _tflite_float(bench: Workbench, path: Path) -> None:
    _tflite(bench, path, lambda converter: None)


def _tflite_dynamic(bench: Workbench, path: Path) -> None:
    import tensorflow as tf

    def prepare(converter: Any) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]

    _tflite(bench, path, prepare)


def _tflite_full(bench: Workbench, path: Path) -> None:
    import tensorflow as tf

    def prepare(converter: Any) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([sample] for sample in bench.samples())
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.uint8

    _tflite(bench, path, prepare)


def _tflite_quantizer(bench: Workbench, path: Path) -> None:
    from ai_edge_quantizer import quantizer, recipe

    work = quantizer.Quantizer(str(bench.make("stock-fp32-tflite")))
    work.load_quantization_recipe(recipe.dynamic_wi8_afp32())
    work.quantize().export_model(str(path), overwrite=True)


# --- ONNX -----------------------------------------------------------------------------------------


def _onnx_float(bench: Workbench, path: Path) -> None:
    import onnx

    if bench.graph is not None:
        shutil.copy(bench.graph, path)
        return
    bench.keras_model.export(str(path), format="onnx", verbose=False)
    model = onnx.load(path)
    _without_erfc(model.graph)
    # The export forgets the static batch; with it, ONNX Runtime folds all shape arithmetic.
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _without_erfc(graph: Any) -> None:
    """Spells GELU's ``erfc(-x c)``, an operator that ONNX lacks, as ``1 + erf(x c)``."""
    from onnx import helper, numpy_helper

    makers = {output: node for node in graph.node for output in node.output}
    graph.initializer.append(numpy_helper.from_array(np.asarray(1, np.float32), "one"))
    nodes = []
    for node in graph.node:
        if node.op_type != "Erfc":
            nodes.append(node)
            continue
        scaled = makers[node.input[0]]
        negated = makers[scaled.input[0]]
        if (scaled.op_type, negated.op_type) != ("Mul", "Neg"):
            raise ValueError("the export spells GELU in another way than erfc(-x c)")
        name = node.output[0]
        inputs = [negated.input[0], scaled.input[1]]
        nodes.append(helper.make_node("Mul", inputs, [f"{name}/scaled"]))
        nodes.append(helper.make_node("Erf", [f"{name}/scaled"], [f"{name}/erf"]))
        nodes.append(helper.make_node("Add", [f"{name}/erf", "one"], [name]))
    used = {name for node in nodes for name in node.input}
    used |= {output.name for output in graph.output}
    nodes = [node for node in nodes if used.intersection(node.output)]
    del graph.node[:]
    graph.node.extend(nodes)


def _onnx_prepared(bench: Workbench) -> Path:
    """The plain export after ONNX Runtime's own preparation for quantizing."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    path = bench.folder / "prepared.onnx"
    if not path.exists():
        quant_pre_process(bench.make("stock-fp32-onnx"), path, skip_symbolic_shape=True)
    return path


def _onnx_dynamic(bench: Workbench, path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(_onnx_prepared(bench), path, per_channel=True, weight_type=QuantType.QInt8)


def _onnx_static(bench: Workbench, path: Path, operators: Sequence[str] | None) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Photos(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime is untyped
        def __init__(self) -> None:
            self._samples = bench.samples()

        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            sample = next(self._samples, None)
            return None if sample is None else {"pixels": sample}

    quantize_static(
        _onnx_prepared(bench),
        path,
        Photos(),
        per_channel=True,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8,
        op_types_to_quantize=operators,
    )


# --- OpenVINO -------------------------------------------------------------------------------------


def _openvino_float(bench: Workbench, path: Path) -> None:
    import openvino

    if bench.graph is None:
        bench.keras_model.export(str(path), format="openvino", verbose=False)
    model = openvino.Core().read_model(bench.graph or path)
    model.reshape([1, *bench.network.image_shape])
    _save_openvino(bench, model, path, Precision.FP32)


def _nncf(bench: Workbench, path: Path, source: Path) -> None:
    import nncf
    import openvino

    dataset = nncf.Dataset(list(bench.samples()))
    model = openvino.Core().read_model(source)
    if model.has_rt_info(WEIGHTS_KEY):
        del model.rt_info[WEIGHTS_KEY]  # the digest of weights that will be others
    quantized = nncf.quantize(
        model,
        dataset,
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(bench.photos),
    )
    _save_openvino(bench, quantized, path, Precision.INT8)


def _save_openvino(bench: Workbench, model: Any, path: Path, precision: Precision) -> None:
    """Saves with weights as they are, and what our runtime reads to choose float types by.

    Without it a float32 model would be run in bfloat16 where the processor has it, and compared
    with ours in float32.
    """
    import openvino

    metadata = Metadata(
        format=Format.OPENVINO,
        precision=precision,
        labels=bench.network.labels,
        preprocessing=bench.network.preprocessing,
        source=Source("stock", "", "stock route"),
    )
    model.set_rt_info(metadata.to_json(), [METADATA_KEY])
    # The old file may be mapped by the model that is being saved.
    fresh = path.with_name(f"fresh{path.suffix}")
    openvino.save_model(model, fresh, compress_to_fp16=False)
    for suffix in (".bin", ".xml"):
        fresh.with_suffix(suffix).replace(path.with_suffix(suffix))


ROUTES = {
    "stock-fp32-tflite": Route(
        Format.TFLITE, Precision.FP32, "TFLiteConverter, float32", _tflite_float
    ),
    "stock-dynamic-tflite": Route(
        Format.TFLITE, Precision.INT8, "TFLiteConverter, dynamic range", _tflite_dynamic
    ),
    "stock-full-tflite": Route(
        Format.TFLITE, Precision.INT8, "TFLiteConverter, full int8", _tflite_full
    ),
    "stock-quantizer-tflite": Route(
        Format.TFLITE, Precision.INT8, "ai-edge-quantizer, dynamic int8", _tflite_quantizer
    ),
    "stock-fp32-onnx": Route(
        Format.ONNX, Precision.FP32, "Keras export, GELU mended by hand", _onnx_float
    ),
    "stock-dynamic-onnx": Route(
        Format.ONNX, Precision.INT8, "... ONNX Runtime quantize_dynamic", _onnx_dynamic
    ),
    "stock-static-onnx": Route(
        Format.ONNX,
        Precision.INT8,
        "... ONNX Runtime quantize_static, all operators",
        lambda bench, path: _onnx_static(bench, path, None),
    ),
    "stock-linear-onnx": Route(
        Format.ONNX,
        Precision.INT8,
        "... ONNX Runtime quantize_static, MatMul Gemm Conv",
        lambda bench, path: _onnx_static(bench, path, _INT8_OPERATORS),
    ),
    "stock-fp32-openvino": Route(
        Format.OPENVINO, Precision.FP32, "Keras export, float32", _openvino_float
    ),
    "stock-nncf-openvino": Route(
        Format.OPENVINO,
        Precision.INT8,
        "Keras export, NNCF for transformers",
        lambda bench, path: _nncf(bench, path, bench.make("stock-fp32-openvino")),
    ),
    "stock-nncf-on-ours-openvino": Route(
        Format.OPENVINO,
        Precision.INT8,
        "our float32 graph, NNCF for transformers",
        lambda bench, path: _nncf(bench, path, bench.ours),
    ),
}
"""Every stock route by name."""
