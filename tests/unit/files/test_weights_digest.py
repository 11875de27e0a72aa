"""A graph and the weights beside it belong together, whatever interrupts their publication."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.support.models import random_images, random_network
from vitedge.artifacts.metadata import (
    Metadata,
    Source,
    files_of,
    read_metadata,
    read_texts,
    sha256_of,
)
from vitedge.bench import builtin
from vitedge.classifier import load
from vitedge.converters.onnx import file as onnx_file
from vitedge.converters.openvino.texts import name_weights
from vitedge.converters.tools import converter_for
from vitedge.errors import ModelError
from vitedge.files.weights_digest import WEIGHTS_KEY, file_sha256, unreplaced
from vitedge.network.evaluate import forward
from vitedge.pipeline.verified_write import Reference, publish_artifact, write_checked
from vitedge.quantize.recipe import quantize
from vitedge.rewrite import apply_rewrites
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision


class _PowerCutError(Exception):
    """Ends a publication between its two renames."""


TWO_FILES = [Format.OPENVINO, Format.ONNX]


@pytest.fixture(params=TWO_FILES, ids=str)
def target(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Format:
    # ONNX has its weights beside it from 2 GiB on; here from 16 KiB on.
    monkeypatch.setitem(onnx_file.write_onnx.__kwdefaults__, "limit", 1 << 14)
    return request.param


def written(folder: Path, target: Format, seed: int) -> Path:
    network = random_network(seed)
    pixels = random_images(network, 2)
    rewritten, _ = apply_rewrites(network)
    recipe = quantize(rewritten, Precision.FP32).recipe
    draft = converter_for(target, Precision.FP32).convert(rewritten, recipe)
    source = Source("model.keras", "0" * 64, "by name: test")
    metadata = Metadata(target, Precision.FP32, network.labels, network.preprocessing, source)
    path = folder / f"model.fp32{target.suffix}"
    return write_checked(draft, path, metadata, Reference(pixels, forward(network, pixels))).path


def without_digest(path: Path) -> None:
    """Makes an artefact what vitedge 0.1 wrote."""
    content = path.read_bytes()
    if path.suffix == ".onnx":
        import onnx

        model = onnx.load(path, load_external_data=False)
        kept = [entry for entry in model.metadata_props if entry.key != WEIGHTS_KEY]
        del model.metadata_props[:]
        model.metadata_props.extend(kept)
        content = model.SerializeToString()
    else:
        lines = content.splitlines(keepends=True)
        content = b"".join(line for line in lines if WEIGHTS_KEY.encode() not in line)
    path.write_bytes(content)
    assert WEIGHTS_KEY not in read_texts(path)


def cut_between_renames(staged: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = Path.replace
    weights = files_of(staged)[1].name

    def replace_and_die(self: Path, to: Path) -> Path:
        done = replace(self, to)
        if Path(to).name == weights:
            raise _PowerCutError
        return done

    with monkeypatch.context() as cut, pytest.raises(_PowerCutError):
        cut.setattr(Path, "replace", replace_and_die)
        publish_artifact(staged, folder)


def test_the_main_file_names_the_digest_of_its_weights(tmp_path: Path, target: Format) -> None:
    path = written(tmp_path, target, 0)
    assert read_texts(path)[WEIGHTS_KEY] == sha256_of(files_of(path)[1])


def test_weights_of_another_conversion_are_refused_with_the_way_out(
    tmp_path: Path, target: Format
) -> None:
    path, other = written(tmp_path / "a", target, 0), written(tmp_path / "b", target, 1)
    shutil.copy(files_of(other)[1], files_of(path)[1])
    with pytest.raises(ModelError, match=r"do not belong together: .*convert again with --force"):
        load(path)


def test_one_wrong_byte_of_the_weights_is_refused(tmp_path: Path, target: Format) -> None:
    path = written(tmp_path, target, 0)
    weights = files_of(path)[1]
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match="do not belong together"):
        read_metadata(path)


@pytest.mark.thorough
@pytest.mark.parametrize("is_old", [False, True], ids=["of today", "of 0.1"])
def test_a_cut_between_the_renames_is_noticed(
    tmp_path: Path, target: Format, is_old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = written(tmp_path / "old", target, 0), written(tmp_path / "new", target, 1)
    if is_old:
        without_digest(old)
        assert load(old).metadata == read_metadata(old)
    cut_between_renames(new, old.parent, monkeypatch)
    with pytest.raises(ModelError, match="do not belong together"):
        load(old)
    written(old.parent, target, 1)
    assert load(old).metadata == read_metadata(old)


def test_what_0_1_wrote_is_still_loaded(tmp_path: Path, target: Format) -> None:
    path = written(tmp_path, target, 0)
    pixels = list(random_images(random_network(0), 2))
    with load(path, threads=1) as classifier:
        before = classifier.logits(pixels)
    without_digest(path)
    with load(path, threads=1) as classifier:
        np.testing.assert_array_equal(classifier.logits(pixels), before)


def test_an_xml_without_rt_info_is_bound_too(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"weights")
    path = tmp_path / "model.xml"
    path.write_bytes(name_weights(b"<net><layers/></net>", file_sha256(tmp_path / "model.bin")))
    assert read_metadata(path) is None
    assert read_texts(path)[WEIGHTS_KEY] == sha256_of(tmp_path / "model.bin")


def test_a_file_replaced_while_it_is_loaded_is_noticed(tmp_path: Path) -> None:
    shutil.copy(builtin.artifacts()[0], tmp_path / "model")
    with (
        pytest.raises(ModelError, match=r"replaced while it was being loaded"),
        unreplaced((tmp_path / "model",)),
    ):
        (tmp_path / "new").write_bytes(b"other")
        (tmp_path / "new").replace(tmp_path / "model")


def test_a_damaged_artefact_is_overwritten_all_the_same(tmp_path: Path) -> None:
    path = written(tmp_path, Format.OPENVINO, 0)
    path.write_bytes(b"<net")
    written(tmp_path, Format.OPENVINO, 1)
    assert read_metadata(path) is not None
