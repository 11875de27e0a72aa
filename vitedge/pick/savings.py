"""The ways in which an artefact may do less work: options of `convert` that cost accuracy.

`pick --minutes` searches all combinations of them, with each precision, format and target. Another
way is another ``Saving`` in ``SAVINGS``: its levels, the options of `convert` that make one, and
the same options as they are typed. Whatever `convert` refuses is left out of the search.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from vitedge.errors import ConversionError
from vitedge.network.coupled import coupled
from vitedge.network.network import Network
from vitedge.pipeline.options import ConvertOptions
from vitedge.pipeline.token_merging import TokenOptions
from vitedge.rewrite.merge_tokens import places
from vitedge.rewrite.token_schedule import scheduled

# Wherever tokens can be merged, so many can.
_EASY = 0.95

# Below, the images that a model learnt on are hard to recognise for it.
_LEAST_SIDE = 0.7


@dataclass(frozen=True)
class Saving:
    """One way to do less.

    Attributes:
        name: Its name in file names.
        usual_loss: Points lost in all, over the square of the work that is gone, where nothing was
            measured yet; DeiT-tiny's.
        levels: Its sizes, from the most work that is left to the least, each with the share of the
            work that it leaves, about; none where the model does not allow it.
        applied: The options of `convert` with a level. Told whether the device cannot sort.
        typed: Words of the command line for the same options.
    """

    name: str
    usual_loss: float
    levels: Callable[[Network], Sequence[Level]]
    applied: Callable[[ConvertOptions, float, bool], ConvertOptions]
    typed: Callable[[float, bool], list[str]]


@dataclass(frozen=True, order=True)
class Level:
    """A saving of a certain size.

    Attributes:
        work: Share of the multiply-accumulates that it leaves, about.
        value: The number that `convert` takes.
    """

    work: float
    value: float


def _shares(network: Network) -> list[Level]:
    """Shares of the work, where tokens can be merged at all."""
    try:
        scheduled(network, _EASY)
    except ConversionError:
        return []
    return [Level(percent / 100, percent / 100) for percent in range(95, 35, -5)]


def _fewer_tokens(options: ConvertOptions, share: float, is_constant: bool) -> ConvertOptions:
    return replace(options, tokens=TokenOptions(share, is_constant))


def _tokens_typed(share: float, is_constant: bool) -> list[str]:
    return ["--tokens", f"{share:g}", "--merge", "constant" if is_constant else "alike"]


def _sides(network: Network) -> list[Level]:
    """Square images of fewer whole patches, where the model has one token for each patch."""
    height, width = network.preprocessing.size
    found = [place for place in places(network) if place is not None]
    grid = math.isqrt(found[0].loose) if found else 0
    if height != width or not grid or grid**2 != found[0].loose or height % grid:
        return []
    sides = range(height - height // grid, math.ceil(_LEAST_SIDE * height) - 1, -height // grid)
    return [Level((side / height) ** 2, side) for side in sides]


def _fewer_pixels(options: ConvertOptions, side: float, is_constant: bool) -> ConvertOptions:
    size = (int(side), int(side))
    return replace(options, importing=replace(options.importing, image_size=size))


def _pixels_typed(side: float, is_constant: bool) -> list[str]:
    return ["--image-size", f"{side:g}"]


def _widths(network: Network) -> list[Level]:
    """Shares of the work, where there are heads or hidden channels to remove."""
    if not coupled(network):
        return []
    return [Level(percent / 100, percent / 100) for percent in range(95, 65, -5)]


def _narrower(options: ConvertOptions, share: float, is_constant: bool) -> ConvertOptions:
    return replace(options, width=share)


def _width_typed(share: float, is_constant: bool) -> list[str]:
    return ["--width", f"{share:g}"]


SAVINGS = (
    Saving("tokens", 2.0, _shares, _fewer_tokens, _tokens_typed),
    Saving("pixels", 25.0, _sides, _fewer_pixels, _pixels_typed),
    Saving("width", 300.0, _widths, _narrower, _width_typed),
)
