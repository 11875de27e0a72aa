"""Kills commands at random moments, and looks at what they leave.

``python -m tests.support.kills 50`` kills each command fifty times and prints what came of it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import vitedge
from tests.support.models import random_images, random_network
from vitedge.artifacts.metadata import read_metadata, sha256_of
from vitedge.bench import builtin
from vitedge.errors import ModelError
from vitedge.network.network import Network
from vitedge.pipeline.keras_model import write_keras
from vitedge.targets.formats import all_formats

_SUFFIXES = tuple(each.suffix for each in all_formats())
# Workers notice that the process that started them is gone, and end.
_SECONDS_FOR_WORKERS = 10.0
_EPOCHS = 30


@dataclass
class Killed:
    """What came of the kills of one command.

    Attributes:
        kills: How often it was killed before it ended.
        ends: How often it ended first.
        told_apart: Artefacts whose weights were another run's, and were refused.
        faults: What must not be: half files, wrong answers, runs that cannot go on.
    """

    kills: int = 0
    ends: int = 0
    told_apart: int = 0
    faults: list[str] = field(default_factory=list)


def tiny(seed: int) -> Network:
    """A ViT of the size of the built-in one's images, with random weights."""
    return random_network(seed, image_size=(16, 16), patch_size=(4, 4), channels=1)


def kill_convert(folder: Path, times: int, rng: np.random.Generator) -> Killed:
    """Two models with the same name are converted over each other, again and again."""
    pixels = list(random_images(tiny(0), 2))
    sources, logits = [], {}
    command = ["convert", "--fp32", "--format", "openvino", "--format", "onnx", "--force"]
    command += ["-o", folder / "out"]
    for seed in (0, 1):
        source = folder / str(seed) / "model.keras"
        source.parent.mkdir()
        write_keras(tiny(seed), source)
        sources.append(source)
        _vitedge([*command, source])
        for path in _artifacts(folder / "out"):
            logits[sha256_of(source), path.suffix] = _logits(path, pixels)

    def check(found: Killed) -> None:
        for path in _artifacts(folder / "out"):
            try:
                metadata = read_metadata(path)
                assert metadata is not None
                right = logits[metadata.source.sha256, path.suffix]
                if not np.array_equal(_logits(path, pixels), right):
                    found.faults.append(f"{path.name} computes something else than its source")
            except ModelError as error:
                if "do not belong together" in str(error):
                    found.told_apart += 1
                else:
                    found.faults.append(f"{path.name}: {error}")

    turns = iter(range(10**9))
    found = _kill(lambda: [*command, sources[next(turns) % 2]], times, rng, check, folder)
    _look_for_leftovers(folder / "out", found)
    return found


def kill_train(folder: Path, times: int, rng: np.random.Generator) -> Killed:
    """One run is resumed until it is done, then another begins."""
    model, run = folder / "model.keras", folder / "model.run"
    size = ("--grey", "--image-size", "16", "--patch-size", "8", "--dim", "8", "--depth", "1")
    begin = ["train", "--data", "digits", *size, "--heads", "1"]
    begin += ["--epochs", str(_EPOCHS), "-o", model]
    epochs = 0

    def command() -> list[str | Path]:
        if model.exists():
            shutil.rmtree(run)
            model.unlink()
        return [*begin, "--resume"] if (run / "state.npz").exists() else [*begin, "--force"]

    def check(found: Killed) -> None:
        nonlocal epochs
        if not (run / "state.npz").exists():
            return
        with np.load(run / "state.npz") as arrays:
            seen = len(json.loads(str(arrays["about"]))["history"])
            for name in arrays.files:
                np.asarray(arrays[name])
        if seen < epochs and seen and not model.exists() and epochs < _EPOCHS:
            found.faults.append(f"from {epochs} epochs back to {seen}")
        epochs = 0 if model.exists() else seen

    found = _kill(command, times, rng, check, folder)
    _look_for_leftovers(run, found)
    return found


def kill_bench(folder: Path, times: int, rng: np.random.Generator) -> Killed:
    """A bench that keeps its logits and replaces its reports."""
    reports = [folder / f"report.{suffix}" for suffix in ("json", "csv", "html")]
    artifact = next(each for each in builtin.artifacts() if each.suffix == ".tflite")
    command = ["bench", artifact, "--target", "tflite-cpu", "--runs", "5", "--force"]
    command += ["--data", _few_digits(folder)]
    for kind, path in zip(("--json", "--csv", "--html"), reports, strict=True):
        command += [kind, path]

    def check(found: Killed) -> None:
        if reports[0].exists():
            rows = json.loads(reports[0].read_text())["rows"]
            if [row["status"] for row in rows if row["status"] not in ("OK", "SLOWER")]:
                found.faults.append(f"rows of a resumed bench: {rows}")
        if reports[2].exists() and "</html>" not in reports[2].read_text()[-200:]:
            found.faults.append("half a page")
        if rng.random() < 0.3:
            shutil.rmtree(folder / "kept", ignore_errors=True)

    found = _kill(lambda: [*command, "--resume", folder / "kept"], times, rng, check, folder)
    _look_for_leftovers(folder, found)
    return found


