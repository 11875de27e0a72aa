"""LayerNorm of a centred residual stream becomes RMSNorm.

Where all that is written into the stream has mean zero (``centre_stream``), so has the stream, and
there is nothing to subtract::

    LN(x) = RMSNorm(x)    where    mean(x) = 0

It saves a reduction and a subtraction; whether that is faster depends on the runtime, so it is
applied only when asked for, or where a converter says so. No linear layer's input changes.
"""

from __future__ import annotations

from dataclasses import replace

from vitedge.rewrite.centre_stream import CentreStream, reads_no_mean
from vitedge.spec import NormKind
from vitedge.vit import ViT


class CentreResidual:
    """RMSNorm in place of LayerNorm."""

    name = "centre-residual"
    order = 70
    default = False

    def apply(self, vit: ViT) -> ViT:
        """See the module's docstring; nothing is done where a norm keeps its gamma or beta."""
        if not reads_no_mean(vit):
            return vit
        centred = CentreStream().apply(vit)
        return replace(centred, config=replace(centred.config, norm_kind=NormKind.RMS))


PLUGIN = CentreResidual()
