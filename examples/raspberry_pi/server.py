"""A web server that a crowd, or somebody who only pretends to talk, does not bring down."""

from __future__ import annotations

import errno
import socket
import sys
import threading
import time
from http.server import ThreadingHTTPServer
from typing import Any

# Of a connection that sends no request, or does not take its answer.
SECONDS_OF_SILENCE = 10.0

# A quarter of the files that a process may have open (1,024 on a Raspberry Pi) at most, for the
# camera and the model need some, too.
_MOST_CONNECTIONS, _SHARE_OF_FILES = 256, 4


class Server(ThreadingHTTPServer):
    """A thread for each connection, of which there are only so many.

    A connection too many ends the one that has been silent for longest, so that whoever comes
    is served, whoever else holds connections open.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *arguments: Any) -> None:
        self._most = _most_connections()
        self._lock = threading.Lock()
        # Both in the order of how long they have been so; one that works is waited for last.
        self._waiting: dict[socket.socket, None] = {}
        self._working: dict[socket.socket, None] = {}
        super().__init__(*arguments)

    def waits(self, connection: socket.socket) -> None:
        """Notes that a connection is to send a request."""
        with self._lock:
            self._working.pop(connection, None)
            self._waiting[connection] = None

    def works(self, connection: socket.socket) -> None:
        """Notes that a connection has sent a request."""
        with self._lock:
            self._waiting.pop(connection, None)
            self._working[connection] = None

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accepts a connection."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                time.sleep(0.1)  # or the loop that asks again at once would take a whole core
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Starts a thread for a connection, in place of another where there are too many."""
        with self._lock:
            while len(self._waiting) + len(self._working) >= self._most:
                crowd = self._waiting or self._working
                oldest = next(iter(crowd))
                del crowd[oldest]
                try:
                    oldest.shutdown(socket.SHUT_RDWR)  # its own thread closes it
                except OSError:  # it is gone already
                    continue
            self._waiting[request] = None
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Ends a connection."""
        with self._lock:
            self._waiting.pop(request, None)
            self._working.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keeps the terminal for labels: that a browser went elsewhere is no error of ours."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def _most_connections() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return _MOST_CONNECTIONS
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        _MOST_CONNECTIONS if files < 0 else max(4, min(_MOST_CONNECTIONS, files // _SHARE_OF_FILES))
    )
