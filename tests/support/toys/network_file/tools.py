"""What writes and dissects the toy's files."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tests.support.toys.network_file.file import read, write
from vitedge.artifacts.contents import Interface, Operator, Port
from vitedge.artifacts.metadata import Metadata
from vitedge.converters.tools import FormatTools
from vitedge.network.evaluate import evaluate
from vitedge.network.network import Network
from vitedge.network.operators import Array
from vitedge.quantize import Activations, Recipe
from vitedge.quantize.break_even import INTEGERS_ALWAYS, BreakEven
from vitedge.rewrite.learnt_grid import COMMON_GROUPS, Groups
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Arithmetic, Precision

TOY = Format.declared("toy")


@dataclass(frozen=True)
class ToyConverter:
    format: Format = TOY
    arithmetics: frozenset[Arithmetic] = frozenset({Arithmetic.FLOAT})
    activations: Activations = Activations.STATIC
    groups: Groups = COMMON_GROUPS
    refusals: Mapping[Precision, str] = field(default_factory=dict)
    break_even: BreakEven = INTEGERS_ALWAYS
    rewrites: tuple[str, ...] = ()

    def convert(self, network: Network, recipe: Recipe, *, batch: int = 1) -> ToyDraft:
        return ToyDraft(network)


@dataclass(frozen=True)
class ToyDraft:
    network: Network

    def save(self, path: Path, metadata: Metadata) -> None:
        write(self.network, path, metadata)


def read_operators(path: Path) -> Iterator[Operator]:
    for value in read(path).values:
        inputs = ("float32",) * len(value.inputs)
        yield Operator(type(value.operator).__name__, inputs, ("float32",))


def read_interface(path: Path) -> Interface:
    network = read(path)
    outputs = (Port(name, (1, *value.shape), "float32") for name, value in network.outputs.items())
    pixels = Port("pixels", (1, *network.image_shape), "float32")
    return Interface((pixels,), tuple(outputs), frozenset())


def inner_tensors(
    path: Path, names: Collection[str], pixels: npt.NDArray[np.uint8]
) -> dict[str, Array]:
    network = read(path)
    wanted = {value.name: value for value in network.values if value.name in names}
    return evaluate(replace(network, outputs=wanted, labels=()), pixels)


TOOLS = FormatTools(
    converter=ToyConverter(),
    package="numpy",
    read_operators=read_operators,
    read_interface=read_interface,
    inner_tensors=inner_tensors,
)
