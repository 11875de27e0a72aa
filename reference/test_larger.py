"""The checks of the golden files over larger models, made live by the same scripts.

Run with ``pytest reference`` where the ``reference`` extra is installed. Each test reports how far
the imported logits are from the library's, as a share of their range.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from reference.golden import HALVES, LARGE, normalized
from reference.makers import MAKERS
from reference.torch_models import logits_of, randomize
from tests.support.golden_cases import TOLERANCE, assert_imported, golden_cases
from vitedge.importers import ImportOptions, read_model
from vitedge.network.evaluate import forward
from vitedge.network.summary import summary

# The libraries warn about themselves and each other; here it is their numbers that matter.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__.split(".")[-1])
def test_larger_models_compute_the_same_logits(
    maker: ModuleType, tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    maker.make(tmp_path, LARGE)
    cases = golden_cases(tmp_path)
    assert cases
    for case in cases:
        difference = assert_imported(case)
        record_property(case.name, difference)
        print(f"{case.name}: {difference:.1e}")


def test_vit_base_of_the_paper_computes_the_same_logits(tmp_path: Path) -> None:
    model = randomize(timm.create_model("vit_base_patch16_224"))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    options = ImportOptions(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    network = read_model(tmp_path / "model.safetensors", options).network
    images = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    logits = logits_of(model, normalized(images, HALVES))
    difference = np.abs(forward(network, images) - logits).max() / np.ptp(logits)
    print(f"vit_base_patch16_224: {difference:.1e}")
    assert difference <= TOLERANCE


@pytest.mark.parametrize(
    ("name", "heads", "parameters"),
    [("vit_large_patch16_224", 16, 304_326_632), ("vit_huge_patch14_224", 16, 632_045_800)],
)
def test_large_and_huge_of_the_paper_are_imported_by_shape(
    name: str, heads: int, parameters: int, tmp_path: Path
) -> None:
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=1000)
    path = _empty_checkpoint(model, tmp_path / "model.safetensors")
    network = read_model(path).network
    found = summary(network)
    assert found.heads == (heads,)
    # The class token and its position are one array in the canonical form.
    assert network.parameters == parameters - found.dim


def _empty_checkpoint(model: torch.nn.Module, path: Path) -> Path:
    """A checkpoint of zeros that takes no room on disk: a header before a hole."""
    header, offset = {}, 0
    for name, tensor in model.state_dict().items():
        size = 4 * tensor.numel()
        header[name] = {
            "dtype": "F32",
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header).encode()
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + offset)
    return path
