"""The values of a recipe that are not given: they follow from the images and from the start.

Steps teach, not epochs: few images get small batches and more epochs.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from typing import TypeVar

from vitedge.train.pipeline import steps_per_epoch
from vitedge.train.recipe import TrainingRecipe, usual_rates

Value = TypeVar("Value")

# A power of two within these that gives an epoch about ten steps.
_SMALLEST_BATCH, _LARGEST_BATCH, _STEPS_AN_EPOCH = 8, 128, 10

# Of a whole run, where few images would make fewer, and the fewest and most epochs for them.
_FRESH = 1200, 100, 300
_TUNING = 300, 10, 100

# DeiT's five epochs, or as many steps as Adam takes to know its second moments.
_WARMUP_EPOCHS, _WARMUP_STEPS, _MOST_WARMUP = 5.0, 50, 0.2

_CHOSEN = ("batch_size", "epochs", "warmup_epochs", "learning_rate")


def settled(
    recipe: TrainingRecipe,
    named: Collection[str],
    images: int,
    *,
    fine_tuning: bool,
    grey: bool = False,
    smaller_images: bool = False,
) -> TrainingRecipe:
    """A recipe with the usual value for whatever was not named and has no default for all.

    Args:
        recipe: The options that were named, and those that have one default.
        named: Names of fields of ``Recipe``, ``Distillation`` and ``Augmentation``.
        images: The number of training images.
        fine_tuning: The model has learnt something already.
        grey: Its images have one channel.
        smaller_images: The model is repaired for smaller images than it had.

    Raises:
        UsageError: Named values do not go with each other.
    """
    inside, changes = recipe.distillation, recipe.augmentation

    def pick(name: str, was: Value, usual: Value) -> Value:
        return was if name in named else usual

    repairs = recipe.repairs
    batch_size = pick("batch_size", recipe.batch_size, 16 if repairs else _batch_size(images))
    steps = steps_per_epoch(images, batch_size)
    epochs = pick("epochs", recipe.epochs, 80 if repairs else _epochs(steps, fine_tuning))
    warmup = min(_MOST_WARMUP * epochs, max(_WARMUP_EPOCHS, _WARMUP_STEPS / steps))
    rates = usual_rates(
        fine_tuning=fine_tuning, trainable_blocks=recipe.trainable_blocks, batch_size=batch_size
    )
    recipe = replace(
        recipe,
        batch_size=batch_size,
        epochs=epochs,
        warmup_epochs=pick("warmup_epochs", recipe.warmup_epochs, round(warmup, 1)),
        learning_rate=pick("learning_rate", recipe.learning_rate, rates.learning_rate),
        layer_decay=pick("layer_decay", recipe.layer_decay, rates.layer_decay),
    )
    if not repairs:
        # From scratch, few photos are worth more in many views. Grey images are often of signs,
        # which a mirror spoils, and what frozen layers make of images is kept only while these
        # stay the same.
        in_views = not fine_tuning and not grey
        crop = pick("crop", changes.crop, 0.6 if in_views else 1.0)
        flip = pick("flip", changes.flip, in_views)
        return replace(recipe, augmentation=replace(changes, crop=crop, flip=flip))
    # What repairs a quantized model with few photos; see docs/decisions/0022.
    return replace(
        recipe,
        learning_rate=pick("learning_rate", recipe.learning_rate, 1.5e-4),
        layer_decay=pick("layer_decay", recipe.layer_decay, 1.0),
        weight_decay=pick("weight_decay", recipe.weight_decay, 0.0),
        label_smoothing=pick("label_smoothing", recipe.label_smoothing, 0.0),
        average=pick("average", recipe.average, 0.98),
        keep_best=pick("keep_best", recipe.keep_best, False),
        distillation=replace(
            inside,
            share=pick("share", inside.share, 1.0),
            hard=pick("hard", inside.hard, False),
            # What blocks make of fewer pixels cannot be the same; see docs/decisions/0065.
            blocks=pick("blocks", inside.blocks, 0.0 if smaller_images else inside.blocks),
        ),
        augmentation=replace(
            changes, crop=pick("crop", changes.crop, 0.35), flip=pick("flip", changes.flip, True)
        ),
    )


def in_words(recipe: TrainingRecipe, named: Collection[str], images: int) -> str:
    """The choices for so many images, in one line; it marks those that were named.

    Such as ``for 216 images: batches of 16, 14 steps an epoch, 22 epochs (as given), ...``.
    """
    given = {name: " (as given)" if name in named else "" for name in _CHOSEN}
    batch_size = min(recipe.batch_size, images)
    steps, s = steps_per_epoch(images, batch_size), "s" if recipe.epochs > 1 else ""
    return (
        f"for {images:,} images: batches of {batch_size}{given['batch_size']}, "
        f"{steps} steps an epoch, {recipe.epochs} epoch{s}{given['epochs']}, "
        f"a warm-up of {recipe.warmup_epochs:g} epochs{given['warmup_epochs']}, "
        f"a learning rate of {recipe.learning_rate:g}{given['learning_rate']}"
    )


def _batch_size(images: int) -> int:
    wanted = 1 << int(math.log2(max(1, images / _STEPS_AN_EPOCH)))
    return min(max(wanted, _SMALLEST_BATCH), _LARGEST_BATCH)


def _epochs(steps: int, fine_tuning: bool) -> int:
    wanted, fewest, most = _TUNING if fine_tuning else _FRESH
    return min(max(math.ceil(wanted / steps), fewest), most)
