"""Random weights for Keras models."""

from __future__ import annotations

from typing import Any

import numpy as np

_TOKENS = ("token", "position", "embeddings", "cls", "pos_w")


def restart_numbering(keras: Any) -> None:
    """Lets the names of layers count from nothing, so that they do not tell what ran before.

    Args:
        keras: Keras 3 or ``tf_keras``.
    """
    keras.backend.clear_session()


def forget_path(layer: Any, file: str) -> None:
    """Lets a Lambda say that it was compiled in a file of this name; it is saved with the path."""
    layer.function.__code__ = layer.function.__code__.replace(co_filename=file)


def randomize(model: Any, seed: int = 0) -> None:
    """Gives every weight random values of trained sizes: nothing is zero, nothing saturates."""
    rng = np.random.default_rng(seed)
    values = []
    for variable in model.weights:
        noise = rng.standard_normal(tuple(variable.shape))
        name = getattr(variable, "path", variable.name)
        leaf = name.rsplit("/", 1)[-1].split(":")[0]
        if leaf == "gamma":
            values.append(1 + 0.2 * noise)
        elif leaf in ("beta", "bias"):
            values.append(0.1 * noise)
        elif leaf == "moving_variance":
            values.append(np.exp(0.2 * noise))
        elif any(token in leaf for token in _TOKENS):
            values.append(0.5 * noise)
        else:
            # The last axis is outputs, but for an attention's output: close enough for that one.
            values.append(noise / np.sqrt(np.prod(variable.shape[:-1])))
    model.set_weights([value.astype(np.float32) for value in values])
