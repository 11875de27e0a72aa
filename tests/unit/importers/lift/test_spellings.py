"""However a ViT is written in TensorFlow, the same canonical form comes out."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.lift_spellings import SpelledViT, Spelling
from vitedge.elements.kinds import NormPosition, Pooling
from vitedge.importers.lift import Lifted, lift
from vitedge.importers.lift.embedding import channels_first
from vitedge.importers.lift.tensorflow_probe import TensorFlowProbe
from vitedge.network.kinds import Activation, NormKind

SPELLINGS = {
    "plain": Spelling(),
    "no class token, mean": Spelling(prefix_tokens=0, pooling="mean"),
    "mean beside a class token": Spelling(pooling="mean"),
    "two tokens, two heads": Spelling(prefix_tokens=2, pooling="distilled"),
    "registers": Spelling(prefix_tokens=5),
    "class and mean": Spelling(pooling="class_and_mean"),
    "flatten": Spelling(prefix_tokens=0, pooling="flatten", head_hidden=(12, 9)),
    "class token last": Spelling(prefix_last=True),
    "post-norm": Spelling(norm_position="post", final_norm=False),
    "post-norm after an input norm": Spelling(
        norm_position="post", final_norm=False, input_norm=True
    ),
    "CLIP": Spelling(input_norm=True, activation="quick_gelu"),
    "no final norm": Spelling(final_norm=False),
    "norm after pooling": Spelling(pooling="mean", final_norm=False, pooled_norm=True),
    "norm of the class token": Spelling(final_norm=False, pooled_norm=True),
    "norms before and after pooling": Spelling(pooling="mean", pooled_norm=True),
    "layer scale": Spelling(layer_scale=True),
    "normed queries, separate": Spelling(qk_norm=True),
    "normed queries, fused": Spelling(qk_norm=True, attention="fused"),
    "normed queries, einsum": Spelling(qk_norm=True, attention="einsum"),
    "normed queries, merged heads": Spelling(qk_norm=True, attention="merged"),
    "fused qkv": Spelling(attention="fused"),
    "einsum": Spelling(attention="einsum"),
    "transposed": Spelling(attention="transposed"),
    "heads merged, softmax in parts": Spelling(attention="merged"),
    "one head": Spelling(heads=1, head_dim=24),
    "wide heads": Spelling(heads=2, head_dim=20),
    "norm in parts, centred": Spelling(norm="centred"),
    "norm in parts, divided": Spelling(norm="divided", eps=1e-3),
    "norm in parts, squares": Spelling(norm="squares"),
    "norm as batch normalisation": Spelling(norm="fused", eps=1e-3),
    "RMS": Spelling(norm="rms"),
    "RMS post-norm": Spelling(norm="rms", norm_position="post", final_norm=False),
    "patches extracted": Spelling(patches="extract"),
    "patches reshaped": Spelling(patches="reshape"),
    "oblong": Spelling(image_size=(24, 40), patch_size=(8, 4)),
    "grey": Spelling(channels=1),
    "channels first": Spelling(channels_first=True),
    "rescaled": Spelling(rescaling="unit"),
    "rescaled to -1..1": Spelling(rescaling="symmetric"),
    "normalised inside": Spelling(rescaling="imagenet"),
    "softmax at the end": Spelling(softmax=True),
    "pre-logits": Spelling(head_hidden=(16,)),
    "batch of one": Spelling(batch=1),
    "batch of four": Spelling(batch=4),
    "batch of four, merged heads": Spelling(batch=4, attention="merged", norm="fused", eps=1e-3),
    **{name: Spelling(activation=name) for name in ("gelu_erf", "gelu_tanh", "relu", "silu")},
}


def lifted(spelling: Spelling) -> Lifted:
    probe = TensorFlowProbe(SpelledViT(spelling), spelling.image_shape, spelling.batch)
    return lift(probe)


@pytest.mark.thorough
@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_every_spelling_gives_the_same_config_and_logits(spelling: Spelling) -> None:
    result = lifted(spelling)
    config = result.vit.config
    expected = asdict(spelling)
    for name in ("image_size", "patch_size", "channels", "dim", "depth", "heads", "head_dim"):
        assert getattr(config, name) == expected[name]
    assert config.mlp_dim == spelling.mlp_dim
    assert config.classes == spelling.classes
    assert config.prefix_tokens == spelling.prefix_tokens
    assert config.pooling == Pooling(spelling.pooling)
    assert config.activation == Activation(spelling.activation.removesuffix("_erf"))
    assert config.norm_position == NormPosition(spelling.norm_position)
    assert config.norm_kind == (NormKind.RMS if spelling.norm == "rms" else NormKind.LAYER)
    assert config.raw_pixels == (spelling.rescaling != "none")
    assert result.softmax_removed == spelling.softmax
    assert {norm.eps for _, norm in result.vit.named_norms()} == {spelling.eps}
    # Float32 through two blocks rounds to some 1e-6 of the range; a wrong weight shows at 1e-2.
    assert result.proof.relative < 2e-5


@st.composite
def spellings(draw: st.DrawFn) -> Spelling:
    """Any combination of sizes, choices and spellings that is a vision transformer."""
    patch = draw(st.tuples(st.integers(2, 6), st.integers(2, 6)))
    grid = draw(st.tuples(st.integers(2, 4), st.integers(2, 4)))
    prefix = draw(st.integers(0, 4))
    poolings = ["mean", "flatten"]
    poolings += ["class", "class_and_mean"] if prefix > 0 else []
    poolings += ["distilled"] if prefix > 1 else []
    pre, qk_norm = draw(st.booleans()), draw(st.booleans())
    final_norm = pre and draw(st.booleans())
    pooling = draw(st.sampled_from(poolings))
    return Spelling(
        image_size=(patch[0] * grid[0], patch[1] * grid[1]),
        patch_size=patch,
        channels=draw(st.sampled_from([1, 3])),
        dim=draw(st.integers(3, 30)),
        depth=draw(st.integers(1, 3)),
        heads=draw(st.integers(1, 5)),
        # A LayerNorm of one value is a constant, and of two hardly more than a sign.
        head_dim=draw(st.integers(3 if qk_norm else 1, 12)),
        mlp_dim=draw(st.integers(2, 50)),
        classes=draw(st.integers(2, 12)),
        prefix_tokens=prefix,
        prefix_last=draw(st.booleans()),
        pooling=pooling,
        norm_position="pre" if pre else "post",
        input_norm=draw(st.booleans()),
        final_norm=final_norm,
        pooled_norm=pooling != "flatten" and draw(st.booleans()),
        qk_norm=qk_norm,
        layer_scale=pre and draw(st.booleans()),
        head_hidden=draw(st.sampled_from([(), (9,), (8, 6)])),
        activation=draw(
            st.sampled_from(["gelu", "gelu_erf", "gelu_tanh", "quick_gelu", "relu", "silu"])
        ),
        norm=draw(st.sampled_from(["moments", "centred", "divided", "squares", "fused", "rms"])),
        eps=draw(st.sampled_from([1e-6, 1e-5, 1e-3])),
        attention=draw(st.sampled_from(["separate", "fused", "einsum", "transposed", "merged"])),
        patches=draw(st.sampled_from(["convolution", "extract", "reshape"])),
        rescaling=draw(st.sampled_from(["none", "unit", "symmetric", "imagenet"])),
        channels_first=draw(st.booleans()),
        softmax=draw(st.booleans()),
        batch=draw(st.sampled_from([None, 1, 3])),
        seed=draw(st.integers(0, 99)),
    )


def assert_lifts(spelling: Spelling) -> None:
    result = lifted(spelling)
    config = result.vit.config
    assert config.image_size == spelling.image_size
    assert config.patch_size == spelling.patch_size
    assert (config.heads, config.head_dim) == (spelling.heads, spelling.head_dim)
    # `lift` has compared the logits; random ones of few dims may be ill-conditioned, so it is more
    # lenient than the cases above.
    assert result.proof.relative < 1e-3


@pytest.mark.thorough
@given(spellings())
@settings(max_examples=8, deadline=None, derandomize=True)
def test_random_spellings_lift(spelling: Spelling) -> None:
    assert_lifts(spelling)


@pytest.mark.slow
@given(spellings())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_many_random_spellings_lift(spelling: Spelling) -> None:
    assert_lifts(spelling)


@pytest.mark.parametrize(
    ("shape", "first"),
    [
        ((3, 224, 224), True),
        ((224, 224, 3), False),
        ((1, 4, 4), True),
        ((4, 4, 1), False),
        ((3, 4, 4), True),
        ((4, 8, 3), False),
        ((3, 32, None), True),
        ((None, 32, 3), False),
        ((None, None, None), False),
    ],
)
def test_the_axis_of_the_channels_is_told_by_the_shape(
    shape: tuple[int | None, ...], first: bool
) -> None:
    assert channels_first(shape) is first
