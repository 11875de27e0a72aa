"""A device that speaks adbd's protocol on a port of this machine, for the system's real ``adb``.

https://android.googlesource.com/platform/packages/modules/adb/+/refs/heads/main/protocol.txt and
SYNC.TXT beside it. Commands run in a shell of this machine, files land in its folders.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_VERSION, _MOST_DATA = 0x01000001, 1 << 18
_BANNER = b"device::ro.product.model=Emulated;features=shell_v2,cmd"
_STDOUT, _STDERR, _EXIT = 1, 2, 3
_TOKEN, _SIGNATURE = 1, 2
_DIRECTORY, _FILE = 0o40755, 0o100644

_GETPROP = """\
#!/bin/sh
case "$1" in
ro.product.manufacturer) echo Emulated ;;
ro.product.model) echo Phone ;;
ro.product.cpu.abi) echo x86_64 ;;
ro.build.version.release) echo 16 ;;
*) echo ;;
esac
"""


@dataclass
class EmulatedDevice:
    """An Android device for ``adb connect``.

    Attributes:
        folder: Its programs lie here.
        trusts: Whether somebody has allowed this computer on its screen.
        commands: What its shell was told, in order.
    """

    folder: Path
    trusts: bool = True
    commands: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        (self.folder / "getprop").write_text(_GETPROP)
        (self.folder / "getprop").chmod(0o755)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.serial = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def connect(self) -> None:
        """Has adb's server connect to it."""
        command = ["adb", "connect", self.serial]
        subprocess.run(command, check=False, capture_output=True, timeout=30)

    def cut(self) -> None:
        """Goes away, as a phone does whose cable is pulled."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for each in self._connections:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self._connections.append(connection)
                threading.Thread(target=_Connection(self, connection).serve, daemon=True).start()


class _Connection:
    def __init__(self, device: EmulatedDevice, connection: socket.socket) -> None:
        self.device, self._socket = device, connection
        self._sending = threading.Lock()
        self._streams: dict[int, _Stream] = {}

    def serve(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                kind, first, second, size = struct.unpack("<4sIII8x", self._read(24))
                self._take(kind, first, second, self._read(size))
        for stream in list(self._streams.values()):
            stream.heard.put(None)

    def send(self, kind: bytes, first: int, second: int, content: bytes = b"") -> None:
        (number,) = struct.unpack("<I", kind)
        head = struct.pack("<4sIIIII", kind, first, second, len(content), 0, number ^ 0xFFFFFFFF)
        with self._sending, contextlib.suppress(OSError):
            self._socket.sendall(head + content)

    def _read(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            part = self._socket.recv(size - len(found))
            if not part:
                raise EOFError
            found += part
        return found

    def _take(self, kind: bytes, first: int, second: int, content: bytes) -> None:
        match kind:
            case b"CNXN" if self.device.trusts:
                self.send(b"CNXN", _VERSION, _MOST_DATA, _BANNER)
            case b"CNXN":
                self.send(b"AUTH", _TOKEN, 0, bytes(20))
            case b"AUTH" if first == _SIGNATURE:
                self.send(b"AUTH", _TOKEN, 0, bytes(20))  # that key is not known; nor is another
            case b"OPEN":
                stream = self._streams[first] = _Stream(self, first)
                self.send(b"OKAY", first, first)
                service = content.rstrip(b"\0").decode()
                threading.Thread(target=stream.serve, args=(service,), daemon=True).start()
            case b"WRTE" if first in self._streams:
                self._streams[first].heard.put(content)
                self.send(b"OKAY", second, first)
            case b"OKAY" if first in self._streams:
                self._streams[first].ready.release()
            case b"CLSE" if first in self._streams:
                self._streams.pop(first).heard.put(None)


class _Stream:
    """One service that adb asked for; its number here is the one that it has there."""

    def __init__(self, connection: _Connection, number: int) -> None:
        self._connection, self._number = connection, number
        self.heard: queue.Queue[bytes | None] = queue.Queue()
        self.ready = threading.Semaphore(1)
        self._unread = b""

    def serve(self, service: str) -> None:
        kind, _, rest = service.partition(":")
        with contextlib.suppress(EOFError):
            if kind.startswith("shell,v2"):
                self._run(rest)
            elif kind == "sync":
                self._sync()
        self._connection.send(b"CLSE", self._number, self._number)

    def _say(self, content: bytes) -> None:
        self.ready.acquire()  # one message at a time may be on its way
        self._connection.send(b"WRTE", self._number, self._number, content)

    def _hear(self, size: int) -> bytes:
        while len(self._unread) < size:
            part = self.heard.get()
            if part is None:
                raise EOFError
            self._unread += part
        found, self._unread = self._unread[:size], self._unread[size:]
        return found

    def _run(self, command: str) -> None:
        device = self._connection.device
        device.commands.append(command)
        process = subprocess.Popen(
            ["sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"PATH": f"{device.folder}:{os.environ['PATH']}"},
        )
        speaking = threading.Lock()

        def pass_on(number: int, pipe: int) -> None:
            while part := os.read(pipe, 1 << 12):
                with speaking:
                    self._say(struct.pack("<BI", number, len(part)) + part)

        assert process.stdout is not None
        assert process.stderr is not None
        with process:
            pipes = ((_STDOUT, process.stdout), (_STDERR, process.stderr))
            threads = [
                threading.Thread(target=pass_on, args=(number, pipe.fileno()), daemon=True)
                for number, pipe in pipes
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self._say(struct.pack("<BIB", _EXIT, 1, process.returncode & 255))

    def _sync(self) -> None:
        while True:
            kind, size = struct.unpack("<4sI", self._hear(8))
            if kind == b"QUIT":
                return
            path = self._hear(size).decode()
            if kind == b"STAT":
                found = Path(path)
                mode = _DIRECTORY if found.is_dir() else _FILE if found.exists() else 0
                self._say(struct.pack("<4sIII", b"STAT", mode, 0, 0))
            elif kind == b"SEND":
                self._receive(path.rpartition(",")[0])

    def _receive(self, path: str) -> None:
        content = b""
        while True:
            kind, size = struct.unpack("<4sI", self._hear(8))
            if kind == b"DONE":
                break
            content += self._hear(size)
        try:
            with open(path, "wb") as file:  # a name that ends with a slash is a folder's
                file.write(content)
        except OSError as error:
            words = str(error.strerror).encode()
            self._say(struct.pack("<4sI", b"FAIL", len(words)) + words)
        else:
            self._say(struct.pack("<4sI", b"OKAY", 0))


@contextlib.contextmanager
def adb_server(folder: Path) -> Iterator[None]:
    """The system's adb with a server, a port and keys of its own, while tests run."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    own = {"ANDROID_ADB_SERVER_PORT": str(port), "HOME": str(folder)}
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        subprocess.run(["adb", "start-server"], check=True, capture_output=True)
        yield
    finally:
        subprocess.run(["adb", "kill-server"], check=False, capture_output=True)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


def missing_program() -> str | None:
    """What is not installed here, or None."""
    return None if shutil.which("adb") else "adb (apt install adb)"
