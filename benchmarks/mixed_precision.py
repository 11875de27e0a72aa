"""How long a training step takes with matrix products in bfloat16, and in float32.

Steps of the two take turns, so that what else the machine does strikes both. This is what
``vitedge train --mixed-precision auto`` relies on: see docs/decisions/0023.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from vitedge.elements.plain_vit import ViTConfig
from vitedge.elements.presets import initialize, preset
from vitedge.images.preprocess import Preprocessing
from vitedge.train import Products, TrainingRecipe
from vitedge.train.learner import Learner
from vitedge.train.loss import Loss
from vitedge.train.mixed import choose

CLASSES = 10
SMALL = preset(
    "tiny", classes=CLASSES, image_size=16, patch_size=4, dim=64, depth=4, heads=4, mlp_dim=128
)
CASES: dict[str, tuple[ViTConfig, int]] = {
    "digits": (SMALL, 128),
    "32 px, patches of 4": (preset("tiny", classes=CLASSES, image_size=32, patch_size=4), 32),
    "tiny 96 px": (preset("tiny", classes=CLASSES, image_size=96), 32),
    "tiny 224 px": (preset("tiny", classes=CLASSES), 16),
    "base 224 px": (preset("base", classes=CLASSES), 4),
}


def learner(config: ViTConfig, products: Products) -> Learner:
    """A fresh one of these products."""
    from vitedge.in_keras.model import to_keras

    half = (0.5,) * config.channels
    preprocessing = Preprocessing(size=config.image_size, mean=half, std=half)
    labels = tuple(str(index) for index in range(CLASSES))
    model = to_keras(initialize(config, preprocessing, labels, seed=0))
    recipe = TrainingRecipe(warmup_epochs=0, products=products)
    return Learner(model, recipe, Loss(recipe, np.ones(CLASSES, np.float32)), 100)


def compare(config: ViTConfig, batch: int, steps: int) -> str:
    """One line of the table."""
    random = np.random.default_rng(0)
    pixels = tf.constant(
        random.integers(0, 256, (batch, *config.image_size, config.channels), np.uint8)
    )
    targets = tf.one_hot(np.arange(batch) % CLASSES, CLASSES)
    kinds = (Products.FLOAT32, Products.BFLOAT16)
    learners = [learner(config, products) for products in kinds]
    times = np.empty((steps, len(kinds)))
    for turn in range(-2, steps):  # the first two compile and warm up
        for place, each in enumerate(learners):
            started = time.perf_counter()
            float(each.step(pixels, targets)[0])
            if turn >= 0:
                times[turn, place] = time.perf_counter() - started
    ratios = times[:, 1] / times[:, 0]
    plain, mixed = 1e3 * np.median(times, 0)
    low, middle, high = np.quantile(ratios, (0.1, 0.5, 0.9))
    return f"{batch} | {plain:.0f} | {mixed:.0f} | {middle:.2f} ({low:.2f} to {high:.2f})"


def main(arguments: Iterable[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--case", choices=CASES, action="append")
    options = parser.parse_args(None if arguments is None else list(arguments))
    chosen = choose("auto")
    print(f"auto is {chosen.products} here: {chosen.reason}\n")
    print("| model | batch | float32 ms | bfloat16 ms | ratio (p10 to p90) |")
    print("|---|--:|--:|--:|--:|")
    for name in options.case or CASES:
        config, batch = CASES[name]
        print(f"| {name} | {compare(config, batch, options.steps)} |", flush=True)


if __name__ == "__main__":
    main()
