"""Folds the normalisation of pixels into the patch projection.

With pixel ``p`` of channel ``c``, mean ``m_c`` and standard deviation ``s_c``::

    ((p / 255 - m_c) / s_c) w  =  p (w / (255 s_c))  -  (m_c / s_c) w

so each row of the projection is scaled and the second term goes to the bias. The artefact then
takes raw pixels 0..255, which uint8 holds without any error.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitedge.vit import Linear, ViT


class FoldInputNormalization:
    """Raw pixels in, no normalisation operator."""

    name = "fold-input-normalization"
    order = 10
    default = True

    def apply(self, vit: ViT) -> ViT:
        """See the module's docstring."""
        if vit.config.raw_pixels:
            return vit
        pixels = vit.config.patch_size[0] * vit.config.patch_size[1]
        mean = np.tile(np.asarray(vit.preprocessing.mean, np.float64), pixels)
        std = np.tile(np.asarray(vit.preprocessing.std, np.float64), pixels)
        weight = vit.patch.weight.astype(np.float64) / std[:, None]
        patch = Linear(
            (weight / 255).astype(np.float32),
            (vit.patch.bias - mean @ weight).astype(np.float32),
        )
        return replace(vit, config=replace(vit.config, raw_pixels=True), patch=patch)


PLUGIN = FoldInputNormalization()
