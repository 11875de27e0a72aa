"""A page in a real browser: Chromium without a window, driven through its own protocol.

https://chromedevtools.github.io/devtools-protocol; messages go through two pipes, each ended by a
zero byte, so that no port and no package is needed.
"""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
)
_SECONDS = 60.0


class Chromium:
    """One tab; a context manager that ends the browser.

    Args:
        profile: Folder for what the browser stores.
    """

    def __init__(self, profile: Path) -> None:
        to_browser, self._to = os.pipe()
        self._from, from_browser = os.pipe()
        # The protocol wants its pipes at 3 and 4, where a shell can put them. Copies above 9 are
        # out of the way; only bash reads numbers of two digits.
        reading, writing = (
            fcntl.fcntl(pipe, fcntl.F_DUPFD, 10) for pipe in (to_browser, from_browser)
        )
        self._process = subprocess.Popen(
            [
                *("bash", "-c", f'exec "$@" 3<&{reading} 4>&{writing}', "bash", str(CHROMIUM)),
                *(*_FLAGS, f"--user-data-dir={profile}", "--remote-debugging-pipe"),
                "about:blank",
            ],
            pass_fds=(reading, writing),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for pipe in (to_browser, from_browser, reading, writing):
            os.close(pipe)
        self._numbers = itertools.count(1)
        self._unread = b""
        self._session: str | None = None
        (page,) = (
            target
            for target in self.ask("Target.getTargets")["targetInfos"]
            if target["type"] == "page"
        )
        attached = self.ask("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]

    def __enter__(self) -> Chromium:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._to)
        self._process.kill()
        self._process.wait()
        os.close(self._from)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends a command and waits for its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, page: Path, *, width: int, dark: bool = False, height: int = 900) -> None:
        """Loads a file in a window of so many pixels, and waits until it is drawn."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        self.ask("Page.navigate", url=page.as_uri())
        self.wait("document.readyState === 'complete'")

    def run(self, expression: str) -> Any:
        """The value of an expression in the page."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression: str) -> Any:
        """The value of an expression, as soon as it is true."""
        give_up = time.monotonic() + _SECONDS
        while time.monotonic() < give_up:
            value = self.run(expression)
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(f"never true in the page: {expression}")

    def move_mouse(self, x: float, y: float) -> None:
        """Moves the pointer as a hand does, so that the page sees real events."""
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def picture(self, path: Path) -> None:
        """Saves the whole page as a PNG."""
        found = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def print_pages(self, path: Path) -> None:
        """Saves what the printer would get, as a PDF."""
        path.write_bytes(base64.b64decode(self.ask("Page.printToPDF")["data"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            read = os.read(self._from, 1 << 16)
            assert read, "Chromium ended"
            self._unread += read
        line, _, self._unread = self._unread.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message
