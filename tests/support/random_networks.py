"""Networks of elements that are put together at random, as real models have them and worse."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tests.support.random_attention import DIM, GRID, HEADS, MIXERS, Parts
from tests.support.random_weights import PREPROCESSING, SIDE, Weights
from vitedge.elements.attention_pooling import attention_pooling
from vitedge.elements.kinds import Pooling
from vitedge.elements.mlp import mlp
from vitedge.elements.patches import patches
from vitedge.elements.pooling import pooled
from vitedge.elements.swiglu import swiglu
from vitedge.network.kinds import MLP_ACTIVATIONS, Activation, NormKind
from vitedge.network.network import Builder, Network, Value
from vitedge.network.operators import (
    Activate,
    Add,
    Concatenate,
    Constant,
    Multiply,
    Pixels,
    Pool,
    PoolKind,
    Reshape,
    Resize,
    ResizeKind,
    Standardize,
    Take,
    Transpose,
)

HIDDEN = 10


@dataclass(frozen=True)
class Plan:
    """What a network is made of.

    Attributes:
        stem: How pixels become tokens.
        attention: How tokens are mixed.
        mlp: What works on each token.
        norms: Where a block normalises.
        pooling: How tokens become what the head reads; None is by learned queries.
        kind: Of norms.
        prefix_tokens: How many stand before the patches.
        input_norm: Whether tokens are normalised before the first block.
        final_norm: Whether they are behind the last.
        outputs: What the network shows.
    """

    stem: str = "patches"
    attention: str = "plain"
    mlp: str = "plain"
    norms: str = "pre"
    pooling: Pooling | None = Pooling.CLASS
    kind: NormKind = NormKind.LAYER
    prefix_tokens: int = 1
    input_norm: bool = False
    final_norm: bool = True
    outputs: str = "logits"


STEMS = ("patches", "convolutions", "padded convolution", "max pool", "two streams", "resized")
MLPS = ("plain", "swiglu", "normed swiglu", "scaled", "convolution", "shared")
NORMS = ("pre", "post", "sandwich", "parallel")
OUTPUTS = ("logits", "tokens too", "stream too", "two heads", "joined")


def random_plan(seed: int) -> Plan:
    """Any plan; windows and convolutions have no prefix."""
    pick = Weights(np.random.default_rng(seed))
    way, mlp_kind = pick.one_of(tuple(MIXERS)), pick.one_of(MLPS)
    bare = way == "windows" or mlp_kind == "convolution"
    poolings = (Pooling.MEAN, Pooling.FLATTEN, None) if bare else (*Pooling, None)
    return Plan(
        stem=pick.one_of(STEMS),
        attention=way,
        mlp=mlp_kind,
        norms=pick.one_of(NORMS),
        pooling=pick.one_of(poolings),
        kind=pick.one_of((NormKind.LAYER, NormKind.LAYER, NormKind.RMS)),
        prefix_tokens=0 if bare else pick.one_of((2, 3)),
        input_norm=pick.chance(0.2),
        final_norm=pick.chance(0.8),
        outputs=pick.one_of(OUTPUTS),
    )


def enlarged_network(seed: int) -> Network:
    """A random network whose image is made smaller, and enlarged by a transposed convolution."""
    return assembled_network(seed, replace(random_plan(seed), stem="enlarged"))


def decoded_network(seed: int) -> Network:
    """A random network with a decoder, which enlarges its image and multiplies it."""
    return assembled_network(seed, replace(random_plan(seed), outputs="decoded"))


def assembled_network(seed: int, plan: Plan | None = None, *, depth: int = 2) -> Network:
    """The network of a plan, random where none is given, with random weights."""
    return _Assembly(plan or random_plan(seed), seed).network(depth)


class _Assembly(Parts):
    """Makes the parts of a network."""

    def __init__(self, plan: Plan, seed: int) -> None:
        super().__init__(seed, plan.prefix_tokens, plan.kind)
        self.plan = plan
        self.shared: Value | None = None

    def network(self, depth: int) -> Network:
        plan, net = self.plan, self.net
        x = embedded = self._embedded()
        if plan.input_norm:
            x = self.norm(x, "input_norm")
        for index in range(depth):
            x = self._block(x, f"blocks.{index}")
        stream = x
        x = self.norm(x, "norm") if plan.final_norm else x
        y = self._pooled(x)
        outputs = {"logits": net("head", self.weights.linear(y.shape[-1], 5), y)}
        match plan.outputs:
            case "tokens too":
                outputs["tokens"] = x
            case "stream too":
                outputs["stream"] = stream
            case "two heads":
                outputs["depth"] = net("depth", self.weights.linear(DIM, 2), x)
            case "joined":
                both = net("both", Concatenate(1), x, embedded)
                outputs["depth"] = net("depth", self.weights.linear(2 * DIM, 2), both)
            case "decoded":
                outputs["map"] = self._decoded(x, embedded)
        return net.network(outputs, PREPROCESSING)

    # --- what a network begins and ends with

    def _embedded(self) -> Value:
        net, weights, plan = self.net, self.weights, self.plan
        pixels = net("pixels", Pixels(SIDE, SIDE, 3))
        x = net("pixels/shifted", Standardize(PREPROCESSING.mean, PREPROCESSING.std), pixels)
        match plan.stem:
            case "convolutions":
                x = net("stem.0", weights.convolution(3, 6, 2, stride=2), x)
                x = net("stem.0/gelu", Activate(Activation.GELU), x)
                x = net("stem.1", weights.convolution(6, DIM, 3, groups=2, padding=1), x)
                x = net("patch", Reshape((GRID * GRID, DIM)), x)
            case "padded convolution" | "max pool" as stem:
                x = net("stem", weights.convolution(3, DIM, 3, padding=1), x)
                kind = PoolKind.MAX if stem == "max pool" else PoolKind.AVERAGE
                x = net("stem/pool", Pool(kind, (2, 2), (2, 2)), x)
                x = net("patch", Reshape((GRID * GRID, DIM)), x)
            case "enlarged":
                x = net("small", weights.convolution(3, 6, 2, stride=2), x)
                x = enlarged_by_overlap(net, x, weights)
                x = net("patch", weights.linear(12, DIM), patches(net, x, (2, 2), "patches"))
            case "two streams":
                small = net("small", Resize(GRID, GRID, weights.one_of(tuple(ResizeKind))), x)
                rows = net("small/rows", Reshape((GRID * GRID, 3)), small)
                other = net("patch.1", weights.linear(3, DIM), rows)
                x = net("patch.0", weights.linear(12, DIM), patches(net, x, (2, 2), "patches"))
                x = net("patch", Add(), x, other)
            case "resized":
                x = net("patch", weights.linear(3, DIM), x)
                x = net("patch/small", Resize(GRID, GRID, ResizeKind.BILINEAR), x)
                x = net("patch/rows", Reshape((GRID * GRID, DIM)), x)
            case _:
                x = net("patch", weights.linear(12, DIM), patches(net, x, (2, 2), "patches"))
        positions = Constant(weights.array(GRID * GRID, DIM, scale=0.5))
        x = net("embedded", Add(), x, net("positions", positions))
        if plan.prefix_tokens:
            prefix = net("prefix", Constant(weights.array(plan.prefix_tokens, DIM)))
            x = net("tokens", Concatenate(0), prefix, x)
        return x

    def _pooled(self, x: Value) -> Value:
        net, weights, plan = self.net, self.weights, self.plan
        if plan.pooling is not None:
            return pooled(net, x, plan.pooling, plan.prefix_tokens)
        y = attention_pooling(
            net, x, weights.array(1, DIM), self.attention_weights(), "pool", heads=HEADS, scale=0.5
        )
        grown = mlp(
            net, self.norm(y, "pool.norm"), weights.linear(DIM, HIDDEN),
            weights.linear(HIDDEN, DIM), "pool", activation=Activation.GELU,
        )  # fmt: skip
        return net("pool/vector", Reshape((DIM,)), net("pool/out", Add(), y, grown))

    def _decoded(self, *tokens: Value) -> Value:
        """The images of tokens, twice as large and side by side, to a map."""
        net, weights = self.net, self.weights
        images = []
        for name, read in zip(("decoder.0", "decoder.1"), tokens, strict=True):
            patches = tuple(range(read.shape[0] - GRID * GRID, read.shape[0]))
            x = net(f"{name}/patches", Take(0, patches), read)
            x = net(name, weights.linear(DIM, DIM), x)
            x = net(f"{name}/image", Reshape((GRID, GRID, DIM)), x)
            way = weights.one_of(tuple(ResizeKind))
            images.append(net(f"{name}/large", Resize(2 * GRID, 2 * GRID, way), x))
        return net("map", weights.linear(2 * DIM, 3), net("decoder/all", Concatenate(2), *images))

    # --- blocks

    def _block(self, x: Value, name: str) -> Value:
        net = self.net
        match self.plan.norms:
            case "post":
                x = net(f"{name}/attended", Add(), x, self._mixed(x, name))
                x = self.norm(x, f"{name}.norm1")
                x = net(f"{name}/out", Add(), x, self._grown(x, name))
                return self.norm(x, f"{name}.norm2")
            case "parallel":
                read = self.norm(x, f"{name}.norm1")
                x = net(f"{name}/attended", Add(), x, self._mixed(read, name))
                return net(f"{name}/out", Add(), self._grown(read, name), x)
            case "sandwich":
                mixed = self._mixed(self.norm(x, f"{name}.norm1"), name)
                x = net(f"{name}/attended", Add(), x, self.norm(mixed, f"{name}.norm3"))
            case _:
                mixed = self._mixed(self.norm(x, f"{name}.norm1"), name)
                x = net(f"{name}/attended", Add(), x, mixed)
        grown = self._grown(self.norm(x, f"{name}.norm2"), name)
        return net(f"{name}/out", Add(), x, grown)

    def _mixed(self, x: Value, name: str) -> Value:
        return MIXERS[self.plan.attention](self, x, name)

    def _grown(self, x: Value, name: str) -> Value:
        net, weights = self.net, self.weights
        up, down = weights.linear(DIM, HIDDEN), weights.linear(HIDDEN, DIM)
        match self.plan.mlp:
            case "swiglu" | "normed swiglu":
                norm = weights.norm(HIDDEN) if self.plan.mlp == "normed swiglu" else None
                return swiglu(net, x, up, weights.linear(DIM, HIDDEN), down, name, norm=norm)
            case "convolution":
                cut = net(f"{name}/image", Reshape((GRID, GRID, DIM)), x)
                deep = weights.convolution(DIM, DIM, 3, groups=DIM, padding=1)
                x = net(f"{name}/rows", Reshape(x.shape), net(f"{name}.deep", deep, cut))
            case "shared":
                if self.shared is None:
                    self.shared = net("shared", weights.linear(DIM, DIM), x)
                return net(f"{name}/multiplied", Multiply(), self.shared, x)
        y = mlp(net, x, up, down, name, activation=weights.one_of(MLP_ACTIVATIONS))
        if self.plan.mlp == "scaled":
            scale = net(f"{name}.scale", Constant(weights.array(DIM, scale=0.3, shift=1.0)))
            y = net(f"{name}/layer_scale", Multiply(), y, scale)
        return y


def enlarged_by_overlap(net: Builder, x: Value, weights: Weights) -> Value:
    """A transposed convolution, kernel 4 and stride 2, as four phases of a window of 3."""
    rows, columns, channels = x.shape
    layer = weights.convolution(channels, 12, 3, padding=1)
    phases = layer.weight.reshape(3, 3, channels, 2, 2, 3).copy()
    phases[2, :, :, 0], phases[0, :, :, 1] = 0, 0
    phases[:, 2, :, :, 0], phases[:, 0, :, :, 1] = 0, 0
    x = net("large", replace(layer, weight=phases.reshape(layer.weight.shape)), x)
    x = net("large/phases", Reshape((rows, columns, 2, 6)), x)
    x = net("large/rows", Transpose((0, 2, 1, 3)), x)
    return net("large/image", Reshape((2 * rows, 2 * columns, 3)), x)
