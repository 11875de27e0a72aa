"""The folders that artefacts are laid out in for the clients of model hubs."""

from __future__ import annotations

from enum import StrEnum


class Layout(StrEnum):
    """A folder as the clients of a model hub take it."""

    HUGGING_FACE = "huggingface"
    """transformers.js and Optimum: ONNX files with configs."""
    LITERT_COMMUNITY = "litert-community"
    """TFLite files with labels and a card."""
