"""A small web page with the live picture, from the standard library alone.

The browser asks for the answer after the one that it has, and gets it as soon as there is one; so
it shows every picture that it can keep up with, and no others cross the network.
"""

from __future__ import annotations

import base64
import hashlib
import io
import ipaddress
import json
import re
import socket
import threading
from collections.abc import Iterable
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from urllib.parse import parse_qs, urlsplit

from picture import sized
from server import SECONDS_OF_SILENCE, Server

from vitedge.classifier import Prediction

_PAGE = Path(__file__).with_name("page.html")
# Proxies and browsers give up on a request that stays silent for much longer.
_SECONDS_TO_WAIT = 10.0

_NUMBER = re.compile(r"[0-9]{1,15}")
_HOST = re.compile(r"(\[(?P<address>[^\]]+)\]|(?P<name>[^:\[\]]+))(:[0-9]{1,5})?")
_HEADERS = (
    ("Cache-Control", "no-store"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
)


class Page:
    """Serves the page from threads of its own; a context manager that ends them.

    Args:
        host: Address to listen on; ``127.0.0.1`` is this machine only.
        port: 0 takes any that is free.
        name: What runs, for the page's heading.
        names: What else this machine is called, beside its own name and its addresses.
    """

    def __init__(self, host: str, port: int, *, name: str, names: Iterable[str] = ()) -> None:
        self._changed = threading.Condition()
        self._number = 0
        self._answer: dict[str, object] = {}
        self._jpeg = b""
        self._name = name
        # Browsers take the digest of the script after they made its line ends single.
        self.html = _PAGE.read_bytes().replace(b"\r\n", b"\n")
        self.policy = _policy(self.html)
        own = socket.gethostname().lower()
        self._names = {"localhost", own, f"{own}.local", host, *map(str.lower, names)}
        self._server = Server((host, port), partial(_Handler, self))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def address(self) -> str:
        """Where to point a browser."""
        host, port = self._server.server_address[:2]
        return f"http://{host}:{port}/"

    def is_called(self, host: str) -> bool:
        """Whether a request's Host is one of ours.

        Somebody's web site may point its own name at this machine, and would then read the page
        as its own (DNS rebinding). No site can do so with an address.
        """
        found = _HOST.fullmatch(host.lower())
        if found is None:
            return False
        name = (found["address"] or found["name"]).removesuffix(".")
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True

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

    def show(
        self, prediction: Prediction, frames_per_second: float, temperature_c: float | None
    ) -> None:
        """Puts up the next picture and what it was named."""
        stream = io.BytesIO()
        sized(prediction.image).save(stream, "JPEG", quality=80)
        with self._changed:
            self._number += 1
            self._jpeg = stream.getvalue()
            self._answer = {
                "number": self._number,
                "model": self._name,
                "frames_per_second": round(frames_per_second, 1),
                "inference_ms": round(prediction.inference_ms, 1),
                "temperature_c": None if temperature_c is None else round(temperature_c),
                "classes": [
                    {"label": label, "share": share} for label, share in prediction.ranking
                ],
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
    server_version, sys_version = "vitedge", ""
    timeout = SECONDS_OF_SILENCE
    server: Server

    def __init__(self, page: Page, *arguments: object) -> None:
        self._page = page
        super().__init__(*arguments)  # type: ignore[arg-type]  # what the server passes

    def handle_one_request(self) -> None:
        """Waits for a request and answers it."""
        self.server.waits(self.request)
        super().handle_one_request()

    def do_GET(self) -> None:
        """Serves the page, an answer or a picture."""
        self.server.works(self.request)
        host = self.headers.get("Host")
        if host is None:
            self.send_error(400, "A request names its host")
            return
        if not self._page.is_called(host):
            self.send_error(421, "This page has another name; see --name")
            return
        try:
            address = urlsplit(self.path)
            number = parse_qs(address.query, max_num_fields=8).get("after", ["0"])[0]
        except ValueError:
            self.send_error(400)
            return
        known = int(number) if _NUMBER.fullmatch(number) else 0
        match address.path:
            case "/":
                self._send("text/html; charset=utf-8", self._page.html)
            case "/answer.json":
                answer, _ = self._page.after(known)
                self._send("application/json", json.dumps(answer).encode())
            case "/picture.jpg":
                self._send("image/jpeg", self._page.after(known)[1])
            case _:
                self.send_error(404)

    def end_headers(self) -> None:
        """Ends the head of any answer, errors included."""
        for name, value in (*_HEADERS, ("Content-Security-Policy", self._page.policy)):
            self.send_header(name, value)
        super().end_headers()

    def _send(self, kind: str, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        try:
            self.end_headers()
            self.wfile.write(content)
        except OSError:  # the browser went elsewhere, or takes too long
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Keeps the terminal for labels."""


def _policy(html: bytes) -> str:
    """What the page may do: run the script and the style that are in the file, and ask this app."""
    found: dict[str, list[str]] = {"script": [], "style": []}
    for kind, hashes in found.items():
        for inside in re.findall(rf"<{kind}>(.*?)</{kind}>".encode(), html, re.DOTALL):
            digest = base64.b64encode(hashlib.sha256(inside).digest()).decode()
            hashes.append(f"'sha256-{digest}'")
    return "; ".join(
        [
            "default-src 'none'",
            "connect-src 'self'",
            "img-src 'self' data:",
            *(f"{kind}-src {' '.join(hashes)}" for kind, hashes in found.items() if hashes),
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )
