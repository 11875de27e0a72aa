"""Folds gamma and beta of a norm into the linear layers that read it.

With the normalised ``n`` (before gamma and beta)::

    (n gamma + beta) W + b  =  n (diag(gamma) W)  +  (beta W + b)

It holds where linear layers are the only readers, whatever passes the vectors on between: a mean
over tokens keeps channels apart, and where several vectors stand behind one another, gamma and beta
repeat once for each. In a pre-norm block that is what q, k and v, and the MLP, read. In a post-norm
block a norm's output is a term of the next sum as well, so it keeps them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitedge.network.channels import Uses, readers_of_vectors
from vitedge.network.network import Network, Value, with_operators
from vitedge.network.operators import Array, Linear, Norm, Operator


class FoldNormAffine:
    """Norms without gamma and beta."""

    name = "fold-norm-affine"
    order = 20
    default = True

    def apply(self, network: Network) -> Network:
        """See the module's docstring."""
        uses = Uses.of(network)
        folded: dict[Value, Operator] = {}
        for value in network.values:
            if isinstance(value.operator, Norm) and not value.operator.is_plain:
                layers = readers_of_vectors(value, uses)
                if layers and all(isinstance(each.operator, Linear) for each in layers):
                    folded |= {each: _fold(value.operator, each.operator) for each in layers}
                    folded[value] = _plain(value.operator)
        return with_operators(network, folded)


def _fold(norm: Norm, layer: Operator) -> Linear:
    """The layer that reads the plain norm in place of ``norm``."""
    assert isinstance(layer, Linear)
    repeats = layer.weight.shape[0] // norm.gamma.shape[0]
    weight = layer.weight.astype(np.float64)
    return Linear(
        (np.tile(norm.gamma, repeats)[:, None] * weight).astype(np.float32),
        (layer.bias + np.tile(norm.beta, repeats) @ weight).astype(np.float32),
    )


def _plain(norm: Norm) -> Norm:
    """The norm with gamma 1 and beta 0."""
    ones: Array = np.ones_like(norm.gamma)
    return replace(norm, gamma=ones, beta=np.zeros_like(norm.beta))


PLUGIN = FoldNormAffine()