def kill_pick(folder: Path, times: int, rng: np.random.Generator) -> Killed:
    """A model is converted in every precision and measured, over what the last run left."""
    write_keras(tiny(0), folder / "model.keras")
    command = ["pick", folder / "model.keras", "--data", _few_digits(folder), "--force"]
    command += ["--target", "tflite-cpu", "--max-drop", "100", "-o", folder / "out"]

    def check(found: Killed) -> None:
        for path in _artifacts(folder / "out"):
            try:
                metadata = read_metadata(path)
                if metadata is None or metadata.parity is None:
                    found.faults.append(f"{path.name} is not finished")
                vitedge.load(path, threads=1).close()
            except ModelError as error:
                found.told_apart += "do not belong together" in str(error)
                if "do not belong together" not in str(error):
                    found.faults.append(f"{path.name}: {error}")

    found = _kill(lambda: command, times, rng, check, folder)
    _look_for_leftovers(folder / "out", found)
    return found


COMMANDS: dict[str, Callable[[Path, int, np.random.Generator], Killed]] = {
    "convert": kill_convert,
    "train": kill_train,
    "bench": kill_bench,
    "pick": kill_pick,
}


def _kill(
    command: Callable[[], Sequence[str | Path]],
    times: int,
    rng: np.random.Generator,
    check: Callable[[Killed], None],
    folder: Path,
) -> Killed:
    """Lets a command run once, kills it at random moments, and lets it run once more."""
    found = Killed()
    start = time.monotonic()
    _vitedge(command())
    whole = time.monotonic() - start
    check(found)
    while found.kills < times:
        # Half of them near the end, where files are published.
        least = 0.5 if rng.random() < 0.5 else 0.0
        start = time.monotonic()
        process = subprocess.Popen(
            _line(command()), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=folder
        )
        try:
            _, errors = process.communicate(timeout=whole * rng.uniform(least, 1.0))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            found.kills += 1
        else:
            found.ends += 1
            whole = time.monotonic() - start  # a resumed run takes less
            if process.returncode not in (0, 3):
                found.faults.append(f"cannot go on: {errors.decode()[-300:]}")
        check(found)
        print(found, file=sys.stderr)
    _vitedge(command())
    check(found)
    return found


def _few_digits(folder: Path) -> Path:
    """Images that are told in no time."""
    with np.load(Path(builtin.__file__).parent / "digits.npz") as arrays:
        np.savez(folder / "few.npz", **{name: arrays[name][:60] for name in arrays.files})
    return folder / "few.npz"


def _line(arguments: Sequence[str | Path]) -> list[str | Path]:
    return [sys.executable, "-m", "vitedge", *arguments]


def _vitedge(arguments: Sequence[str | Path]) -> None:
    done = subprocess.run(_line(arguments), capture_output=True, check=False)
    assert done.returncode in (0, 3), done.stderr.decode()


def _artifacts(folder: Path) -> list[Path]:
    return sorted(each for each in folder.glob("*") if each.suffix in _SUFFIXES)


def _logits(path: Path, pixels: list[np.ndarray]) -> np.ndarray:
    with vitedge.load(path, threads=1) as classifier:
        return classifier.logits(pixels)


def _look_for_leftovers(folder: Path, found: Killed) -> None:
    """Hidden folders are gone after a run that ended, and so are the workers of those that died."""
    found.faults += [f"left behind: {each.name}" for each in folder.glob(".vitedge-*")]
    mark, deadline = os.fsencode(folder), time.monotonic() + _SECONDS_FOR_WORKERS
    while running := [each for each in Path("/proc").glob("[0-9]*") if _belongs(each, mark)]:
        if time.monotonic() > deadline:
            found.faults.append(f"still running: {running}")
            return
        time.sleep(0.2)


def _belongs(process: Path, mark: bytes) -> bool:
    try:
        return int(process.name) != os.getpid() and (process / "cwd").readlink() == Path(
            os.fsdecode(mark)
        )
    except OSError:
        return False


if __name__ == "__main__":
    for name in sys.argv[2:] or COMMANDS:
        with tempfile.TemporaryDirectory() as place:
            came = COMMANDS[name](Path(place), int(sys.argv[1]), np.random.default_rng(14))
        print(name, came, flush=True)
