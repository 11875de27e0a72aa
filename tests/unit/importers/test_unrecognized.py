"""What is no model, or none that is known, is refused with what it is and what to do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.support.golden_cases import GOLDEN
from vitedge.errors import ModelError
from vitedge.importers import read_model

DAMAGED = {
    "a.keras": "Keras",
    "a.h5": "HDF5",
    "a.npz": "NumPy",
    "a.pth": "torch",
    "a.safetensors": "safetensors",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_text_under_the_name_of_a_model_is_not_one(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("hello text\n")
    with pytest.raises(ModelError, match=f"truncated or not a {DAMAGED[name]} file$"):
        read_model(tmp_path / name)


@pytest.mark.parametrize(
    "golden",
    [
        "keras_hub_vit/model.keras",
        "vit_keras_h5/vit.h5",
        "google_npz/vit.npz",
        "timm_pth/model.pth",
    ],
)
def test_half_a_file_is_called_truncated(golden: str, tmp_path: Path) -> None:
    content = (GOLDEN / golden).read_bytes()
    half = tmp_path / Path(golden).name
    half.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="truncated or not a"):
        read_model(half)


def test_weights_of_another_network_are_named(tmp_path: Path) -> None:
    names = ("conv1.weight", "bn1.weight", "fc.weight", "fc.bias")
    save_file({name: np.zeros(2, np.float32) for name in names}, tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match=r"holds 4 arrays .*'bn1\.weight', .* or \.onnx$"):
        read_model(tmp_path / "a.safetensors")


def test_a_file_and_a_folder_of_no_known_kind_say_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("hello")
    with pytest.raises(ModelError, match=r"none of \.safetensors, \.pth, .* \.onnx files"):
        read_model(tmp_path / "readme.txt")
    (tmp_path / "empty.keras").touch()
    with pytest.raises(ModelError, match="it is empty"):
        read_model(tmp_path / "empty.keras")
    with pytest.raises(ModelError, match=r"a folder needs a config\.json"):
        read_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mobilevit"}))
    with pytest.raises(
        ModelError, match=r"beside its config\.json lies none of model\.safetensors"
    ):
        read_model(tmp_path)
    save_file({"a": np.zeros(2, np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"of a 'mobilevit', .* export it to \.onnx$"):
        read_model(tmp_path)


def hub_folder(folder: Path, architecture: str, *names: str) -> Path:
    """A folder as timm's ``save_for_hf`` writes it."""
    config = {"architecture": architecture, "num_features": 8, "pretrained_cfg": {}}
    (folder / "config.json").write_text(json.dumps(config))
    arrays = {name: np.zeros((2, 3, 4, 4), np.float32) for name in names}
    save_file(arrays, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("architecture", "names"),
    [
        ("levit_128s", ("stem.conv1.linear.weight", "stages.0.blocks.0.attn.qkv.ln.weight")),
        ("xcit_nano_12_p16_224", ("patch_embed.proj.0.0.weight", "blocks.0.norm1.weight")),
        ("vit_small_patch16_18x2_224", ("patch_embed.proj.weight", "blocks.0.attns.0.norm.weight")),
        ("vit_base_patch16_xp_224", ("patch_embed.proj.weight", "blocks.0.in_norm.weight")),
    ],
)
def test_a_hub_folder_of_timm_names_its_architecture(
    architecture: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    # "A folder needs a config.json with weights" was said of a folder that had both.
    folder = hub_folder(tmp_path, architecture, *names)
    match = rf"config\.json.* is of the architecture '{architecture}'.* export it to \.onnx$"
    for source in (folder, folder / "model.safetensors"):
        with pytest.raises(ModelError, match=match):
            read_model(source)


@pytest.mark.parametrize("config", ["config.json", "task.json"])
def test_a_preset_of_keras_hub_names_its_class(config: str, tmp_path: Path) -> None:
    # It was said to need a task.json, which it had.
    told = {"registered_name": "keras_hub>MiTImageClassifier", "config": {}}
    (tmp_path / config).write_text(json.dumps(told))
    match = rf"its {config} is of KerasHub's 'keras_hub>MiTImageClassifier'.* as \.keras"
    with pytest.raises(ModelError, match=match):
        read_model(tmp_path)


def test_damaged_weights_in_a_hub_folder_are_called_so(tmp_path: Path) -> None:
    folder = hub_folder(tmp_path, "vit_tiny_patch16_224", "a")
    (folder / "model.safetensors").write_text("hello text\n")
    with pytest.raises(ModelError, match="is not a model: it is truncated"):
        read_model(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"beside its config\.json lies none of model"):
        read_model(folder)
