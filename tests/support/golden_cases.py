"""The golden files: checkpoints that other libraries made, and what they computed of them.

``reference/`` holds the scripts that made them, and runs the same checks over larger models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitedge.importers import ImportOptions, importers, read_model
from vitedge.network.evaluate import forward
from vitedge.network.kinds import Activation
from vitedge.network.operators import Norm

GOLDEN = Path(__file__).parents[1] / "golden"

BY_NAME = 0
"""The rank of importers by name."""

# NumPy and the libraries add up float32 in different orders: over two to six blocks that is 1e-6 of
# the range of the logits. Ten times as much is far below what any misplaced array would cause.
TOLERANCE = 1e-5

# Below lies what keeps a length of zero from dividing (SwinV2), which no library lets one choose.
LEAST_EPS = 1e-20


@dataclass(frozen=True)
class GoldenCase:
    """One checkpoint, how it is to be imported, and what it must compute."""

    folder: Path
    importer: str
    model: Path
    options: ImportOptions
    eps: float
    preprocessing: Mapping[str, Any]
    labels: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.folder.name

    def expected(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
        """Images and their logits."""
        with np.load(self.folder / "expected.npz") as arrays:
            return arrays["images"], arrays["logits"]


def golden_cases(root: Path = GOLDEN) -> list[GoldenCase]:
    """All cases below a folder, by name."""
    return [_case(path.parent) for path in sorted(root.glob("*/case.json"))]


def _case(folder: Path) -> GoldenCase:
    case = json.loads((folder / "case.json").read_text("utf-8"))
    return GoldenCase(
        folder=folder,
        importer=case["importer"],
        model=folder / case["model"],
        options=options_of(case["options"]),
        eps=case["eps"],
        preprocessing=case["preprocessing"],
        labels=tuple(case["labels"]),
    )


def options_of(values: Mapping[str, Any]) -> ImportOptions:
    """The options that a case has in JSON, in the types that importers take."""
    types = {"activation": Activation, "image_size": tuple}
    return ImportOptions(
        **{name: types.get(name, lambda each: each)(value) for name, value in values.items()}
    )


def assert_imported(case: GoldenCase) -> float:
    """Imports a case and compares all that is known of it.

    Returns:
        The largest difference of any logit, divided by the range of the logits.
    """
    recognizing = [
        importer.name
        for importer in importers()
        if importer.rank == BY_NAME and importer.recognizes(case.model)
    ]
    assert recognizing == [case.importer]
    imported = read_model(case.model, case.options)
    network = imported.network
    assert imported.path == f"by name: {case.importer}"
    norms = [each.operator for each in network.values if isinstance(each.operator, Norm)]
    assert {norm.eps for norm in norms if norm.eps > LEAST_EPS} == {case.eps}
    assert network.labels == case.labels
    found = network.preprocessing.to_dict()
    for field, value in case.preprocessing.items():
        assert found[field] == (tuple(value) if isinstance(value, list) else value), field
    images, logits = case.expected()
    difference = float(np.abs(forward(network, images) - logits).max() / np.ptp(logits))
    assert difference <= TOLERANCE
    return difference
