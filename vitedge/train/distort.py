"""Random shifts, rotations and zooms of a whole batch at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from vitedge.train.share import Share, whole

if TYPE_CHECKING:
    from vitedge.train.recipe import Augmentation


def distort(pixels: Any, augmentation: Augmentation, seed: Any, share: Share | None = None) -> Any:
    """Shifts, rotates and zooms each image by its own random amounts; black comes in.

    Args:
        pixels: A tensor ``(B, H, W, C)`` of static shape; its dtype is kept.
        augmentation: The largest amounts.
        seed: Two integers that alone decide the amounts.
        share: The part of a batch that the images are; None means all of it.
    """
    import tensorflow as tf

    if not (augmentation.shift or augmentation.rotation or augmentation.zoom):
        return pixels
    count, height, width, _ = pixels.shape
    share = share or whole(count)
    amounts = share.take(tf.random.stateless_uniform((4, share.of), seed, -1.0, 1.0), axis=1)
    shift_x = amounts[0] * augmentation.shift * width
    shift_y = amounts[1] * augmentation.shift * height
    angle = amounts[2] * math.radians(augmentation.rotation)
    scale = 1.0 / (1.0 + amounts[3] * augmentation.zoom)
    cosine, sine = tf.cos(angle) * scale, tf.sin(angle) * scale
    # The operator maps output to input coordinates; the centre of the image stays the centre.
    center_x, center_y = (width - 1) / 2, (height - 1) / 2
    offset_x = center_x + shift_x - cosine * center_x + sine * center_y
    offset_y = center_y + shift_y - sine * center_x - cosine * center_y
    zeros = tf.zeros_like(angle)
    rows = [cosine, -sine, offset_x, sine, cosine, offset_y, zeros, zeros]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=pixels,
        transforms=tf.stack(rows, axis=1),
        output_shape=(height, width),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
