"""TFLite: the graph that XNNPACK runs fastest, and that GPU delegates accept.

* Tokens are a matrix ``(batch * tokens, dim)``, so that each linear layer is one FULLY_CONNECTED
  with its bias; q, k and v are one.
* A norm without gamma and beta (they are folded into the next linear layer), on a stream of mean
  zero, is five operators. No NEG, which the stock lowering of LayerNorm has and delegates refuse.
* int8: FULLY_CONNECTED with float input and int8 weights runs as per-token dynamic int8 in XNNPACK.
  The patch projection is one too, with pixels as exact integers.
* int4: the same with blocks of 32 inputs that share a scale (BlockwiseQuantization).
* No tensor has more than four dimensions, and no slice drops one (GPU delegates).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vitedge.artifacts.metadata import Metadata
from vitedge.converters.converter import refuse_further_outputs
from vitedge.converters.tflite.emitter import TFLiteEmitter
from vitedge.converters.tflite.integer import TFLiteIntegerEmitter
from vitedge.converters.tflite.metadata import append_labels
from vitedge.converters.tflite.model import TFLiteModel
from vitedge.network.network import Network
from vitedge.quantize import Activations, Recipe
from vitedge.quantize.break_even import BreakEven
from vitedge.rewrite.learnt_grid import COMMON_GROUPS, Groups
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Arithmetic, Precision

# Measured with AMX, of 25 pairs of layers and 28 convolutions (docs/decisions/0071), and with VNNI
# (docs/decisions/0083).
_BREAK_EVEN = BreakEven(
    of_layers=28, of_convolutions=20, convolves=True, asks_tokens=True, in_stages=True
)


@dataclass(frozen=True)
class TFLiteConverter:
    """Writes ``.tflite`` files."""

    format: Format = Format.TFLITE
    arithmetics: frozenset[Arithmetic] = frozenset(Arithmetic)
    activations: Activations = Activations.PER_TOKEN
    groups: Groups = COMMON_GROUPS
    refusals: Mapping[Precision, str] = field(default_factory=dict)
    break_even: BreakEven = _BREAK_EVEN
    # There is no norm operator: what RMSNorm saves is two of six.
    rewrites: tuple[str, ...] = ("centre-residual",)

    def convert(self, network: Network, recipe: Recipe, *, batch: int = 1) -> TFLiteDraft:
        """See ``Converter``."""
        refuse_further_outputs(network, recipe)
        kind = TFLiteIntegerEmitter if recipe.tensors else TFLiteEmitter
        emitter = kind(network, recipe, batch)
        outputs = emitter.emit()
        return TFLiteDraft(emitter.model, outputs)


@dataclass(frozen=True)
class TFLiteDraft:
    """A finished graph; see ``Draft``."""

    model: TFLiteModel
    outputs: Mapping[str, int]

    def save(self, path: Path, metadata: Metadata) -> None:
        """See ``Draft``."""
        description = f"Vision Transformer {metadata.source.name}, {metadata.precision}, by vitedge"
        path.write_bytes(self.model.to_bytes(self.outputs, description, metadata))
        append_labels(path, metadata)
