"""Names what a camera sees: on the picture, in the terminal, in a web page, in a window.

    python app.py model.int8.tflite                    camera 0, page on http://127.0.0.1:8000
    python app.py model.int8.tflite --source photos    a folder in place of a camera
    python app.py model.int8.tflite --host 0.0.0.0     page for the whole home network
    python app.py model.int8.tflite --window           label on the screen of the Pi

Copy this folder and change what you like: `watch` is all there is to it.
"""

from __future__ import annotations

import argparse
import errno
import itertools
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from page import Page
from picture import labelled

import vitedge
from vitedge.classifier import Prediction
from vitedge.errors import DataError, VitedgeError
from vitedge.machine.environment import temperature_c
from vitedge.terminal.printable import printable

Show = Callable[[Prediction, float], bool]
"""Shows one prediction and the frames per second; False means that the person has seen enough."""

# The hottest thermal zone is read as often: a file of the system, which costs time on a Pi.
SECONDS_BETWEEN_LINES = 1.0


def watch(predictions: Iterable[Prediction], show: Show) -> None:
    """Shows what frames are named until the source ends or nobody watches."""
    seconds, last = 0.0, None
    for prediction in predictions:
        now = time.monotonic()
        if last is not None:
            # Smoothed: the time between two frames jumps too much to be read.
            seconds += (now - last - seconds) * (0.1 if seconds else 1)
        last = now
        if not show(prediction, 1 / seconds if seconds else 0.0):
            return


class Lines:
    """Prints what was named: over the last line in a terminal, else a line when it changes."""

    def __init__(self) -> None:
        self._last, self._at = "", -SECONDS_BETWEEN_LINES

    def show(self, prediction: Prediction) -> None:
        """Prints the best class and the milliseconds."""
        label, probability = prediction.ranking[0]
        line = f"{probability:6.1%}  {printable(label)}  ({prediction.inference_ms:.1f} ms)"
        if sys.stderr.isatty():
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
            return
        now = time.monotonic()
        # A log is read later: no line says what the last one said, nor do hundreds a second.
        if label != self._last and now - self._at >= SECONDS_BETWEEN_LINES:
            self._last, self._at = label, now
            print(line.strip(), flush=True)


class Thermometer:
    """The machine's temperature, read once in a while."""

    def __init__(self) -> None:
        self._celsius: float | None = None
        self._at = -SECONDS_BETWEEN_LINES

    def celsius(self) -> float | None:
        """The temperature of the hottest part; None if the system does not tell."""
        now = time.monotonic()
        if now - self._at >= SECONDS_BETWEEN_LINES:
            self._celsius, self._at = temperature_c(), now
        return self._celsius


def slideshow(folder: Path, seconds: float) -> Iterator[Path]:
    """The images of a folder over and over, as a camera would give them."""
    from vitedge.stream import open_source

    for path in itertools.cycle(list(open_source(folder))):
        yield path
        time.sleep(seconds)


def _in_words(error: Exception, port: int) -> str:
    """The error in words; the system names neither port nor remedy if a port is in use."""
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return f"port {port} is in use: end what uses it, or give another with --port"
    return str(error)


def main() -> int:
    """Runs the app."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("artifact", type=Path, help="a file that `vitedge convert` wrote")
    parser.add_argument("--source", default="0", help="camera number or folder  [default: 0]")
    parser.add_argument("--target", help="target to run on, such as tflite-cpu")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--host", default="127.0.0.1", help="address of the page")
    parser.add_argument("--port", type=int, default=8000, help="port of the page; 0 takes any")
    parser.add_argument(
        "--name", action="append", default=[], help="another name of this machine; may be repeated"
    )
    parser.add_argument("--window", action="store_true", help="show the picture on the screen")
    parser.add_argument("--seconds", type=float, default=1.0, help="time per image of a folder")
    arguments = parser.parse_args()
    # systemd stops a service with SIGTERM; the camera shall be freed as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if arguments.source.isdecimal():
        source: int | Iterator[Path] = int(arguments.source)
    else:
        source = slideshow(Path(arguments.source), arguments.seconds)
    try:
        with vitedge.load(arguments.artifact, arguments.target, arguments.threads) as model:
            predictions = model.stream(source, top=5)
            # A camera that gives no picture is an error before the page is promised.
            first = next(predictions, None)
            if first is None:
                raise DataError(f"'{arguments.source}' gives no picture")
            with Page(
                arguments.host,
                arguments.port,
                name=arguments.artifact.name,
                names=arguments.name,
            ) as page:
                runs = f"{model.info.engine} runs {model.info.file.name}; watch {page.address}"
                print(printable(runs), flush=True)
                window = None
                if arguments.window:
                    from window import Window

                    window = Window()
                lines, thermometer = Lines(), Thermometer()

                def show(prediction: Prediction, frames_per_second: float) -> bool:
                    page.show(prediction, frames_per_second, thermometer.celsius())
                    lines.show(prediction)
                    if window is None:
                        return True
                    return window.show(labelled(prediction.image, prediction.ranking))

                watch(itertools.chain([first], predictions), show)
    except KeyboardInterrupt:
        return 0
    except (VitedgeError, OSError) as error:
        print(f"Error: {printable(_in_words(error, arguments.port))}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
