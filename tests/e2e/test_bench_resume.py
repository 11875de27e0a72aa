from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.bench_artifacts import save_onnx
from tests.support.bench_fakes import SIZE, linear_logits
from vitedge.bench.reference import ModelReference
from vitedge.bench.run import BenchOptions, run_bench
from vitedge.bench.workers.logits import LogitsStore, LogitsWriter, StoredLogits
from vitedge.errors import UsageError, VitedgeError
from vitedge.files.folder_lock import only_writer
from vitedge.images.image_sets import ImageSet, open_images
from vitedge.images.preprocess import Preprocessing
from vitedge.images.samples import Sample
from vitedge.report.results import Status
from vitedge.targets.target import Target

CPU = [Target("onnx", "cpu")]
IMAGES = 3000


def rows_of(stored: StoredLogits) -> np.ndarray:
    return stored[np.arange(stored.shape[0])]


def test_rows_left_out_are_zeros_wherever_they_lie(tmp_path: Path) -> None:
    with LogitsWriter(tmp_path / "logits.f32", classes=2) as table:
        table.leave_out(0, "torn")
        table.write([1, 3], np.array([[1, 2], [3, 4]], np.float32))
        table.leave_out(4, "gone")
        stored = table.finish(5)
    np.testing.assert_array_equal(rows_of(stored), [[0, 0], [1, 2], [0, 0], [3, 4], [0, 0]])
    assert table.unreadable == {0: "torn", 4: "gone"}


def test_whoever_was_killed_goes_on_behind_the_last_whole_row(tmp_path: Path) -> None:
    path = tmp_path / "logits.f32"
    with LogitsWriter(path, classes=2) as table:
        table.leave_out(1, "torn")
        table.write([0, 2], np.ones((2, 2), np.float32))
        table.leave_out(3, "noted before its row was written")
    with path.open("ab") as stream:
        stream.write(b"\0\0\0\0\0")  # half a row
    with path.with_suffix(".unreadable").open("a") as stream:
        stream.write('[4, "hal')
    with LogitsWriter(path, classes=2) as table:
        assert (table.rows, table.unreadable) == (3, {1: "torn"})
        table.write([3], np.full((1, 2), 7, np.float32))
        stored = table.finish(4)
    np.testing.assert_array_equal(rows_of(stored), [[1, 1], [0, 0], [1, 1], [7, 7]])


def test_a_disk_that_refuses_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(VitedgeError, match=r"cannot write '.*file"):
        LogitsStore(tmp_path / "file", "these images", keeps=True).path_for("a row")


def test_two_benches_never_share_a_folder(tmp_path: Path) -> None:
    artifact, resume = save_onnx(tmp_path / "model.onnx"), tmp_path / "progress"
    options = BenchOptions(threads=1, runs=3, resume=resume)
    with only_writer(resume), pytest.raises(UsageError, match="another process writes into"):
        run_bench([artifact], CPU, options=options)
    (row,) = run_bench([artifact], CPU, options=options).rows
    assert row.status is Status.OK


def test_a_folder_is_free_again_when_its_process_is_killed(tmp_path: Path) -> None:
    holding = (
        "import sys, time; from pathlib import Path; from vitedge.files.folder_lock import *\n"
    )
    holding += "with only_writer(Path(sys.argv[1])): print(flush=True); time.sleep(60)"
    command = [sys.executable, "-c", holding, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(UsageError), only_writer(tmp_path):
            pass
        process.kill()
    with only_writer(tmp_path, wait=True):
        pass


def save_photos(folder: Path, n: int) -> Path:
    rng = np.random.default_rng(0)
    folder.mkdir()
    lines = ["file,label"]
    for index in range(n):
        pixels = rng.integers(0, 100, (SIZE, SIZE, 3), np.uint8)
        pixels[:, :, index % 3] += 120
        Image.fromarray(pixels).save(folder / f"{index}.png")
        lines.append(f"{index}.png,{index % 3}")
    (folder / "7.png").write_bytes(b"torn")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


def stored_images(resume: Path) -> int:
    """Images that are done, of the row that has got furthest."""
    sizes = [path.stat().st_size for path in resume.glob("*.f32")]
    return max(sizes, default=0) // (3 * 4)


def test_a_bench_that_is_killed_goes_on_where_it_stopped(tmp_path: Path) -> None:
    artifact = save_onnx(tmp_path / "model.onnx")
    photos, resume = save_photos(tmp_path / "photos", IMAGES), tmp_path / "progress"
    command = [sys.executable, "-m", "vitedge", "bench", str(artifact), "--target", "onnx-cpu"]
    command += ["--runs", "3", "--threads", "1", "--data", str(photos), "--resume", str(resume)]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    while stored_images(resume) <= 20:
        assert process.poll() is None, "the bench ended before it could be interrupted"
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)  # the worker with it, as when the power fails
    process.wait()
    done = stored_images(resume)
    assert 20 < done < IMAGES

    (stored,) = resume.glob("*.f32")
    with stored.open("r+b") as stream:  # the first image, red, is blue from now on
        stream.write(np.array([0, 0, 255], "<f4").tobytes())
    options = BenchOptions(threads=1, runs=3, resume=resume)
    data = open_images(photos, ("red", "green", "blue"))
    report = run_bench([artifact], CPU, data=data, options=options)
    (row,) = report.rows
    assert row.accuracy is not None
    # All are right but the one that was tampered with, so what was there was not computed again.
    right = IMAGES - 2
    assert row.accuracy.n == IMAGES - 1
    assert row.accuracy.top1 == pytest.approx(100 * right / (IMAGES - 1))
    assert report.data is not None
    assert [line.split(":")[0] for line in report.data.unreadable] == ["7.png"]


def test_a_changed_image_or_artifact_is_computed_anew(tmp_path: Path) -> None:
    artifact, photos = save_onnx(tmp_path / "model.onnx"), save_photos(tmp_path / "photos", 12)
    options = BenchOptions(threads=1, runs=1, resume=tmp_path / "progress")

    def files_after_a_bench() -> int:
        data = open_images(photos, ("red", "green", "blue"))
        run_bench([artifact], CPU, data=data, options=options)
        return len(list((tmp_path / "progress").glob("*.f32")))

    assert [files_after_a_bench(), files_after_a_bench()] == [1, 1]
    Image.new("RGB", (9, 9)).save(photos / "0.png")
    assert files_after_a_bench() == 2
    save_onnx(artifact, scale=2.0)
    assert files_after_a_bench() == 3


class Zeros(list[Sample]):
    """As many images as wanted, in no memory."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __iter__(self):
        return (self[index] for index in range(self.n))

    def __getitem__(self, index):
        return Sample("", np.zeros((SIZE, SIZE, 3), np.uint8), 0)


@pytest.mark.slow
def test_fifty_thousand_images_take_no_more_memory_than_a_thousand(tmp_path: Path) -> None:
    artifact = save_onnx(tmp_path / "model.onnx")
    truth = ModelReference("the truth", Preprocessing(size=(SIZE, SIZE)), linear_logits)

    def peak_mb(n: int) -> float:
        tracemalloc.start()
        run_bench(
            [artifact],
            CPU,
            data=ImageSet("zeros", Zeros(n)),
            reference=truth,
            options=BenchOptions(threads=1, runs=3),
        )
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak / 1e6

    peak_mb(1000)  # what is imported once is no part of it
    # Names, labels and verdicts of fifty thousand images: about 150 bytes each.
    assert peak_mb(50_000) < peak_mb(1000) + 10
