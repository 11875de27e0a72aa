"""Streams: all in order from a folder, the newest from a camera, and nothing left at the end."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import vitedge
from vitedge.bench import builtin
from vitedge.errors import DataError, UnavailableError, UsageError
from vitedge.images.preprocess import Preprocessing
from vitedge.stream import Frames, open_source, prepared_images
from vitedge.stream.cameras import open_camera
from vitedge.stream.mailbox import Closed, Mailbox

PREPROCESSING = Preprocessing((4, 4), channels=1, mean=(0.5,), std=(0.5,))
# Long enough for any busy machine, short enough to fail a test that hangs.
PATIENCE_S = 30.0


def frame(value: int) -> np.ndarray:
    return np.full((4, 4), value, np.uint8)


def vitedge_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("vitedge-")]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    for thread in vitedge_threads():
        thread.join(PATIENCE_S)
    assert not vitedge_threads()


# --- the mailbox


def test_a_mailbox_waits_for_its_item_to_be_taken() -> None:
    box: Mailbox[int] = Mailbox(newest=False)
    box.put(1)
    second = threading.Thread(target=box.put, args=(2,))
    second.start()
    assert box.take() == 1
    assert box.take() == 2
    second.join(PATIENCE_S)
    assert not second.is_alive()


def test_in_a_mailbox_of_the_newest_a_new_item_replaces_the_old() -> None:
    box: Mailbox[int] = Mailbox(newest=True)
    for number in range(5):
        box.put(number)
    assert box.take() == 4
    box.put(7)
    assert box.take() == 7


def test_a_closed_mailbox_gives_its_last_item_and_then_the_error() -> None:
    box: Mailbox[int] = Mailbox(newest=False)
    box.put(1)
    box.close(DataError("torn"))
    assert box.take() == 1
    with pytest.raises(DataError, match="torn"):
        box.take()
    with pytest.raises(Closed):
        box.put(2)


# --- the pipeline


def test_every_image_of_an_iterator_comes_in_order() -> None:
    frames = open_source(frame(value) for value in range(30))
    found = list(prepared_images(frames, PREPROCESSING))
    assert [int(each.pixels[0, 0, 0]) for each in found] == list(range(30))
    assert [each.number for each in found] == list(range(30))
    assert found[3].pixels.shape == (4, 4, 1)


def test_the_newest_frame_wins_when_the_app_is_slow() -> None:
    produced = threading.Event()

    def camera() -> Iterator[np.ndarray]:
        yield frame(0)
        asked.wait(PATIENCE_S)
        for value in range(1, 101):
            yield frame(value)
        produced.set()
        forever.wait(PATIENCE_S)

    asked, forever = threading.Event(), threading.Event()
    coming = prepared_images(open_source(camera(), newest=True), PREPROCESSING)
    assert next(coming).pixels[0, 0, 0] == 0
    asked.set()
    assert produced.wait(PATIENCE_S)
    found = [next(coming)]
    while found[-1].pixels[0, 0, 0] < 100:
        found.append(next(coming))
    # At most one lay ready, one was being prepared, and then comes the newest.
    assert len(found) <= 3
    assert [each.number for each in found] == [int(each.pixels[0, 0, 0]) for each in found]
    forever.set()
    coming.close()


def test_decoding_goes_on_while_the_app_is_busy() -> None:
    begun: list[int] = []
    third = threading.Event()

    def source() -> Iterator[np.ndarray]:
        for value in range(10):
            begun.append(value)
            if value == 2:
                third.set()
            yield frame(value)

    coming = prepared_images(open_source(source()), PREPROCESSING)
    next(coming)
    # Without asking again: one is prepared, one decoded meanwhile.
    assert third.wait(PATIENCE_S)
    coming.close()
    assert len(begun) < 10


def test_leaving_the_loop_frees_the_source() -> None:
    closed = threading.Event()
    endless = (frame(0) for _ in iter(int, 1))
    coming = prepared_images(Frames(endless, live=False, close=closed.set), PREPROCESSING)
    for _ in coming:
        break
    coming.close()
    assert closed.wait(PATIENCE_S)


def test_an_error_comes_after_the_images_before_it() -> None:
    def torn() -> Iterator[object]:
        yield frame(1)
        yield frame(2)
        yield "absent.png"

    coming = prepared_images(open_source(torn()), PREPROCESSING)  # type: ignore[arg-type]
    assert [int(next(coming).pixels[0, 0, 0]) for _ in range(2)] == [1, 2]
    with pytest.raises(DataError, match=r"absent\.png"):
        next(coming)


def test_an_error_of_the_source_itself_is_not_swallowed() -> None:
    def broken() -> Iterator[np.ndarray]:
        yield frame(1)
        raise OSError("the cable is out")

    with pytest.raises(OSError, match="the cable is out"):
        list(prepared_images(open_source(broken()), PREPROCESSING))


# --- sources


def test_a_folder_gives_its_images_by_name(tmp_path: Path) -> None:
    for name, value in (("b.png", 2), ("a.png", 1), ("c.png", 3)):
        Image.fromarray(frame(value)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    found = list(prepared_images(open_source(str(tmp_path)), PREPROCESSING))
    assert [int(each.pixels[0, 0, 0]) for each in found] == [1, 2, 3]
    assert found[0].image == tmp_path / "a.png"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("absent", "there is no folder 'absent'"),
        (None, "a NoneType is not a source"),
        (b"JPEG", "a bytes is not a source"),
        (True, "a bool is not a source"),
    ],
    ids=str,
)
def test_what_is_no_source_is_said_at_once(source: object, message: str) -> None:
    with pytest.raises((DataError, UsageError), match=message):
        open_source(source)  # type: ignore[arg-type]


def test_an_empty_folder_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no image in"):
        open_source(tmp_path)


def test_without_a_camera_package_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("picamera2", "cv2"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UnavailableError, match="python3-picamera2"):
        open_camera(0)


def test_opencv_says_which_camera_is_not_there() -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    with pytest.raises(DataError, match="camera 99 cannot be opened"):
        open_source(99)


def test_opencv_gives_red_where_red_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    video = str(tmp_path / "red.avi")
    writer = cv2.VideoWriter(video, cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    assert writer.isOpened()
    for _ in range(3):
        writer.write(np.full((48, 64, 3), (0, 0, 255), np.uint8))  # OpenCV's red
    writer.release()
    # A file stands in for the device; OpenCV reads both the same way.
    capture = cv2.VideoCapture
    monkeypatch.setitem(sys.modules, "picamera2", None)
    monkeypatch.setattr(cv2, "VideoCapture", lambda _: capture(video))
    frames = open_source(0)
    assert frames.live
    images = iter(frames)
    red = np.asarray(next(images))
    assert red.shape == (48, 64, 3)
    assert red[..., 0].min() > 200
    assert red[..., 1:].max() < 60
    with pytest.raises(DataError, match="gives no more frames"):
        list(images)
    frames.close()


class Picamera2:
    """As much of picamera2 as is used; the manual's section 4.2.2 names the formats."""

    closed = False

    def __init__(self, number: int) -> None:
        if number > 0:
            raise IndexError("list index out of range")

    def create_video_configuration(self, main: dict[str, object]) -> dict[str, object]:
        return main

    def configure(self, main: dict[str, object]) -> None:
        self.order = {"BGR888": (255, 0, 0), "RGB888": (0, 0, 255)}[str(main["format"])]
        self.size = main["size"]

    def start(self) -> None:
        self.started = True

    def capture_array(self, stream: str) -> np.ndarray:
        assert stream == "main"
        width, height = self.size
        return np.full((height, width, 3), self.order, np.uint8)

    def close(self) -> None:
        type(self).closed = True


