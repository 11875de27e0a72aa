"""All makers; each has a ``make(output, size)``."""

from __future__ import annotations

from reference import (
    make_google_npz,
    make_hugging_face,
    make_keras_hub,
    make_timm,
    make_torchvision,
    make_vit_keras,
    make_vit_tutorial,
)

MAKERS = (
    make_google_npz,
    make_hugging_face,
    make_keras_hub,
    make_timm,
    make_torchvision,
    make_vit_keras,
    make_vit_tutorial,
)
