"""LayerNorm of a centred residual stream becomes RMSNorm.

Where all that is written into the stream has mean zero (``centre_stream``), so has the stream, and
there is nothing to subtract::

    LN(x) = RMSNorm(x)    where    mean(x) = 0

It saves a reduction and a subtraction; whether that is faster depends on the runtime, so it is
applied only when asked for, or where a converter says so. No linear layer's input changes.
"""

from __future__ import annotations

from dataclasses import replace

from vitedge.network.kinds import NormKind
from vitedge.network.network import Network, with_operators
from vitedge.network.operators import Norm
from vitedge.rewrite.centre_stream import CentreStream, streams_without_mean


class CentreResidual:
    """RMSNorm in place of LayerNorm."""

    name = "centre-residual"
    order = 70
    default = False

    def apply(self, network: Network) -> Network:
        """See the module's docstring; nothing is done where a norm keeps its gamma or beta."""
        centred = CentreStream().apply(network)
        norms = {
            reader: replace(reader.operator, kind=NormKind.RMS)
            for stream in streams_without_mean(centred)
            for reader in stream.readers
            if isinstance(reader.operator, Norm)
        }
        return with_operators(centred, norms) if norms else network


PLUGIN = CentreResidual()
