"""A small web page with the live picture, from the standard library alone.

The browser asks for the answer after the one that it has, and gets it as soon as there is one; so
it shows every picture that it can keep up with, and no others cross the network.
"""

from __future__ import annotations

import io
import json
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import parse_qs, urlsplit

from PIL import Image

from vitedge.classifier import Ranking

_PAGE = Path(__file__).with_name("page.html")
# Proxies and browsers give up on a request that stays silent for much longer.
_SECONDS_TO_WAIT = 10.0


class Page:
    """Serves the page from threads of its own; a context manager that ends them.

    Args:
        host: Address to listen on; ``127.0.0.1`` is this machine only.
        port: 0 takes any that is free.
        name: What runs, for the page's heading.
    """

    def __init__(self, host: str, port: int, *, name: str) -> None:
        self._changed = threading.Condition()
        self._number = 0
        self._answer: dict[str, object] = {}
        self._jpeg = b""
        self._name = name
        self._server = ThreadingHTTPServer((host, port), partial(_Handler, self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def address(self) -> str:
        """Where to point a browser."""
        host, port = self._server.server_address[:2]
        return f"http://{host}:{port}/"

    def __enter__(self) -> Page:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def show(self, picture: Image.Image, ranking: Ranking, frames_per_second: float) -> None:
        """Puts up the next picture and what it was named."""
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=80)
        with self._changed:
            self._number += 1
            self._jpeg = stream.getvalue()
            self._answer = {
                "number": self._number,
                "model": self._name,
                "frames_per_second": round(frames_per_second, 1),
                "classes": [{"label": label, "share": share} for label, share in ranking],
            }
            self._changed.notify_all()

    def after(self, number: int) -> tuple[dict[str, object], bytes]:
        """The answer and JPEG after one that is known; the same again when none came for long."""
        with self._changed:
            self._changed.wait_for(lambda: self._number > number, _SECONDS_TO_WAIT)
            return self._answer, self._jpeg


class _Handler(BaseHTTPRequestHandler):
    """Answers one browser."""

    protocol_version = "HTTP/1.1"

    def __init__(self, page: Page, *arguments: object) -> None:
        self._page = page
        super().__init__(*arguments)  # type: ignore[arg-type]  # what the server passes

    def do_GET(self) -> None:
        """Serves the page, an answer or a picture."""
        address = urlsplit(self.path)
        number = parse_qs(address.query).get("after", ["0"])[0]
        known = int(number) if number.isdecimal() else 0
        match address.path:
            case "/":
                self._send("text/html; charset=utf-8", _PAGE.read_bytes())
            case "/answer.json":
                answer, _ = self._page.after(known)
                self._send("application/json", json.dumps(answer).encode())
            case "/picture.jpg":
                self._send("image/jpeg", self._page.after(known)[1])
            case _:
                self.send_error(404)

    def _send(self, kind: str, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        try:
            self.wfile.write(content)
        except (BrokenPipeError, ConnectionResetError):  # the browser went elsewhere
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Keeps the terminal for labels."""
