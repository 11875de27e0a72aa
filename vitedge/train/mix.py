"""Mixup and CutMix: every image of a batch meets the one at the opposite end of the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vitedge.train.share import Share, whole

if TYPE_CHECKING:
    from vitedge.train.recipe import Augmentation

# Keeps these draws apart from those of other steps that share the batch's seed.
_SALT = 7919


def mix(
    pixels: Any,
    targets: Any,
    augmentation: Augmentation,
    seed: Any,
    share: Share | None = None,
) -> tuple[Any, Any]:
    """Blends a batch with its own reverse.

    Args:
        pixels: uint8 ``(B, H, W, C)``.
        targets: float32 ``(B, classes)``; each row sums to 1, and still does afterwards.
        augmentation: Says which of the two, and how much.
        seed: Two integers that alone decide the outcome.
        share: The part of a batch that the images are; None means all of it.
    """
    import tensorflow as tf

    seed, share = seed + _SALT, share or whole(len(pixels))
    if augmentation.mixup and augmentation.cutmix:
        mixed: tuple[Any, Any] = tf.cond(
            tf.random.stateless_uniform((), seed + 1) < 0.5,
            lambda: _mixup(pixels, targets, augmentation.mixup, seed, share),
            lambda: _cutmix(pixels, targets, augmentation.cutmix, seed, share),
        )
        return mixed
    if augmentation.mixup:
        return _mixup(pixels, targets, augmentation.mixup, seed, share)
    if augmentation.cutmix:
        return _cutmix(pixels, targets, augmentation.cutmix, seed, share)
    return pixels, targets


def _mixup(pixels: Any, targets: Any, alpha: float, seed: Any, share: Share) -> tuple[Any, Any]:
    import tensorflow as tf

    kept = share.take(_beta(share.of, alpha, seed))
    broad = kept[:, None, None, None]
    real = tf.cast(pixels, tf.float32)
    blended = tf.round(real * broad + real[::-1] * (1 - broad))
    return tf.cast(blended, pixels.dtype), _blend(targets, kept)


def _cutmix(pixels: Any, targets: Any, alpha: float, seed: Any, share: Share) -> tuple[Any, Any]:
    import tensorflow as tf

    _, height, width, _ = pixels.shape
    side = tf.sqrt(1 - share.take(_beta(share.of, alpha, seed)))
    centres = share.take(tf.random.stateless_uniform((2, share.of), seed + 2), axis=1)
    rows, columns = tf.range(height, dtype=tf.float32), tf.range(width, dtype=tf.float32)
    inside_rows = _inside(rows, centres[0] * height, side * height)
    inside_columns = _inside(columns, centres[1] * width, side * width)
    inside = inside_rows[:, :, None] & inside_columns[:, None, :]
    # A box that reaches over the edge is smaller than drawn, so what is kept is counted.
    kept = 1 - tf.reduce_mean(tf.cast(inside, tf.float32), axis=(1, 2))
    return tf.where(inside[..., None], pixels[::-1], pixels), _blend(targets, kept)


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


def _blend(targets: Any, kept: Any) -> Any:
    return targets * kept[:, None] + targets[::-1] * (1 - kept[:, None])
