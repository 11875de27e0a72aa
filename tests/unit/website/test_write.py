"""What no page can run is refused before npm is asked for anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.target_artifacts import small_artifact
from vitedge.cli import main
from vitedge.errors import ModelError, UnavailableError, UsageError
from vitedge.targets.formats import Format
from vitedge.targets.precisions import Precision
from vitedge.website.write import write_site


def test_openvino_does_not_run_in_browsers(tmp_path: Path) -> None:
    path = small_artifact(tmp_path, Format.OPENVINO, Precision.FP32)
    with pytest.raises(UsageError, match=r"give a \.tflite or an \.onnx file"):
        write_site(path, tmp_path / "site")


def test_logits_of_sixteen_bits_are_refused_with_what_to_do(tmp_path: Path) -> None:
    path = small_artifact(tmp_path, Format.TFLITE, Precision.INT8_STATIC)
    with pytest.raises(ModelError, match=r"convert with --int8$"):
        write_site(path, tmp_path / "site")


def test_a_missing_artefact_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no file .*absent\.onnx"):
        write_site(tmp_path / "absent.onnx", tmp_path / "site")


def test_nothing_is_left_where_npm_is_missing(tmp_path, monkeypatch) -> None:
    path = small_artifact(tmp_path, Format.ONNX, Precision.FP32)
    monkeypatch.setenv("VITEDGE_NPM", str(tmp_path / "npm"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="npm"):
        write_site(path, tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_force_is_for_sites_only() -> None:
    ended = CliRunner().invoke(main, ["deploy", "--force", "m.onnx", "pi@host:folder"])
    assert ended.exit_code == UsageError.exit_code
    assert "--force is for --web" in ended.output
