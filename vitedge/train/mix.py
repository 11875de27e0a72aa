"""Mixup and CutMix: every image of a batch meets the one at the opposite end of the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitedge.train.recipe import Augmentation

# Keeps these draws apart from those of other steps that share the batch's seed.
_SALT = 7919


def mix(pixels: Any, targets: Any, augmentation: Augmentation, seed: Any) -> tuple[Any, Any]:
    """Blends a batch with its own reverse.

    Args:
        pixels: uint8 ``(B, H, W, C)``.
        targets: float32 ``(B, classes)``; each row sums to 1, and still does afterwards.
        augmentation: Says which of the two, and how much.
        seed: Two integers that alone decide the outcome.
    """
    import tensorflow as tf

    seed = seed + _SALT
    if augmentation.mixup and augmentation.cutmix:
        mixed: tuple[Any, Any] = tf.cond(
            tf.random.stateless_uniform((), seed + 1) < 0.5,
            lambda: _mixup(pixels, targets, augmentation.mixup, seed),
            lambda: _cutmix(pixels, targets, augmentation.cutmix, seed),
        )
        return mixed
    if augmentation.mixup:
        return _mixup(pixels, targets, augmentation.mixup, seed)
    if augmentation.cutmix:
        return _cutmix(pixels, targets, augmentation.cutmix, seed)
    return pixels, targets


def _mixup(pixels: Any, targets: Any, alpha: float, seed: Any) -> tuple[Any, Any]:
    import tensorflow as tf

    share = _beta(len(pixels), alpha, seed)
    broad = share[:, None, None, None]
    real = tf.cast(pixels, tf.float32)
    blended = tf.round(real * broad + real[::-1] * (1 - broad))
    return tf.cast(blended, pixels.dtype), _blend(targets, share)


def _cutmix(pixels: Any, targets: Any, alpha: float, seed: Any) -> tuple[Any, Any]:
    import tensorflow as tf

    count, height, width, _ = pixels.shape
    side = tf.sqrt(1 - _beta(count, alpha, seed))
    centres = tf.random.stateless_uniform((2, count), seed + 2)
    rows, columns = tf.range(height, dtype=tf.float32), tf.range(width, dtype=tf.float32)
    inside_rows = _inside(rows, centres[0] * height, side * height)
    inside_columns = _inside(columns, centres[1] * width, side * width)
    inside = inside_rows[:, :, None] & inside_columns[:, None, :]
    # A box that reaches over the edge is smaller than drawn, so the share is counted.
    share = 1 - tf.reduce_mean(tf.cast(inside, tf.float32), axis=(1, 2))
    return tf.where(inside[..., None], pixels[::-1], pixels), _blend(targets, share)


def _inside(positions: Any, centre: Any, length: Any) -> Any:
    """Whether each position lies within each image's interval, ``(B, positions)``."""
    import tensorflow as tf

    return tf.abs(positions[None, :] + 0.5 - centre[:, None]) < length[:, None] / 2


def _beta(count: int, alpha: float, seed: Any) -> Any:
    """Draws from Beta(alpha, alpha), ``(count,)``."""
    import tensorflow as tf

    gammas = tf.random.stateless_gamma((2, count), seed, alpha)
    # Both can underflow to 0 where alpha is small.
    return tf.math.divide_no_nan(gammas[0], gammas[0] + gammas[1])


def _blend(targets: Any, share: Any) -> Any:
    return targets * share[:, None] + targets[::-1] * (1 - share[:, None])
