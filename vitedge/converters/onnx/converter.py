"""ONNX: the graph that ONNX Runtime's CPU kernels run fastest, in standard operators only.

* Tokens are a matrix ``(batch * tokens, dim)``; q, k and v are one product. Attention is plain
  MatMul and Softmax, which ONNX Runtime fuses itself: its fused attention operators were slower.
* int8: the input of a linear layer is quantized when it runs (DynamicQuantizeLinear, one uint8
  scale per tensor) or with a calibrated range (QuantizeLinear), as the recipe says, and multiplied
  as integers; everything between linear layers stays float.
* int4: a DequantizeLinear in blocks stands before each Gemm, and ONNX Runtime makes one MatMulNBits
  of both. Scales are stored in half precision.
* fp16: weights are stored in half and widened once, when the session is made. ONNX Runtime's CPU
  has few float16 kernels, so computing in half would only add casts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitedge.artifacts.metadata import Metadata
from vitedge.converters.onnx.emitter import OnnxEmitter
from vitedge.converters.onnx.file import write_onnx
from vitedge.converters.onnx.integer import OnnxIntegerEmitter
from vitedge.errors import missing_package
from vitedge.network.network import Network
from vitedge.quantize import Activations, Recipe
from vitedge.quantize.break_even import BreakEven
from vitedge.rewrite.learnt_grid import Groups
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Arithmetic, Precision

# The smallest that ONNX Runtime fuses to MatMulNBits.
_GROUPS = Groups(16, zero_points=True)

# Measured with AMX, of 12 pairs of convolutions and 15 single ones (docs/decisions/0066).
_BREAK_EVEN = BreakEven(of_layers=100, of_convolutions=100)


@dataclass(frozen=True)
class OnnxConverter:
    """Writes ``.onnx`` files."""

    format: Format = Format.ONNX
    arithmetics: frozenset[Arithmetic] = frozenset(Arithmetic)
    activations: Activations = Activations.PER_TENSOR
    groups: Groups = _GROUPS
    refusals: Mapping[Precision, str] = field(default_factory=dict)
    break_even: BreakEven = _BREAK_EVEN
    rewrites: tuple[str, ...] = ()

    def convert(self, network: Network, recipe: Recipe, *, batch: int = 1) -> OnnxDraft:
        """See ``Converter``."""
        try:
            import onnx  # noqa: F401
        except ImportError as error:
            raise missing_package("onnx", "convert") from error
        emitter = OnnxIntegerEmitter if recipe.tensors else OnnxEmitter
        return OnnxDraft(emitter(network, recipe, batch).emit(), batch_leads=True)


@dataclass(frozen=True)
class OnnxDraft:
    """A finished graph; see ``Draft``.

    Attributes:
        model: The ``ModelProto``.
        batch_leads: Whether the first axis of every tensor that is made of images is the batch, as
            ``with_any_batch`` needs it.
    """

    model: Any
    batch_leads: bool = False

    def save(self, path: Path, metadata: Metadata) -> None:
        """See ``Draft``."""
        write_onnx(self.model, path, metadata)
