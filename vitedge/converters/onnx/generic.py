"""ONNX drafts: the graph itself, its weights in half, or ONNX Runtime's quantizer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vitedge.converters.generic.candidate import Alternative, CalibrationImages
from vitedge.converters.generic.model import GenericModel
from vitedge.converters.generic.network import PIXELS
from vitedge.converters.generic.onnx_graph import with_half_weights
from vitedge.converters.onnx.converter import OnnxDraft
from vitedge.errors import ConversionError, first_line, missing_package
from vitedge.files.temporary import temporary_folder
from vitedge.targets.precisions import Precision
from vitedge.terminal.silence import overheard

_STATIC = "8-bit per channel, inputs 8-bit with calibrated ranges"
_DYNAMIC = "8-bit per channel, inputs quantized as they come"

# Everything else stays float: norms, softmax and GELU have no integer kernels there.
_LINEAR = ["Conv", "MatMul", "Gemm"]


def onnx_candidates(
    model: GenericModel, precision: Precision, batch: int, images: CalibrationImages
) -> Iterator[Alternative]:
    """Drafts, the best bet first.

    Raises:
        ConversionError: ONNX cannot express the model, or its quantizer fails.
    """
    graph = model.network.to_onnx(model.taken, batch)
    if precision is Precision.FP32:
        yield Alternative(OnnxDraft(graph), {}, False, ("onnx",))
        return
    if precision is Precision.FP16:
        half = with_half_weights(graph)
        yield Alternative(OnnxDraft(half), {"weights": "float16"}, False, ("onnx",))
        return
    # With attention, ranges that are fixed lose 8 dB more and take longer.
    for calibrated in (False, True) if model.attends else (True, False):
        made = _quantized(graph, batch, images if calibrated else None)
        layers = "convolutions and dense layers" if calibrated else "dense layers"
        words = {layers: _STATIC if calibrated else _DYNAMIC}
        yield Alternative(OnnxDraft(made), words, calibrated, ("onnx", "onnxruntime"))


def _quantized(graph: Any, batch: int, images: CalibrationImages | None) -> Any:
    try:
        import onnx
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise missing_package(str(error.name), "convert") from error
    with temporary_folder() as name:
        before, prepared, after = (name / f"{step}.onnx" for step in "abc")
        try:
            with overheard():
                onnx.save(graph, before)
                quant_pre_process(before, prepared, skip_symbolic_shape=True)
                if images is None:
                    quantization.quantize_dynamic(
                        prepared, after, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True
                    )
                else:
                    quantization.quantize_static(
                        prepared,
                        after,
                        _Reader(images.batches(batch)),
                        op_types_to_quantize=_LINEAR,
                        per_channel=True,
                        activation_type=quantization.QuantType.QUInt8,
                        weight_type=quantization.QuantType.QInt8,
                    )
                return onnx.load(after)
        except Exception as error:  # the quantizer raises whatever its parts do
            raise ConversionError(
                f"ONNX Runtime cannot quantize the model: {first_line(error)}"
            ) from error


class _Reader:
    """Calibration batches as ONNX Runtime asks for them."""

    def __init__(self, batches: Iterator[Any]) -> None:
        self._batches = batches

    def get_next(self) -> dict[str, Any] | None:
        """The next feeds, or None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {PIXELS: batch}
