"""Folders of artefacts as model hubs and their clients take them.

A layout says which format it holds, what each file is called, and what lies beside the artefacts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from vitedge.artifacts.written import Written
from vitedge.converters.converter import Draft
from vitedge.images.preprocess import Preprocessing
from vitedge.network.summary import Summary
from vitedge.network.tasks import Task
from vitedge.pipeline.layouts.hugging_face import HuggingFace
from vitedge.pipeline.layouts.litert_community import LiteRTCommunity
from vitedge.targets.formats import Format
from vitedge.targets.layouts import Layout
from vitedge.targets.precisions import Precision


class FolderLayout(Protocol):
    """One way to lay out a folder."""

    @property
    def name(self) -> Layout:
        """Its name on the command line."""
        ...

    @property
    def format(self) -> Format:
        """The format of its artefacts."""
        ...

    @property
    def files(self) -> Mapping[Precision, str]:
        """The path inside the folder of the artefact of each precision that has one."""
        ...

    @property
    def beside(self) -> tuple[str, ...]:
        """The paths inside the folder of everything else that is written."""
        ...

    def demand_fit(self, *, probabilities: bool, batch: int) -> None:
        """Refuses options that its clients cannot do with.

        Raises:
            UsageError: There is one.
        """
        ...

    def demand_model(
        self,
        task: Task,
        shape: Sequence[int],
        labels: Sequence[str],
        preprocessing: Preprocessing,
    ) -> None:
        """Refuses a model whose main output its clients would misread.

        Args:
            task: The meaning of the output.
            shape: The shape of the output for one image.
            labels: The names of its numbers, or empty.
            preprocessing: The steps from an image to pixels.

        Raises:
            UsageError: The clients would misread it.
        """
        ...

    def adapted(self, draft: Draft) -> Draft:
        """An artefact with the names and the order of axes that its clients expect."""
        ...

    def describe(self, folder: Path, written: Sequence[Written], model: Summary | None) -> None:
        """Writes everything else beside the artefacts.

        Args:
            folder: The layout's folder.
            written: The artefacts in it.
            model: The sizes of the network; None if only the format's own converter read it.

        Raises:
            VitedgeError: The disk refuses.
        """
        ...


LAYOUTS: Mapping[Layout, FolderLayout] = MappingProxyType(
    {Layout.HUGGING_FACE: HuggingFace(), Layout.LITERT_COMMUNITY: LiteRTCommunity()}
)
