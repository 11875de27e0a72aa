"""Files on a port of this machine, for a browser that runs here; nobody else can reach it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".css": "text/css",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}

# Pages may share memory between threads only where no other site can look in.
_ISOLATED = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}


class FileServer:
    """Serves files from names; a context manager that ends it.

    Args:
        files: Content, or the file that holds it, by its place; may change while it runs.
        isolated: Send the headers that allow threads.
    """

    def __init__(self, files: Mapping[str, bytes | Path], *, isolated: bool = True) -> None:
        headers = _ISOLATED if isolated else {}

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                place = urlsplit(self.path).path.lstrip("/") or "index.html"
                found = files.get(place)
                # Another name that leads here is another site's, which may not read along.
                if found is None or self.headers.get("Host") != self.server.address:  # type: ignore[attr-defined]
                    self.send_error(404)
                    return
                content = found if isinstance(found, bytes) else found.read_bytes()
                self.send_response(200)
                kind = _TYPES.get(Path(place).suffix, "application/octet-stream")
                sent = {"Content-Type": kind, "Content-Length": str(len(content))}
                sent["Cache-Control"] = "no-store"  # what lies here changes
                for name, value in (sent | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Says nothing about requests."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.address = f"127.0.0.1:{self._server.server_port}"  # type: ignore[attr-defined]
        self.address = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends it. May be called twice."""
        self._server.shutdown()
        self._server.server_close()
