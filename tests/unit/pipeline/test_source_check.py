"""`import --check`: what was compared with what, in words that claim no more than was done."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.support.golden_cases import GOLDEN, golden_cases
from tests.support.models import random_network
from vitedge.cli import main
from vitedge.errors import NotAViTError, ParityError
from vitedge.importers import Imported, ImportOptions, read_model
from vitedge.importers.lift import lift
from vitedge.importers.lift.onnx_probe import OnnxProbe
from vitedge.pipeline.convert import ConvertOptions, convert
from vitedge.pipeline.keras_model import import_model, write_keras
from vitedge.pipeline.source_check import check_source, read_compared
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision

CASES = {case.name: case for case in golden_cases()}
LIFTED = GOLDEN / "lift" / "timm_script_one.onnx"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(9):
        pixels = rng.integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def test_a_file_of_weights_is_not_said_to_have_been_run() -> None:
    case = CASES["timm_vit"]
    names, run, keras = check_source(case.model, case.options).findings
    assert names == "every tensor of the source found its place by name, and all shapes agree"
    assert run.startswith("the source was not run: it holds weights, and no network")
    assert keras.startswith("as a Keras model it gives the same logits: ")
    assert keras.endswith("on 2 random images")


def test_a_source_whose_code_may_not_run_says_so() -> None:
    case = CASES["vit_keras_keras"]
    _, run, _ = check_source(case.model, case.options).findings
    assert run.startswith("the source was not run: layer 'ExtractToken' of ")
    assert "if you trust its author, add --trust" in run


def test_a_source_read_by_name_that_can_be_run_is_run(tmp_path: Path) -> None:
    write_keras(random_network(3), tmp_path / "model.keras")
    _, run, _ = check_source(tmp_path / "model.keras", ImportOptions()).findings
    assert run.startswith("the source was run: max logit difference ")
    assert run.endswith("on 4 random images")


def test_a_source_that_computes_something_else_than_was_read_is_an_error(tmp_path: Path) -> None:
    write_keras(random_network(3), tmp_path / "model.keras")
    with pytest.raises(ParityError, match="computes something else: max logit difference"):
        check_source(tmp_path / "model.keras", ImportOptions(norm_eps=0.1))


def test_every_artefact_says_that_weights_alone_could_not_be_compared(tmp_path: Path) -> None:
    case = CASES["timm_vit"]
    words = (
        "by name: timm, logits not compared: it holds weights, and no network to compute logits "
        "with"
    )
    options = ConvertOptions(
        (Format.ONNX,), (Precision.FP32,), output=tmp_path, importing=case.options
    )
    (written,) = convert(case.model, options)
    assert written.metadata.source.path == words
    imported = import_model(case.model, tmp_path / "model.keras", case.options)
    assert imported.path == words
    # Our own file passes on where its weights came from.
    assert read_model(tmp_path / "model.keras").path == f"by name: vitedge ({words})"
    again = import_model(tmp_path / "model.keras", tmp_path / "again.keras", ImportOptions())
    assert read_model(tmp_path / "again.keras").path == again.path


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A whole model that is read by its names, as if it were not our own."""
    write_keras(random_network(3), tmp_path / "model.keras")

    def read(path: Path, options: ImportOptions) -> Imported:
        return replace(read_model(path, options), path="by name: another", origin=None)

    monkeypatch.setattr("vitedge.pipeline.source_check.read_model", read)
    return tmp_path / "model.keras"


def test_a_whole_model_is_run_on_every_import_and_its_path_says_so(foreign: Path) -> None:
    imported = read_compared(foreign, ImportOptions())
    assert imported.path == f"by name: another, {imported.proof}"
    assert imported.proof.startswith("max logit difference ")
    assert imported.proof.endswith("on 4 random images")


def test_an_option_that_contradicts_a_whole_model_is_an_error_on_every_import(
    foreign: Path,
) -> None:
    with pytest.raises(ParityError, match="is an option wrong"):
        read_compared(foreign, ImportOptions(norm_eps=0.1))


def test_a_model_of_another_image_size_than_its_source_is_not_compared(foreign: Path) -> None:
    height, width = read_model(foreign).network.preprocessing.size
    imported = read_compared(foreign, ImportOptions(image_size=(2 * height, 2 * width)))
    assert imported.path == (
        "by name: another, logits not compared: --image-size makes a model of other positions"
    )


def test_no_artefact_names_the_folder_of_its_source(tmp_path: Path) -> None:
    case = CASES["vit_keras_keras"]
    path = read_compared(case.model, case.options).path
    assert path.startswith("by name: vit-keras, logits not compared: layer 'ExtractToken' of it ")


def test_the_command_compares_on_the_first_eight_photos_and_writes_nothing(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["import", "--check", "--images", str(photos), "--json", str(LIFTED)]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert "on 4 random and 8 real images" in found["path"]
    run, keras = found["checked"]
    assert run.startswith("the source was run: max logit difference ")
    assert run.endswith("on 4 random and 8 real images")
    assert keras.endswith("on 2 random and 8 real images")
    assert found["output"] is None
    assert not (tmp_path / "model.keras").exists()


def test_a_lift_that_is_wrong_on_the_users_images_alone_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = (np.full((32, 32, 3), 255, np.uint8),)
    lifted = lift(OnnxProbe(LIFTED), images=images)
    assert (lifted.proof.random, lifted.proof.real) == (4, 1)
    from vitedge.importers.lift import proof

    def wrong_on_white(network, pixels):  # type: ignore[no-untyped-def]
        white = pixels.min(axis=(1, 2, 3)) == 255
        outputs = right(network, pixels)
        return {name: made + white[:, None] for name, made in outputs.items()}

    right = proof.evaluate_each
    monkeypatch.setattr(proof, "evaluate_each", wrong_on_white)
    lift(OnnxProbe(LIFTED))
    with pytest.raises(NotAViTError, match="logits differ from the source's"):
        lift(OnnxProbe(LIFTED), images=images)