def test_on_a_raspberry_pi_picamera2_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", SimpleNamespace(Picamera2=Picamera2))
    frames = open_source(0)
    red = np.asarray(next(iter(frames)))
    assert red.shape == (480, 640, 3)
    assert (red == (255, 0, 0)).all()
    frames.close()
    assert Picamera2.closed
    with pytest.raises(DataError, match="camera 1 cannot be opened"):
        open_source(1)


# --- the classifier's stream


@pytest.fixture(scope="module")
def classifier() -> Iterator[vitedge.Classifier]:
    with vitedge.load(builtin.artifacts()[0]) as loaded:
        yield loaded


def test_every_frame_was_given_or_is_counted_as_skipped(classifier: vitedge.Classifier) -> None:
    # Both threads that run ahead throw frames away; the last frame is always given.
    sample = np.asarray(builtin.images().samples[0].image)
    given = []
    for prediction in classifier.stream((sample for _ in range(2000)), newest=True):
        given.append(prediction.skipped)
        time.sleep(0.01)
    assert len(given) + sum(given) == 2000
    assert sum(given) > 0


def test_a_stream_says_of_each_frame_what_classify_says(
    classifier: vitedge.Classifier, tmp_path: Path
) -> None:
    for number, sample in enumerate(list(builtin.images().samples[:6])):
        Image.fromarray(np.asarray(sample.image).squeeze()).save(tmp_path / f"{number}.png")
    paths = sorted(tmp_path.iterdir())
    found = list(classifier.stream(tmp_path, top=3))
    assert [each.image for each in found] == paths
    assert [each.ranking for each in found] == [classifier.classify(path, 3) for path in paths]
    assert [each.skipped for each in found] == [0] * 6


def test_a_missing_source_is_an_error_of_the_call_itself(classifier: vitedge.Classifier) -> None:
    with pytest.raises(DataError, match="absent"):
        classifier.stream("absent")


def test_a_camera_never_makes_a_slow_app_wait_for_old_frames(
    classifier: vitedge.Classifier,
) -> None:
    numbers = iter(range(10**9))
    sample = np.asarray(builtin.images().samples[0].image)

    def camera() -> Iterator[np.ndarray]:
        for number in numbers:
            time.sleep(0.001)
            pixels = sample.copy()
            pixels.flat[0] = number % 256
            yield pixels

    skipped = []
    for prediction in classifier.stream(camera(), newest=True):
        skipped.append(prediction.skipped)
        time.sleep(0.05)
        if len(skipped) == 5:
            break
    assert sum(skipped[1:]) > 0
