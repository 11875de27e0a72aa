"""Images made of noise, to calibrate on when there are no others."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vitedge.images.image_sets import ImageSet
from vitedge.images.preprocess import Preprocessing
from vitedge.images.samples import ArraySamples

# A std of 0.5 is the convention that scales pixels to -1..1; photos measure 0.22 to 0.28.
_LARGEST_MEASURED_STD = 0.28
# One colour direction carries 90 % of the variance of ImageNet's pixels (eigenvalues 0.2175,
# 0.0188, 0.0045: Krizhevsky et al., 2012, section 4.1, as published with fb.resnet.torch), which
# is a correlation of 0.855 between any two of three channels.
_COLOUR_CORRELATION = 0.855


def synthetic_images(preprocessing: Preprocessing, n: int, seed: int) -> ImageSet:
    """Noise with the statistics of natural images, to calibrate on when there are no images.

    The amplitude spectrum falls as 1/frequency (Field, 1987, doi:10.1364/JOSAA.4.002379), colour
    channels are correlated, and over the set each channel has the mean and standard deviation
    that the preprocessing states. Each image is ``(H, W, C)`` uint8 of the model's input size.
    The set is held in memory.
    """
    rng = np.random.default_rng(seed)
    height, width = preprocessing.size
    channels = preprocessing.channels
    noise = _pink_noise(rng, (n, channels, height, width))
    correlation = np.full((channels, channels), _COLOUR_CORRELATION)
    np.fill_diagonal(correlation, 1.0)
    mixed = np.einsum("cd,ndhw->nhwc", np.linalg.cholesky(correlation), noise)
    std = np.minimum(preprocessing.std, _LARGEST_MEASURED_STD)
    pixels = 255 * (mixed * std + np.asarray(preprocessing.mean))
    images = np.clip(np.round(pixels), 0, 255).astype(np.uint8)
    return ImageSet("synthetic images", ArraySamples(images, None))


def _pink_noise(
    rng: np.random.Generator, shape: tuple[int, int, int, int]
) -> npt.NDArray[np.float64]:
    """Gaussian noise ``(N, C, H, W)`` with a 1/frequency amplitude and unit variance."""
    height, width = shape[2:]
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    frequency = np.hypot(rows, columns)
    # The constant component gets the lowest frequency's amplitude: brightness varies by image.
    frequency[0, 0] = 1 / max(height, width)
    spectrum = np.fft.rfft2(rng.standard_normal(shape)) / frequency
    noise = np.fft.irfft2(spectrum, s=(height, width))
    power = np.fft.fft2(np.fft.irfft2(1 / frequency, s=(height, width)))
    return np.asarray(noise / np.sqrt((np.abs(power) ** 2).mean()))
