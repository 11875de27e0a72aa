"""OpenVINO: the graph that its CPU plug-in fuses whole, from its own operators.

* Tokens are ``(batch, tokens, dim)``, those of images and windows too: OpenVINO 2026.4 fuses biases
  and norms of three axes alone. As a matrix they would be as fast, but it then crashes while it
  compiles: one of its fusions of small linear layers (dim up to 256, fewer than four tokens,
  followed by a residual sum) reads past two dimensions.
* LayerNorm is one MVN, attention is MatMul, Softmax, MatMul on static shapes.
* int8: a FakeQuantize with the calibrated range stands before each linear layer, and its weight is
  int8 with one scale per output channel; the plug-in makes one integer kernel of it. Where the
  outputs gain enough for the time, each token is divided by its largest number before, and
  multiplied back behind; the tokens of thin layers are left to the plug-in. Everything between
  linear layers stays float (bfloat16 where the processor has it).
* int4: groups of weights are widened, less their zero point, times their scale, which the plug-in
  does inside the product.
* fp16: weights are stored in half and widened when the model is compiled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitedge.artifacts.metadata import METADATA_KEY, Metadata
from vitedge.converters.model_info import SECTION, model_info
from vitedge.converters.openvino.emitter import OpenVINOEmitter
from vitedge.errors import ConversionError, missing_package
from vitedge.network.network import Network
from vitedge.quantize import Activations, Recipe
from vitedge.quantize.break_even import BreakEven
from vitedge.rewrite.learnt_grid import Groups
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Arithmetic, Precision

_REFUSALS: Mapping[Precision, str] = {
    Precision.INT8_STATIC: "its int8 is static already, and its plug-ins choose themselves what "
    "stays float on a device; take --int8",
    Precision.W8A16: "its plug-ins have no 16-bit integer activations; take --int8 or --fp16",
}


# Half of 32: two decibels of the logits, zero points included, for 3 % of time; see
# docs/decisions/0026.
_GROUPS = Groups(16, zero_points=True)

# Measured with AMX, of 12 pairs of layers (docs/decisions/0072 and 0080), and with VNNI and
# bfloat16, of 22 convolutions (docs/decisions/0084).
_BREAK_EVEN = BreakEven(
    of_convolutions=20,
    convolves=True,
    convolves_pixels=True,
    in_stages=True,
    of_divided_tokens=60,
    of_scaling=15,
)


@dataclass(frozen=True)
class OpenVINOConverter:
    """Writes ``.xml`` files with their ``.bin``."""

    format: Format = Format.OPENVINO
    arithmetics: frozenset[Arithmetic] = frozenset({Arithmetic.FLOAT, Arithmetic.MIXED})
    activations: Activations = Activations.STATIC_OR_TOKEN_SCALED
    groups: Groups = _GROUPS
    refusals: Mapping[Precision, str] = field(default_factory=lambda: _REFUSALS)
    break_even: BreakEven = _BREAK_EVEN
    rewrites: tuple[str, ...] = ("centre-stream",)

    def convert(self, network: Network, recipe: Recipe, *, batch: int = 1) -> OpenVINODraft:
        """See ``Converter``."""
        try:
            import openvino  # noqa: F401
        except ImportError as error:
            raise missing_package("openvino", "convert") from error
        return OpenVINODraft(OpenVINOEmitter(network, recipe, batch).emit())


@dataclass(frozen=True)
class OpenVINODraft:
    """A finished graph; see ``Draft``."""

    model: Any

    def save(self, path: Path, metadata: Metadata) -> None:
        """See ``Draft``."""
        import openvino

        describe(self.model, metadata)
        try:
            openvino.serialize(self.model, path, path.with_suffix(".bin"))
        except RuntimeError as error:
            raise ConversionError(f"OpenVINO cannot write '{path}': {error}") from error


def describe(model: Any, metadata: Metadata) -> None:
    """Gives a model our metadata, and that of OpenVINO's Model API beside it."""
    model.set_rt_info(metadata.to_json(), [METADATA_KEY])
    for key, value in model_info(metadata).items():
        model.set_rt_info(value, [SECTION, key])
