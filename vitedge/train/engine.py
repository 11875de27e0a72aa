"""TensorFlow, started without its notes on the terminal."""

from __future__ import annotations

from typing import Any

from vitedge.errors import missing_package
from vitedge.terminal.silence import quiet


def import_tensorflow() -> Any:
    """TensorFlow, which has not looked at its devices yet.

    Raises:
        UnavailableError: TensorFlow or Keras is not installed.
    """
    try:
        with quiet():
            import keras  # noqa: F401  # has its own notes to hold back
            import tensorflow as tf
    except ImportError as error:
        raise missing_package(error.name or "tensorflow", "train") from error
    return tf


def start_tensorflow() -> Any:
    """TensorFlow, with its devices at hand: a GPU, where it sees one.

    Raises:
        UnavailableError: TensorFlow or Keras is not installed.
    """
    tf = import_tensorflow()
    with quiet():
        tf.config.list_logical_devices()
    return tf
