"""Chromium without a window, driven through its own protocol.

https://chromedevtools.github.io/devtools-protocol; messages go through two pipes, each ended by a
zero byte, so that no port and no package is needed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vitedge.errors import ModelError, VitedgeError

EXECUTABLE_VARIABLE = "VITEDGE_CHROMIUM"
"""The environment's variable that names the browser."""

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

_FLAGS = (
    *("--headless", "--no-first-run", "--disable-sync", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update"),
)

# Chromium makes a socket in a folder of TMPDIR, and a socket's path has so many bytes at most.
_SOCKET, _LONGEST_SOCKET = "/org.chromium.Chromium.XXXXXX/SingletonSocket", 107

# What a page said last, for whoever asks why it failed.
_LINES_KEPT = 20


class PageError(ModelError):
    """A page threw an exception; the message is its first line."""


def find_chromium() -> str | None:
    """The browser that the environment names, or else one on the path; None when there is none."""
    named = os.environ.get(EXECUTABLE_VARIABLE)
    candidates = [named] if named else list(_NAMES)
    return next((found for name in candidates if (found := shutil.which(name))), None)


class Chromium:
    """One tab; a context manager that ends the browser.

    Args:
        profile: Folder for what the browser stores.
        flags: More of its options.
        timeout_seconds: The longest time that an answer to a command may take.

    Raises:
        VitedgeError: There is no browser, or it ends at once.
    """

    def __init__(
        self, profile: Path, *, flags: Sequence[str] = (), timeout_seconds: float = 300.0
    ) -> None:
        executable = find_chromium()
        if executable is None or sys.platform == "win32":
            raise VitedgeError("there is no Chromium that can be driven here")
        self._timeout_seconds = timeout_seconds
        self._process, self._to, self._from = _start(executable, profile, flags)
        self._numbers = itertools.count(1)
        self._unread = bytearray()
        self._session: str | None = None
        self.said: deque[str] = deque(maxlen=_LINES_KEPT)
        try:
            targets = self.ask("Target.getTargets")["targetInfos"]
            page = next(each for each in targets if each["type"] == "page")
            attached = self.ask("Target.attachToTarget", targetId=page["targetId"], flatten=True)
            self._session = attached["sessionId"]
            self.ask("Inspector.enable")  # else a page that crashes says nothing
            self.ask("Runtime.enable")
        except BaseException:
            self.close()
            raise

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
        """Ends the browser. May be called twice."""
        if self._process.returncode is not None:
            return
        # Its helpers, too: they would go on writing to the profile for a moment.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def ask(self, method: str, *, of_browser: bool = False, **parameters: Any) -> dict[str, Any]:
        """Sends a command and waits for its result.

        Args:
            method: The protocol's name of the command.
            of_browser: The command is for the browser, not for its tab.
            parameters: The method's.

        Raises:
            ModelError: The page crashed, the browser ended, or does not answer.
            VitedgeError: Chromium does not take the command.
        """
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None and not of_browser:
            message["sessionId"] = self._session
        self._write(json.dumps(message).encode() + b"\0")
        give_up = time.monotonic() + self._timeout_seconds
        while True:
            answer = self._next(give_up)
            if answer.get("id") == number:
                if "error" in answer:
                    raise VitedgeError(f"Chromium refused {method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result
            self._hear(answer)

    def open_address(self, address: str) -> None:
        """Loads a page and waits until it and its scripts are loaded.

        Raises:
            PageError: Nothing is there.
        """
        found = self.ask("Page.navigate", url=address)
        if found.get("errorText"):
            raise PageError(f"Chromium cannot open {address}: {found['errorText']}")
        give_up = time.monotonic() + self._timeout_seconds
        while self.run("document.readyState") != "complete":
            if time.monotonic() > give_up:
                raise PageError(f"Chromium did not load {address} in time")
            time.sleep(0.02)

    def run(self, expression: str) -> Any:
        """The value of an expression in the page; that of a promise, once it is kept.

        Raises:
            PageError: The expression threw an exception.
        """
        found = self.ask(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        thrown = found.get("exceptionDetails")
        if thrown is not None:
            words = thrown.get("exception", {}).get("description") or thrown["text"]
            raise PageError(str(words).split("\n    at ", 1)[0])
        return found["result"].get("value")

    def _hear(self, event: dict[str, Any]) -> None:
        match event.get("method"):
            case "Inspector.targetCrashed":
                raise ModelError("the page crashed: Chromium has too little memory for it")
            case "Runtime.consoleAPICalled":
                parts = [str(each.get("value", "")) for each in event["params"]["args"]]
                self.said.append(" ".join(" ".join(parts).split()))

    def _write(self, message: bytes) -> None:
        try:
            while message:
                message = message[os.write(self._to, message) :]
        except OSError as error:
            raise ModelError("Chromium ended") from error

    def _next(self, give_up: float) -> dict[str, Any]:
        while (end := self._unread.find(b"\0")) < 0:
            ready, _, _ = select.select([self._from], [], [], max(0.0, give_up - time.monotonic()))
            if not ready:
                raise ModelError(f"Chromium gave no answer for {self._timeout_seconds:g} s")
            read = os.read(self._from, 1 << 20)
            if not read:
                raise ModelError("Chromium ended")
            self._unread += read
        message: dict[str, Any] = json.loads(self._unread[:end])
        del self._unread[: end + 1]
        return message


def _place_of_sockets() -> str:
    """The folder for temporary files, or /tmp where its name is too long for a socket in it."""
    place = tempfile.gettempdir()
    return place if len(os.fsencode(place + _SOCKET)) <= _LONGEST_SOCKET else "/tmp"


def _start(
    executable: str, profile: Path, flags: Sequence[str]
) -> tuple[subprocess.Popen[bytes], int, int]:
    """The process, and the ends of the pipes to write to it and to read from it."""
    import fcntl

    to_browser, to = os.pipe()
    from_, from_browser = os.pipe()
    # The protocol wants its pipes at 3 and 4, where a shell can put them. Copies above 9 are out of
    # the way; only bash reads numbers of two digits.
    inner = [fcntl.fcntl(pipe, fcntl.F_DUPFD, 10) for pipe in (to_browser, from_browser)]
    # Chromium's sandbox refuses to run as root, as in containers.
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    own = [*_FLAGS, *(["--no-sandbox"] if is_root else []), *flags]
    try:
        process = subprocess.Popen(
            [
                *("bash", "-c", f'exec "$@" 3<&{inner[0]} 4>&{inner[1]}', "bash", executable),
                *(*own, f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"),
            ],
            pass_fds=inner,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"TMPDIR": _place_of_sockets()},
            start_new_session=True,  # a group of its own, which close() ends
        )
    except OSError as error:
        os.close(to)
        os.close(from_)
        raise VitedgeError(f"'{executable}' cannot be started: {error.strerror}") from error
    finally:
        for pipe in (to_browser, from_browser, *inner):
            os.close(pipe)
    return process, to, from_
