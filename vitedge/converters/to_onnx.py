"""ONNX: the graph that ONNX Runtime's CPU kernels run fastest, in standard operators only.

* Tokens are a matrix ``(batch * tokens, dim)``; q, k and v are one product. Attention is plain
  MatMul and Softmax, which ONNX Runtime fuses itself: its fused attention operators were slower.
* int8: the input of a linear layer is quantized when it runs (DynamicQuantizeLinear, one uint8
  scale per tensor) or with a calibrated range (QuantizeLinear), as the recipe says, and multiplied
  as integers; everything between linear layers stays float.
* fp16: weights are stored in half and widened once, when the session is made. ONNX Runtime's CPU
  has few float16 kernels, so computing in half would only add casts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitedge.artifact import METADATA_KEY, Metadata
from vitedge.converters.onnx_emitter import OnnxEmitter
from vitedge.converters.onnx_integer import OnnxIntegerEmitter
from vitedge.errors import ConversionError, missing_package
from vitedge.quantize import Activations, Recipe
from vitedge.spec import Format, Precision
from vitedge.vit import ViT

# A protobuf message ends at 2 GiB; weights beyond that lie in a file beside the model.
_PROTOBUF_LIMIT = 2**31 - 1

_REFUSALS: Mapping[Precision, str] = {
    Precision.INT4: "being written",
}


@dataclass(frozen=True)
class OnnxConverter:
    """Writes ``.onnx`` files."""

    format: Format = Format.ONNX
    precisions: tuple[Precision, ...] = (
        Precision.FP32,
        Precision.FP16,
        Precision.INT8,
        Precision.INT8_STATIC,
        Precision.W8A16,
    )
    activations: Activations = Activations.PER_TENSOR
    refusals: Mapping[Precision, str] = field(default_factory=lambda: _REFUSALS)

    def convert(self, vit: ViT, recipe: Recipe, *, batch: int = 1) -> OnnxDraft:
        """See ``Converter``."""
        try:
            import onnx  # noqa: F401
        except ImportError as error:
            raise missing_package("onnx", "convert") from error
        emitter = OnnxIntegerEmitter if recipe.tensors else OnnxEmitter
        return OnnxDraft(emitter(vit, recipe, batch).emit())


@dataclass(frozen=True)
class OnnxDraft:
    """A finished graph; see ``Draft``."""

    model: Any

    def save(self, path: Path, metadata: Metadata) -> None:
        """See ``Draft``."""
        import onnx

        if self.model.ByteSize() > _PROTOBUF_LIMIT - (1 << 20):
            raise ConversionError(
                f"an ONNX file of {self.model.ByteSize() / 2**30:.1f} GiB is over protobuf's limit "
                "of 2 GiB; convert with --fp16 or --int8"
            )
        finished = onnx.ModelProto()
        finished.CopyFrom(self.model)
        finished.metadata_props.add(key=METADATA_KEY, value=metadata.to_json())
        path.write_bytes(finished.SerializeToString())


PLUGIN = OnnxConverter()
