"""Mixed precision: matrix products in a shorter float, all else in float32."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from vitedge.errors import UsageError
from vitedge.machine.processor import processor_flags
from vitedge.train.recipe import Products

AUTO, OFF = "auto", "off"

# Below 8 a GPU computes float16 only (docs.nvidia.com/cuda, arithmetic by compute capability).
_BFLOAT16_CAPABILITY = (8, 0)
_FLOAT16_CAPABILITY = (7, 0)
# As Linux spells them. The first is where benchmarks/mixed_precision.py was run.
_BFLOAT16_FLAGS = ("avx512_bf16", "amx_bf16")

# TensorFlow's own start and period, tf.keras.mixed_precision.LossScaleOptimizer.
_FIRST_SCALE = 2.0**15
_STEPS_TO_DOUBLE = 2000


@dataclass(frozen=True)
class Chosen:
    """The type that matrix products compute in, and the reason, in words."""

    products: Products
    reason: str


def choose(wanted: str) -> Chosen:
    """Turns a wish into what this machine does.

    Args:
        wanted: ``auto``: the shorter float that the device computes faster, if there is one;
            ``off``: float32; or a dtype, whatever the device.

    Raises:
        UsageError: ``wanted`` is not one of the choices.
    """
    if wanted == AUTO:
        import tensorflow as tf

        devices = tf.config.list_physical_devices("GPU")
        details = [tf.config.experimental.get_device_details(device) for device in devices]
        capabilities = [tuple(each.get("compute_capability", (0, 0))) for each in details]
        return fastest(capabilities, processor_flags())
    if wanted == OFF:
        return Chosen(Products.FLOAT32, "mixed precision is off")
    if wanted not in tuple(Products):
        raise UsageError(f"mixed precision is auto, off, bfloat16 or float16, not '{wanted}'")
    return Chosen(Products(wanted), "as asked")


def fastest(capabilities: Sequence[tuple[int, ...]], flags: Collection[str]) -> Chosen:
    """The dtype that devices compute fastest and that trains as surely as float32.

    Args:
        capabilities: Compute capability of each GPU; they come before the processor.
        flags: The processor's features, as Linux spells them.
    """
    if capabilities:
        weakest = min(capabilities)
        gpu = f"the GPU's compute capability is {weakest[0]}.{weakest[1]}"
        if weakest >= _BFLOAT16_CAPABILITY:
            return Chosen(Products.BFLOAT16, gpu)
        if weakest >= _FLOAT16_CAPABILITY:
            return Chosen(Products.FLOAT16, gpu)
        return Chosen(Products.FLOAT32, gpu)
    for flag in _BFLOAT16_FLAGS:
        if flag in flags:
            return Chosen(Products.BFLOAT16, f"the processor has {flag.upper()}")
    return Chosen(Products.FLOAT32, "neither a GPU nor the processor is known to be faster else")


class LossScale:
    """Lifts the loss so that float16 gradients do not vanish (arXiv:1710.03740, section 3.2).

    Doubled after 2,000 steps without overflow, halved after one with, which then changes nothing.
    """

    def __init__(self) -> None:
        import tensorflow as tf

        self._scale = tf.Variable(_FIRST_SCALE)
        self._steps_without_overflow = tf.Variable(0, dtype=tf.int64)

    def scaled(self, loss: Any) -> Any:
        """The loss to differentiate."""
        return loss * self._scale

    def unscaled(self, gradients: Sequence[Any]) -> list[Any]:
        """The gradients of the loss itself."""
        return [gradient / self._scale for gradient in gradients]

    def learn(self, is_finite: Any) -> None:
        """Adapts the scale to whether the last gradients were numbers."""
        import tensorflow as tf

        steps = tf.where(is_finite, self._steps_without_overflow + 1, 0)
        grows = steps >= _STEPS_TO_DOUBLE
        # 1 at the least: a loss that overflows even so is lost, and the run says so.
        halved = tf.maximum(self._scale / 2, 1.0)
        kept = tf.where(grows, self._scale * 2, self._scale)
        self._scale.assign(tf.where(is_finite, kept, halved))
        self._steps_without_overflow.assign(tf.where(grows, tf.zeros_like(steps), steps))

    @property
    def state(self) -> list[Any]:
        """Every variable that must be kept to continue later."""
        return [self._scale, self._steps_without_overflow]
