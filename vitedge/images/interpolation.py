"""The filters by which an image is resized."""

from __future__ import annotations

from enum import StrEnum


class Interpolation(StrEnum):
    """Pillow's resampling filters that vision libraries use; all of them antialias."""

    NEAREST = "nearest"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    LANCZOS = "lanczos"
