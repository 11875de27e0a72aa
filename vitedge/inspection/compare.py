"""``vitedge compare``: where on its way an artefact leaves its model.

The artefact's tensors are compared with those of the float32 model under the very rewrites that
the artefact was made with, so that names and bases are the same. What is compared is what reaches
a layer's output: its own error and that of all layers before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vitedge.artifacts.metadata import Metadata, read_metadata
from vitedge.errors import ModelError, UsageError
from vitedge.images.image_sets import ImageSet, open_images
from vitedge.images.synthetic import synthetic_images
from vitedge.importers import ImportOptions, read_model
from vitedge.inspection.inner_tensors import intermediates
from vitedge.network.agreement import agreement
from vitedge.network.network import Network, Value
from vitedge.network.operators import Add, Array, Linear, Norm
from vitedge.network.structure import attentions, is_move, layers_on, readers
from vitedge.pipeline.narrowing import narrowed_again
from vitedge.pipeline.token_merging import merged_again
from vitedge.quantize.moves import bases
from vitedge.quantize.trace import Tensor, trace
from vitedge.report.results import LayerError, LayerErrors, Report
from vitedge.report.shown import Block, Shown, Table
from vitedge.rewrite import MEASURED, apply_rewrites, rewrites
from vitedge.targets.scores import Scores
from vitedge.terminal.progress import Progress, silent

# More change the figures by under half a decibel.
_IMAGES = 8


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """An artefact beside its model.

    Attributes:
        errors: Layer by layer, in the order of computation; the last is the logits.
        agreement: Share of images with the same top class, 0..1, or of labels with the same answer;
            None where the outputs are numbers.
        n: Number of images.
        images: The images in words.
    """

    errors: LayerErrors
    agreement: float | None
    n: int
    images: str

    @property
    def _kept(self) -> str:
        images = f"{self.n} images ({self.images})"
        if self.agreement is None:
            return f"on {images}"
        return f"{self.agreement:.1%} of {images} keep their top class"

    def blocks(self, width: int | None) -> Sequence[Block]:
        """Layer by layer what is left of the signal, and how often the top class stays."""
        return [
            Table(
                tuple(map(_cells, self.errors.layers)),
                ("layer", "SQNR dB", ""),
                numbers=frozenset([1]),
            ),
            f"{self._kept}; each figure holds the errors of all layers before it",
        ]


def _cells(layer: LayerError) -> tuple[str, str, str]:
    if layer.sqnr_db is None:
        return layer.name, "equal", ""
    bar = "#" * round(min(max(layer.sqnr_db, 0.0), 60.0) / 2)
    return layer.name, f"{layer.sqnr_db:.1f}", bar


def compare_layers(
    source: Path,
    artifact: Path,
    options: ImportOptions,
    *,
    images: ImageSet | None = None,
    calibration: ImageSet | None = None,
    progress: Progress = silent,
) -> Comparison:
    """Runs both on the same images.

    Args:
        source: The model that the artefact was made from.
        artifact: An artefact of ours.
        options: The options that say what the source does not.
        images: Images to compare on; the first few are taken. None means synthetic ones.
        calibration: The images that the artefact was calibrated on; an artefact with fewer heads or
            hidden channels needs them, for the others were fitted to them.
        progress: Told how far things are.

    Raises:
        UsageError: The artefact is of no known origin, of another shape than the model, or was
            fitted to other images.
        ModelError: A file cannot be read, or holds none of the model's tensors.
    """
    metadata = _metadata_of(artifact)
    progress("reading the model", 0, 3)
    model = _Model(source, read_model(source, options).network, images, calibration)
    return _compared(model, artifact, metadata, progress)


@dataclass(frozen=True)
class _Made:
    """The model as some artefact was made of it, run on the images.

    Attributes:
        network: The network after the rewrites of the artefact.
        pixels: uint8 ``(N, H, W, C)``.
        expected: The values of the network's layers, in each basis that the quantizer may choose.
    """

    network: Network
    pixels: npt.NDArray[np.uint8]
    expected: Sequence[Mapping[str, Array]]


class _Model:
    """A model that artefacts are compared with; what it computes is computed once.

    Artefacts of one model differ in few rewrites, so that most of them share what is expected.
    """

    def __init__(
        self,
        source: Path,
        network: Network,
        images: ImageSet | None,
        calibration: ImageSet | None = None,
    ) -> None:
        self.source, self._network, self._calibration = source, network, calibration
        self.images = images or synthetic_images(network.preprocessing, _IMAGES, seed=0)
        self.words = images.name if images is not None else "synthetic images"
        self._made: dict[tuple[object, ...], _Made] = {}

    def as_made(self, artifact: Path, metadata: Metadata, progress: Progress) -> _Made:
        """The model under an artefact's rewrites."""
        key = (
            frozenset(metadata.rewrites),
            metadata.preprocessing,
            metadata.narrowing,
            metadata.merging and (metadata.merging.blocks, metadata.merging.tokens),
        )
        if key not in self._made:
            network = _as_made(self._network, metadata, self._calibration)
            samples = self.images.samples[:_IMAGES]
            pixels = metadata.preprocessing.batch([sample.image for sample in samples])
            if pixels.shape[1:] != network.image_shape:
                raise UsageError(
                    f"'{artifact}' takes {pixels.shape[1:]}; '{self.source}' is another model"
                )
            progress("running the model", 1, 3)
            traced = [_traced(basis, pixels) for basis in bases(network)]
            self._made[key] = _Made(network, pixels, traced)
        return self._made[key]


