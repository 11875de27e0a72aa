"""A person's facts about a source, laid over the network that was read from it."""

from __future__ import annotations

from dataclasses import replace

from vitedge.errors import ModelError
from vitedge.images.preprocess import Preprocessing
from vitedge.importers import ImportOptions
from vitedge.importers.positions import interpolate_positions
from vitedge.network.network import Network, Value, with_operators, with_task
from vitedge.network.operators import (
    Activate,
    Add,
    Constant,
    Convolution,
    Linear,
    Norm,
    Operator,
    Pixels,
    Reshape,
    Standardize,
)
from vitedge.network.patch_grid import patch_grid
from vitedge.network.refit import refitted
from vitedge.network.structure import attentions, readers


def with_options(network: Network, options: ImportOptions) -> Network:
    """The model with the user's options laid over it.

    Another image size interpolates the positions and keeps the ratio of resize to crop.

    Raises:
        ModelError: An option contradicts the model.
    """
    if options.heads is not None:
        _check_heads(network, options.heads)
    try:
        size = options.image_size
        if size is not None and size != network.preprocessing.size:
            network = with_image_size(network, size)
        preprocessing = _preprocessing(network.preprocessing, options)
        operators = {
            value: operator
            for value in network.values
            if (operator := _changed(value, options, preprocessing)) is not value.operator
        }
        standardizes = any(isinstance(each.operator, Standardize) for each in network.values)
        if not standardizes and (options.mean is not None or options.std is not None):
            raise ModelError("mean and std are already folded into this model's patch projection")
        network = with_operators(network, operators)
        if options.task is not None:
            network = with_task(network, options.task)
        labels = network.labels if options.labels is None else options.labels
        return replace(network, preprocessing=preprocessing, labels=labels)
    except ValueError as error:
        raise ModelError(f"the options do not fit the model: {error}") from error


def with_options_after_lifting(network: Network, options: ImportOptions) -> Network:
    """Lays the options over a lifted model, whose arithmetic has mean and std in it already.

    Raises:
        ModelError: An option contradicts the model.
    """
    return with_options(network, replace(options, mean=None, std=None))


def with_image_size(network: Network, size: tuple[int, int]) -> Network:
    """The network for images of another height and width.

    Raises:
        ValueError: The patches do not fit, or something in the network fixes the size.
    """
    first = _first_layer(network)
    grid = None if first is None else patch_grid(first)
    if first is None or grid is None:
        raise ValueError("its first layer reads no patches, so the image size is fixed")
    if any(whole % patch for whole, patch in zip(size, grid.patch_size, strict=True)):
        raise ValueError(f"image size {size} is not a multiple of patch size {grid.patch_size}")
    new_grid = (size[0] // grid.patch_size[0], size[1] // grid.patch_size[1])
    operators: dict[Value, Operator] = {network.pixels: Pixels(*size, network.image_shape[2])}
    cut, _, patches = grid.moves  # a patch may be as many pixels high as the grid has rows
    operators[cut] = Reshape((new_grid[0], grid.patch_size[0], new_grid[1], cut.shape[3]))
    operators[patches] = Reshape((new_grid[0] * new_grid[1], patches.shape[1]))
    for value in _positions(network, first):
        assert isinstance(value.operator, Constant)
        positions = interpolate_positions(value.operator.values, grid.grid, new_grid)
        operators[value] = Constant(positions)
    try:
        return refitted(
            network,
            operators,
            preprocessing=network.preprocessing.at_size(size),
            grids={grid.grid: new_grid},
        )
    except ValueError as error:
        tokens = first.shape[0]
        raise ValueError(
            f"it reads all {tokens} patches as they are, so the image size is fixed: {error}"
        ) from error


def _first_layer(network: Network) -> Value | None:
    layers = (Linear, Convolution)
    return next((each for each in network.values if isinstance(each.operator, layers)), None)


def _positions(network: Network, first: Value) -> list[Value]:
    """The constants that are added to what the first layer makes of each patch."""
    return [
        each
        for reader in readers(network)[first]
        if isinstance(reader.operator, Add)
        for each in reader.inputs
        if isinstance(each.operator, Constant) and each.shape == first.shape
    ]


def _check_heads(network: Network, heads: int) -> None:
    found = {each.scores.shape[0] for each in attentions(network) if len(each.scores.shape) == 3}
    if heads not in found:  # a pooling may have a number of its own
        has = " or ".join(str(count) for count in sorted(found)) or "unknown"
        raise ModelError(f"the model has {has} heads, not {heads}")


def _changed(value: Value, options: ImportOptions, preprocessing: Preprocessing) -> Operator:
    """The value's operator as the options have it."""
    operator = value.operator
    match operator:
        case Norm() if options.norm_eps is not None:
            return replace(operator, eps=options.norm_eps)
        case Activate() if options.activation is not None and len(value.shape) > 1:
            return Activate(options.activation)
        case Standardize() if options.mean is not None or options.std is not None:
            return Standardize(tuple(preprocessing.mean), tuple(preprocessing.std))
        case _:
            return operator


def _preprocessing(old: Preprocessing, options: ImportOptions) -> Preprocessing:
    resize = old.resize if options.resize is None else options.resize or None
    return replace(
        old,
        resize=resize,
        interpolation=options.interpolation or old.interpolation,
        mean=old.mean if options.mean is None else options.mean,
        std=old.std if options.std is None else options.std,
    )
