"""The backward pass agrees with what the forward pass does to a small change."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from vitedge.quantize.gradients import record_gradients
from vitedge.vit import forward

from tests.models import random_images
from tests.test_rewrite_exact import vits
from vitedge.elements.plain_vit import PlainViT
from vitedge.rewrite import apply_rewrites


@given(vit=vits(), rewritten=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_gradients_predict_what_a_small_error_does(
    vit: PlainViT, rewritten: bool, seed: int
) -> None:
    if rewritten:
        vit, _ = apply_rewrites(vit)
    images = random_images(vit, 2)
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((2, vit.config.classes)).astype(np.float32)
    gradients: dict[str, np.ndarray] = {}

    def keep(name: str, x: np.ndarray, gradient: np.ndarray) -> None:
        gradients[name] = gradient.copy()

    record_gradients(vit, images, directions, keep)
    # The name that is called first stands for the shared input of q, k and v.
    name = rng.choice([name for name in gradients if not name.endswith((".k", ".q"))])
    # Large enough to be seen through float32 rounding, small enough to be linear.
    error = 3e-3 * rng.standard_normal(gradients[name].shape).astype(np.float32)

    def moved(sign: int) -> float:
        def add(layer: str, x: np.ndarray) -> np.ndarray | None:
            return x + sign * error if layer == name else None

        return float((forward(vit, images, add) * directions).sum())

    predicted = float((gradients[name] * error).sum())
    size = float(np.abs(gradients[name] * error).sum())
    # A kink of ReLU or the curvature of a softmax leaves a hundredth of the terms' sizes.
    assert abs((moved(1) - moved(-1)) / 2 - predicted) < 0.01 * size + 1e-4
