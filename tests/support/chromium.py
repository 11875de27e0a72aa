"""A page in a real browser, as a person sees it and moves the mouse over it."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

from vitedge.browser import chromium
from vitedge.browser.chromium import find_chromium
from vitedge.errors import VitedgeError

CHROMIUM = find_chromium()
_SECONDS = 60.0


class Chromium(chromium.Chromium):
    """One tab; a context manager that ends the browser.

    Args:
        profile: Folder for what the browser stores.
        flags: More of its options.
        has_gpu: Whether pages may compute on one, be it software.
    """

    def __init__(
        self, profile: Path, flags: tuple[str, ...] = (), *, has_gpu: bool = False
    ) -> None:
        super().__init__(profile, flags=flags if has_gpu else ("--disable-gpu", *flags))

    def open(self, page: Path | str, *, width: int, dark: bool = False, height: int = 900) -> None:
        """Loads a file or an address in a window of so many pixels, and waits until it is drawn."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        self.open_address(page if isinstance(page, str) else page.as_uri())

    def wait(self, expression: str) -> Any:
        """The value of an expression, as soon as it is true."""
        give_up = time.monotonic() + _SECONDS
        value: Any = None
        while time.monotonic() < give_up:
            try:
                value = self.run(expression)
            except VitedgeError as error:  # a page that is loading has no document yet
                value = None
                self.said.append(str(error))
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(f"never true in the page: {expression}; it said {list(self.said)}")

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