def _metadata_of(artifact: Path) -> Metadata:
    metadata = read_metadata(artifact)
    if metadata is None:
        raise UsageError(f"'{artifact}' does not say how it was made; compare takes our artefacts")
    return metadata


def _compared(model: _Model, artifact: Path, metadata: Metadata, progress: Progress) -> Comparison:
    made = model.as_made(artifact, metadata, progress)
    network, expected = made.network, made.expected
    progress("running the artefact", 2, 3)
    widths = {name: len(layer.bias) for name, layer in network.named_linears()}
    tensors = intermediates(artifact, _tensors(network), made.pixels)
    found = _separated(tensors, expected[0], widths)
    last = network.main.name
    if not found.keys() & expected[0].keys():
        raise ModelError(f"'{artifact}' names none of the model's layers; did a tool rename them?")
    values = _in_its_basis(network, found, expected)
    keys = {name for _, name in _scored(network)}
    layers = tuple(
        LayerError(name, _sqnr_db(found[name], value, without_mean=name in keys))
        for name, value in values.items()
        if name in found
    )
    same = None
    if last in found and last in values:
        same = agreement(network.task, found[last], values[last], Scores.LOGITS.middle)
    errors = LayerErrors(str(artifact), metadata.format, metadata.precision, layers)
    return Comparison(errors, same, len(made.pixels), model.words)


def compare_all(
    source: Path,
    network: Network,
    report: Report,
    data: Path | ImageSet | None,
    *,
    calibration: ImageSet | None = None,
    progress: Progress = silent,
) -> tuple[LayerErrors, ...]:
    """Compares every artefact of a report that ran with the model that is the bench's reference.

    Args:
        source: The model's file.
        network: The network in the file.
        report: The report of the bench.
        data: Images to compare on; the first few are taken. None means synthetic ones.
        calibration: The images that the artefacts were calibrated on; see ``compare_layers``.
        progress: Told how far things are.

    Raises:
        UsageError: One is not of this model, does not say how it was made, or was fitted to other
            images.
    """
    images = None if data is None else open_images(data)
    model = _Model(source, network, images, calibration)
    ran = [
        Path(path) for path in dict.fromkeys(row.artifact for row in report.rows if row.was_loaded)
    ]
    return tuple(_compared(model, path, _metadata_of(path), progress).errors for path in ran)


def _as_made(network: Network, metadata: Metadata, calibration: ImageSet | None) -> Network:
    if metadata.narrowing is not None:
        network = narrowed_again(network, metadata.narrowing, calibration)
    if metadata.merging is not None:
        network = merged_again(network, metadata.merging)
    applied = set(metadata.rewrites)
    without = [each.name for each in rewrites() if each.name not in applied]
    # A measured move cannot be made again without its images; ``bases`` has what it may do.
    asked = applied.difference(MEASURED)
    extra = [each.name for each in rewrites() if each.name in asked and not each.default]
    return apply_rewrites(network, without, extra=extra)[0]


