"""What npm has to bring, and what is said where it is not here."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitedge.browser.packages import (
    FOLDER_VARIABLE,
    LITERT_JS,
    ONNX_RUNTIME_WEB,
    engine_files,
    install,
    installed_version,
    remedy,
)
from vitedge.errors import UnavailableError
from vitedge.runtimes import Readiness, runtime_for
from vitedge.targets.target import Target

ENGINES = [LITERT_JS, ONNX_RUNTIME_WEB]
WEB = ["tflite-web", "tflite-web-gpu", "onnx-web", "onnx-web-gpu"]
PINS = Path(__file__).parents[2] / "support" / "client_programs" / "npm.txt"


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_the_tests_have_the_version_that_is_deployed(engine) -> None:
    assert engine.pin in PINS.read_text().split()


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_a_package_that_is_not_whole_is_not_installed(engine, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    modules = tmp_path / "node_modules"
    for inside in engine.files.values():
        assert installed_version(engine) is None
        (modules / inside).parent.mkdir(parents=True, exist_ok=True)
        (modules / inside).write_bytes(b"")
    described = modules / engine.package / "package.json"
    described.write_text("{garbled")
    assert installed_version(engine) is None
    described.write_text('{"version": "1.2.3"}')
    assert installed_version(engine) == "1.2.3"
    assert set(engine_files(engine)) == {*engine.files, "engine.mjs"}


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_without_npm_somebody_says_what_to_do(engine, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match=r"neither is npm.*Install Node\.js"):
        install(engine)
    assert f"--prefix {tmp_path}" in remedy(engine)


def test_an_npm_that_fails_is_quoted(tmp_path, monkeypatch) -> None:
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error code E404' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "packages"))
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(UnavailableError, match=r"did not bring .*E404\. Run: npm install"):
        install(LITERT_JS)


@pytest.mark.parametrize("target", WEB)
def test_a_browser_that_is_not_here_is_missing(target, monkeypatch) -> None:
    monkeypatch.setenv("VITEDGE_CHROMIUM", "/no/such/browser")
    wanted = Target.parse(target)
    state = runtime_for(wanted).availability(wanted.device)
    assert state.readiness is Readiness.MISSING
    assert "/no/such/browser" in state.detail
    assert "VITEDGE_CHROMIUM" in state.remedy
