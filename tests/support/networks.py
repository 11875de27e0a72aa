"""Small networks that are no plain ViT, with random weights of trained sizes."""

from __future__ import annotations

import numpy as np

from vitedge.images.preprocess import Preprocessing
from vitedge.network.kinds import Activation, NormKind
from vitedge.network.network import Builder, Network, Value
from vitedge.network.operators import (
    Activate,
    Add,
    Array,
    Concatenate,
    Constant,
    Convolution,
    Linear,
    Mean,
    Multiply,
    Norm,
    Pixels,
    Pool,
    PoolKind,
    Product,
    Reshape,
    Resize,
    ResizeKind,
    Softmax,
    Standardize,
    Take,
    Transpose,
)

SIDE = 16
DIM = 24
HEADS = 2
WIDTH = DIM // HEADS


class Random:
    """A builder, and weights for it."""

    def __init__(self, seed: int = 0) -> None:
        self.net = Builder()
        self._rng = np.random.default_rng(seed)

    def array(self, *shape: int, scale: float = 1.0, shift: float = 0.0) -> Array:
        return (self._rng.standard_normal(shape) * scale + shift).astype(np.float32)

    def constant(self, name: str, *shape: int, scale: float = 1.0) -> Value:
        return self.net(name, Constant(self.array(*shape, scale=scale)))

    def linear(self, name: str, x: Value, outputs: int) -> Value:
        inputs = x.shape[-1]
        weight = self.array(inputs, outputs, scale=inputs**-0.5)
        return self.net(name, Linear(weight, self.array(outputs, scale=0.1)), x)

    def norm(self, name: str, x: Value, kind: NormKind = NormKind.LAYER) -> Value:
        width = x.shape[-1]
        gamma, beta = self.array(width, scale=0.2, shift=1.0), self.array(width, scale=0.1)
        return self.net(name, Norm(gamma, beta, 1e-6, kind), x)

    def convolution(
        self,
        name: str,
        x: Value,
        outputs: int,
        kernel: tuple[int, int],
        *,
        strides: tuple[int, int] = (1, 1),
        padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0)),
        groups: int = 1,
    ) -> Value:
        shape = (*kernel, x.shape[-1] // groups, outputs)
        weight = self.array(*shape, scale=float(np.prod(shape[:3])) ** -0.5)
        layer = Convolution(weight, self.array(outputs, scale=0.1), strides, padding, groups)
        return self.net(name, layer, x)

    def image(self, side: int = SIDE) -> Value:
        self.pixels = self.net("pixels", Pixels(side, side, 3))
        operator = Standardize((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
        return self.net("pixels/shifted", operator, self.pixels)

    def tokens(self, side: int = SIDE, patch: int = 4) -> Value:
        """``(tokens, DIM)`` of patches, with positions."""
        x, count = self.image(side), side // patch
        cut = self.net("patches/cut", Reshape((count, patch, count, patch * 3)), x)
        turned = self.net("patches/sorted", Transpose((0, 2, 1, 3)), cut)
        x = self.net("patches", Reshape((count * count, patch * patch * 3)), turned)
        x = self.linear("patch", x, DIM)
        return self.net("embedded", Add(), x, self.constant("positions", *x.shape, scale=0.5))

    def by_head(self, x: Value, name: str) -> Value:
        """The last two axes ``(tokens, DIM)`` to ``(heads, tokens, width)``."""
        *leading, tokens, _ = x.shape
        cut = self.net(f"{name}/heads", Reshape((*leading, tokens, HEADS, WIDTH)), x)
        rank = len(leading)
        order = (*range(rank), rank + 1, rank, rank + 2)
        return self.net(f"{name}/by_head", Transpose(order), cut)

    def heads(self, x: Value, name: str) -> list[Value]:
        """Queries, keys and values by head."""
        layers = [self.linear(f"{name}.{part}", x, DIM) for part in "qkv"]
        return [
            self.by_head(layer, f"{name}/{part}") for layer, part in zip(layers, "qkv", strict=True)
        ]

    def joined(self, x: Value, name: str) -> Value:
        *leading, heads, tokens, width = x.shape
        rank = len(leading)
        turned = self.net(f"{name}/joined", Transpose((*range(rank), rank + 1, rank, rank + 2)), x)
        return self.net(f"{name}/heads", Reshape((*leading, tokens, heads * width)), turned)

    def scores(self, q: Value, k: Value, name: str) -> Value:
        scores = self.net(f"{name}/scores", Product(transposed=True), q, k)
        factor = self.net(f"{name}/scaled/by", Constant(np.asarray(WIDTH**-0.5)))
        return self.net(f"{name}/scaled", Multiply(), scores, factor)

    def mixed(self, scores: Value, v: Value, name: str) -> Value:
        shares = self.net(f"{name}/softmax", Softmax(), scores)
        return self.net(f"{name}/mixed", Product(), shares, v)

    def network(self, **outputs: Value) -> Network:
        side, _, channels = self.pixels.shape
        return self.net.network(outputs, Preprocessing(size=(side, side), channels=channels))


def rope_and_swiglu() -> Network:
    """Rotary positions, a gate whose two halves are one product, and RMSNorm."""
    made = Random(1)
    net, x = made.net, made.tokens()
    tokens = x.shape[0]
    cos, sin = made.constant("cos", 1, tokens, WIDTH), made.constant("sin", tokens, WIDTH)
    half = tuple((place + WIDTH // 2) % WIDTH for place in range(WIDTH))
    for name in ("blocks.0", "blocks.1"):
        read = made.norm(f"{name}.norm1", x, NormKind.RMS)
        q, k, v = made.heads(read, name)
        turned = []
        for part, each in (("q", q), ("k", k)):
            swapped = net(f"{name}/{part}/swapped", Take(2, half), each)
            kept = net(f"{name}/{part}/kept", Multiply(), each, cos)
            other = net(f"{name}/{part}/other", Multiply(), swapped, sin)
            turned.append(net(f"{name}/{part}/turned", Add(), kept, other))
        mixed = made.mixed(made.scores(*turned, name), v, name)
        out = made.linear(f"{name}.out", made.joined(mixed, name), DIM)
        x = net(f"{name}/attended", Add(), x, out)
        read = made.norm(f"{name}.norm2", x, NormKind.RMS)
        both = made.linear(f"{name}.fc1", read, 2 * 32)
        gate = net(f"{name}/gate", Take(1, tuple(range(32))), both)
        grown = net(f"{name}/grown", Take(1, tuple(range(32, 64))), both)
        gate = net(f"{name}/gate/silu", Activate(Activation.SILU), gate)
        hidden = net(f"{name}/gated", Multiply(), gate, grown)
        x = net(f"{name}/out", Add(), x, made.linear(f"{name}.fc2", hidden, DIM))
    pooled = net("pooled/mean", Mean(0), made.norm("norm", x, NormKind.RMS))
    return made.network(logits=made.linear("head", pooled, 10))


def windows_with_bias(*, convolves: bool = True) -> Network:
    """Attention in shifted windows with a bias by position, as Swin has it.

    Args:
        convolves: Whether the stem is a convolution, which has no integer form.
    """
    made = Random(2)
    net = made.net
    side, window = 8, 4
    count = side // window
    if convolves:
        x = made.convolution("stem", made.image(), DIM, (2, 2), strides=(2, 2))
        x = net("stem/tokens", Reshape((side * side, DIM)), x)
    else:
        x = made.tokens(patch=2)
    x = made.norm("stem.norm", x)
    for number, shift in enumerate((0, 2)):
        name = f"blocks.{number}"
        read = net(f"{name}/map", Reshape((side, side, DIM)), made.norm(f"{name}.norm1", x))
        places = tuple((place + shift) % side for place in range(side))
        if shift:
            read = net(f"{name}/shifted_rows", Take(0, places), read)
            read = net(f"{name}/shifted", Take(1, places), read)
        cut = net(f"{name}/cut", Reshape((count, window, count, window, DIM)), read)
        cut = net(f"{name}/by_window", Transpose((0, 2, 1, 3, 4)), cut)
        read = net(f"{name}/windows", Reshape((count * count, window * window, DIM)), cut)
        q, k, v = made.heads(read, name)
        bias = made.constant(f"{name}.bias", HEADS, window * window, window * window)
        scores = net(f"{name}/biased", Add(), made.scores(q, k, name), bias)
        mixed = made.joined(made.mixed(scores, v, name), name)
        out = made.linear(f"{name}.out", mixed, DIM)
        back = net(f"{name}/back", Reshape((count, count, window, window, DIM)), out)
        back = net(f"{name}/in_place", Transpose((0, 2, 1, 3, 4)), back)
        back = net(f"{name}/map_again", Reshape((side, side, DIM)), back)
        if shift:
            places = tuple((place - shift) % side for place in range(side))
            back = net(f"{name}/unshifted_rows", Take(0, places), back)
            back = net(f"{name}/unshifted", Take(1, places), back)
        back = net(f"{name}/tokens", Reshape((side * side, DIM)), back)
        x = net(f"{name}/attended", Add(), x, back)
        hidden = made.linear(f"{name}.fc1", made.norm(f"{name}.norm2", x), 40)
        hidden = net(f"{name}.fc1/gelu", Activate(Activation.GELU), hidden)
        x = net(f"{name}/out", Add(), x, made.linear(f"{name}.fc2", hidden, DIM))
    # Four neighbours become one token of four times the channels, as between Swin's stages.
    cut = net("merged/cut", Reshape((side // 2, 2, side // 2, 2, DIM)), x)
    parts = net("merged/parts", Transpose((0, 2, 3, 1, 4)), cut)
    x = net("merged", Reshape(((side // 2) ** 2, 4 * DIM)), parts)
    x = made.linear("reduced", made.norm("merged.norm", x), DIM)
    return made.network(logits=made.linear("head", net("pooled/mean", Mean(0), x), 10))


def convolutional_stages() -> Network:
    """Convolutions of all sorts, pools and resizes; classes and a map."""
    made = Random(3)
    net, one = made.net, ((1, 1), (1, 1))
    x = made.convolution("stem", made.image(18), 16, (3, 3), strides=(2, 2), padding=one)
    x = net("stem/gelu", Activate(Activation.GELU), x)
    deep = made.convolution("depthwise", x, 32, (3, 3), padding=one, groups=16)
    deep = net("depthwise/relu", Activate(Activation.RELU), deep)
    deep = made.convolution("grouped", deep, 24, (3, 2), padding=((2, 0), (0, 1)), groups=4)
    deep = made.linear("pointwise", net("grouped/silu", Activate(Activation.SILU), deep), 16)
    x = net("added", Add(), x, deep)
    largest = net("largest", Pool(PoolKind.MAX, (3, 3), (2, 2), one), x)
    odd = net("odd", Pool(PoolKind.MAX, (3, 2), (2, 3), ((2, 1), (1, 1))), x)
    mean = net("mean", Pool(PoolKind.AVERAGE, (2, 2), (2, 2), ((1, 0), (0, 1))), x)
    same = net("same", Pool(PoolKind.AVERAGE, (3, 3), (1, 1), one), x)
    plain = net("plain", Pool(PoolKind.AVERAGE, (3, 3), (3, 3)), x)
    images = [
        net("largest/up", Resize(9, 10, ResizeKind.BILINEAR), largest),
        net("odd/up", Resize(9, 10, ResizeKind.BILINEAR_CORNERS), odd),
        net("mean/up", Resize(9, 10, ResizeKind.NEAREST), mean),
        net("same/wide", Resize(9, 10, ResizeKind.BILINEAR), same),
        net("plain/up", Resize(9, 10, ResizeKind.NEAREST), plain),
    ]
    whole = net("whole", Resize(18, 20, ResizeKind.NEAREST), images[0])
    less = net("less", Resize(9, 10, ResizeKind.NEAREST), whole)
    x = net("together", Concatenate(2), *images, less)
    x = made.norm("together.norm", x)
    depth = made.convolution("depth", x, 1, (1, 1))
    rows = net("mean_of_rows", Mean(0), x)
    logits = made.linear("head", net("pooled/mean", Mean(0), rows), 10)
    return made.network(logits=logits, depth=depth)


def pooled_by_attention() -> Network:
    """A learnt query, heads that talk to one another, and an embedding of length one."""
    made = Random(4)
    net, x = made.net, made.tokens()
    name = "blocks.0"
    read = made.norm(f"{name}.norm1", x)
    q, k, v = made.heads(read, name)
    scores = net(f"{name}/last", Transpose((1, 2, 0)), made.scores(q, k, name))
    scores = net(f"{name}/talked", Transpose((2, 0, 1)), made.linear(f"{name}.talk", scores, HEADS))
    out = made.linear(f"{name}.out", made.joined(made.mixed(scores, v, name), name), DIM)
    x = net(f"{name}/attended", Add(), x, out)
    tokens = made.norm("norm", x)
    probe = made.constant("probe", 1, DIM)
    grown = net("probe/grown", Multiply(), probe, made.constant("probe.factor", DIM))
    again = net("probe/again", Add(), grown, net("probe.offset", Constant(np.asarray(0.5))))
    q = made.by_head(made.linear("pool.q", again, DIM), "pool/q")
    k, v = (made.by_head(made.linear(f"pool.{part}", tokens, DIM), f"pool/{part}") for part in "kv")
    pooled = made.joined(made.mixed(made.scores(q, k, "pool"), v, "pool"), "pool")
    pooled = made.linear("pool.out", net("pooled", Reshape((DIM,)), pooled), DIM)
    ones, zeros = np.ones(DIM, np.float32), np.zeros(DIM, np.float32)
    embedding = net("embedding", Norm(ones, zeros, 1e-12, NormKind.L2), pooled)
    return made.network(embedding=embedding, tokens=tokens, pooled=pooled)


def many_axes() -> Network:
    """Every operator that may, on tensors of five axes."""
    made = Random(5)
    net = made.net
    x = net("five", Reshape((4, 4, 2, 8, 3)), made.image())
    x = net("backwards", Transpose((3, 1, 4, 0, 2)), x)  # 8, 4, 3, 4, 2
    x = net("scaled", Multiply(), x, made.constant("factor", 1, 4, 1, 4, 1))
    x = net("shifted", Add(), x, made.constant("term", 3, 1, 2))
    rows = net("rows", Pool(PoolKind.AVERAGE, (16, 1)), net("image", Reshape((16, 16, 3)), x))
    narrow = net("narrow", Take(0, (1,)), net("narrow/last", Take(4, (1,)), x))
    x = net("spread", Multiply(), x, narrow)
    x = net("picked", Take(3, (3, 0, 2, 1, 0, 3)), x)  # 8, 4, 3, 6, 2
    x = net("few", Take(1, (1, 2, 0)), x)  # 8, 3, 3, 6, 2
    x = made.norm("norm", x, NormKind.L2)
    square = net("square", Product(transposed=True), x, x)  # 8, 3, 3, 6, 6
    x = net("back", Product(), net("shares", Softmax(), square), x)
    x = net("twice", Concatenate(2), x, x, net("gelu", Activate(Activation.GELU), x))
    x = made.norm("layer", net("mean", Mean(1), x))  # 8, 9, 6, 2
    x = made.linear("inner", net("seen", Reshape((2, 4, 9, 6, 2)), x), 3)
    flat = net("flat", Reshape((2 * 4 * 9 * 6 * 3,)), x)
    logits = made.linear("head", flat, 10)
    flat_rows = net("rows/flat", Reshape((48,)), rows)
    return made.network(logits=logits, five=x, rows=flat_rows)


NETWORKS = (
    rope_and_swiglu,
    windows_with_bias,
    convolutional_stages,
    pooled_by_attention,
    many_axes,
)


def lifted_far(offset: float, layers: tuple[str, ...] = ("blind", "blind.2")) -> Network:
    """A network, some of whose layers read small numbers on a large offset that they do not see.

    Eight bits of such an input are all needed for the offset.
    """
    made = Random(5)
    net = made.net
    x = made.tokens()
    width = x.shape[-1]
    far = net("far", Constant(np.full(width, offset, np.float32)))
    for name in layers:
        moved = net(f"{name}/moved", Add(), x, far)
        # In half precision, too, the offset meets weights that add up to zero.
        half = made.array(width // 2, width, scale=width**-0.5).astype(np.float16)
        weight = np.concatenate([half, -half]).astype(np.float32)
        branch = net(name, Linear(weight, np.zeros(width, np.float32)), moved)
        x = net(f"{name}/added", Add(), x, branch)
        inner = net(f"{name}/gelu", Activate(Activation.GELU), made.linear(f"{name}.a", x, 64))
        x = net(f"{name}/mixed", Add(), x, made.linear(f"{name}.b", inner, width))
    pooled = net("pooled", Mean(0), x)
    return made.network(logits=made.linear("head", pooled, 5))
