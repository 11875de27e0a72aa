"""The lighter model that a repair starts from."""

from __future__ import annotations

from collections.abc import Callable

from vitedge.images.image_sets import ImageSet
from vitedge.network.network import Network
from vitedge.pipeline.compared_images import ImagesInUse
from vitedge.pipeline.narrowing import narrowed_as
from vitedge.pipeline.token_merging import TokenOptions, merged_as
from vitedge.terminal.progress import Progress
from vitedge.train.fine_tune import adapt


def lighter(
    network: Network,
    images: ImageSet,
    *,
    image_size: tuple[int, int] | None,
    width: float | None,
    tokens: TokenOptions | None,
    say: Callable[[str], None],
    progress: Progress,
) -> Network:
    """The model with smaller images, then narrower layers, then fewer tokens.

    Args:
        network: The model; left unchanged.
        images: Typical images, to choose channels and constant tokens by.
        image_size: Height and width in pixels; None keeps the model's.
        width: Share of the multiplications that narrower layers leave; None leaves all.
        tokens: The way in which tokens are merged; None merges none.
        say: Told what became lighter, and what that alone changes.
        progress: Told how far things are.

    Raises:
        ModelError: The model cannot take that image size.
        ConversionError: The model cannot become so light.
    """
    made = adapt(network, (), image_size=image_size)
    if width is not None:
        narrowed = narrowed_as(made, width, ImagesInUse(images, None, ""), progress)
        made = narrowed.network
        say(narrowed.described.words)
    if tokens is not None:
        progress("merging tokens", 0, 1)
        merged = merged_as(made, tokens, images)
        made = merged.network
        say(merged.described.words)
    return made