def _traced(network: Network, pixels: npt.NDArray[np.uint8]) -> dict[str, Array]:
    """The outputs of linear layers and residual sums, ``(N, tokens, width)``, but for values.

    Values have another basis in a quantized artefact, and what mixes them is compared right after.
    """
    mixed = {_layer_behind(each.values) for each in attentions(network)}
    compared = {
        value
        for value in network.values
        if (isinstance(value.operator, Linear) and value not in mixed) or _is_sum(value)
    }
    seen: dict[str, Array] = {}

    def made(tensor: Tensor, x: Array) -> Array:
        if tensor.value in compared and tensor.name == tensor.value.name:
            seen[tensor.name] = x.reshape(len(x), -1, x.shape[-1])
        return x

    trace(network, pixels, made, lambda _name, x: x)
    return seen


def _is_sum(value: Value) -> bool:
    return isinstance(value.operator, Add) and not any(each.is_constant for each in value.inputs)


def _layer_behind(value: Value) -> Value:
    """The layer that makes a value, seen through moves and norms."""
    while is_move(value) or isinstance(value.operator, Norm):
        value = value.inputs[0]
    return value


def _scored(network: Network) -> list[tuple[str, str]]:
    """The layers that make queries, and those that make keys, for each attention."""
    return [
        (_layer_behind(each.queries).name, _layer_behind(each.keys).name)
        for each in attentions(network)
    ]


def _in_its_basis(
    network: Network, found: Mapping[str, Array], expected: Sequence[Mapping[str, Array]]
) -> dict[str, Array]:
    """The expected values, of queries and keys in the basis of their attention.

    The quantizer changes it where what it measures says so, together for both, and a change alters
    no score.
    """
    values = dict(expected[0])
    for queries, keys in _scored(network):
        if queries in found and keys in found and len(expected) > 1:

            def noise(basis: Mapping[str, Array], pair: tuple[str, str] = (queries, keys)) -> float:
                return sum(_noise(found[name], basis[name], without_mean=True) for name in pair)

            best = min(expected, key=noise)
            values |= {name: best[name] for name in (queries, keys)}
    return values


def _tensors(network: Network) -> set[str]:
    """Names that an artefact may hold: layers on the same input may be one product."""
    read = readers(network)
    names = {value.name for value in network.values}
    for value in network.values:
        layers = [each.name for each in layers_on(value, read)]
        names |= {"+".join(layers[start:]) for start in range(len(layers))}
    return names


def _separated(
    found: Mapping[str, Array], expected: Mapping[str, Array], widths: Mapping[str, int]
) -> dict[str, Array]:
    """One array for each layer, in the shape of what is expected; the head without features."""
    parts = {}
    for joined, values in found.items():
        names = joined.split("+")
        ends = np.cumsum([widths.get(name, 0) for name in names[:-1]])
        for name, part in zip(names, np.split(values, ends, axis=-1), strict=True):
            if name in expected:
                wanted = expected[name]
                width = wanted.shape[-1]
                parts[name] = part.reshape(len(wanted), -1, part.shape[-1])[..., :width]
    return parts


def _noise(found: Array, expected: Array, *, without_mean: bool) -> float:
    """The energy of the difference, over that of what is expected."""
    if without_mean:
        # A constant added to all keys is not seen by softmax, so it is not an error.
        found = found - found.mean(axis=(0, 1))
        expected = expected - expected.mean(axis=(0, 1))
    error = float(np.square((found - expected).astype(np.float64)).sum())
    signal = float(np.square(expected.astype(np.float64)).sum())
    return error / signal if signal > 0 else float(error > 0) * float("inf")


def _sqnr_db(found: Array, expected: Array, *, without_mean: bool) -> float | None:
    noise = _noise(found, expected, without_mean=without_mean)
    return float(-10 * np.log10(noise)) if 0 < noise < float("inf") else None
