"""Which audit events are allowed while a model is read."""

from __future__ import annotations

import ast
import collections
import dataclasses
import os
import site
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

import vitedge
from vitedge.files import onnx_apart

_FORBIDDEN = frozenset(
    (
        *("os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile"),
        *("os.system", "pty.spawn", "subprocess.Popen", "os.kill", "signal.pthread_kill"),
        *("urllib.Request", "webbrowser.open", "cpython.run_command", "cpython.run_file"),
        *("code.__new__", "function.__new__", "pickle.find_class", "sys.addaudithook"),
        *("os.chmod", "os.chown", "os.setxattr", "os.utime", "os.putenv"),
    )
)
"""Never needed to read a model."""

_CHANGES = frozenset(
    (
        *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.truncate"),
        *("shutil.move", "shutil.rmtree", "shutil.copyfile", "shutil.copytree"),
        *("tempfile.mkstemp", "tempfile.mkdtemp"),
    )
)
"""What changes the paths that are its arguments."""

# How much memory there is, and which libraries are loaded (threadpoolctl asks); nothing of other
# processes, nor of this one's environment.
_MACHINE = tuple(Path(name).resolve() for name in ("/proc/meminfo", "/proc/self/maps", "/dev/null"))

_IMPORT_SYSTEM = "<frozen importlib._bootstrap_external>"

_PARSER = ast.__file__
_GENERATORS = (dataclasses.__file__, collections.__file__)

PROGRAM = str(Path(__file__).with_name("program.py"))
"""Where the hook is, which calls the rules."""


@dataclass(frozen=True)
class Rules:
    """What one reading may touch.

    Attributes:
        own: The model's folder.
        output: The only folder in which files may change; temporary files lie there, too.
    """

    own: Path
    output: Path

    def violation(self, event: str, arguments: Sequence[Any]) -> str:
        """What an event breaks, in words; empty when it is allowed."""
        if event == "subprocess.Popen" and _is_onnx_apart(*arguments):
            return ""
        if event in _FORBIDDEN or event.startswith("socket."):
            return f"{event}{tuple(map(_brief, arguments))}"
        match event:
            case "open":
                return self._opening(*arguments)
            case "os.listdir" | "os.scandir":
                return self._reading(arguments[0] or ".", event)
            case "os.symlink":  # to what may be read anyhow, under another name
                there, here, _ = arguments
                return self._reading(there, event) or self._changing(event, [here])
            case "ctypes.dlopen":
                return self._loading(arguments[0])
            case "import" if arguments[1]:
                return self._loading(arguments[1])
            case "compile":
                # A literal is parsed to a tree; to run it, somebody has to make code of it.
                return "" if _caller() == _PARSER else _code_from(arguments[1], event)
            case "exec":
                return _code_from(_file_of(arguments[0]), event)
            case "marshal.loads" | "marshal.load" if not _is_import():
                return f"{event} of code that is in no installed file"
        if event in _CHANGES:
            return self._changing(event, arguments)
        return ""

    def _opening(self, path: Any, mode: Any, flags: Any) -> str:
        if isinstance(path, int):  # opened before
            return ""
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND):
            return self._changing("open for writing", [path])
        return self._reading(path, "open")

    def _reading(self, path: Any, event: str) -> str:
        if isinstance(path, int):
            return ""
        allowed = (self.own, self.output, *_MACHINE, *INSTALLED)
        return "" if _is_below(path, allowed) else f"{event} of {path}"

    def _changing(self, event: str, arguments: Sequence[Any]) -> str:
        paths = [each for each in arguments if isinstance(each, str | bytes | os.PathLike)]
        wrong = [each for each in paths if not _is_below(each, (self.output, Path("/dev/null")))]
        return f"{event} of {wrong[0]}" if wrong else ""

    def _loading(self, path: Any) -> str:
        # None is the program itself.
        if path is None or _is_below(path, INSTALLED):
            return ""
        return f"loading the library {path}"


def _is_onnx_apart(executable: Any, command: Any, *_: Any) -> bool:
    """Whether a child is onnx's own C++, which runs there and is given no path."""
    expected = [sys.executable, *onnx_apart.OPTIONS]
    return executable == sys.executable and list(command) == expected


def _installed() -> tuple[Path, ...]:
    places = {Path(vitedge.__file__).parent, Path(sys.base_prefix), Path(sys.prefix)}
    places |= {Path(place) for place in site.getsitepackages()}
    places |= {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    return tuple(place.resolve() for place in places)


INSTALLED = _installed()
"""Where packages and Python itself are."""


def _is_below(path: Any, places: Sequence[Path]) -> bool:
    found = Path(os.fsdecode(path))
    # A link inside an allowed folder leads wherever it leads.
    resolved = found.resolve()
    return any(resolved == place or place in resolved.parents for place in places)


def _code_from(file: Any, event: str) -> str:
    if _is_import():
        return ""
    name = os.fsdecode(file) if file is not None else ""
    if name.startswith("<frozen ") or (name and _is_below(name, INSTALLED) and Path(name).exists()):
        return ""
    # Python's own modules make methods of dataclasses and named tuples from text.
    return "" if _caller() in _GENERATORS else f"{event} of code from '{name}'"


def _file_of(code: Any) -> str:
    return code.co_filename if isinstance(code, CodeType) else "<unknown>"


def _is_import() -> bool:
    """Whether Python's own import system is at work, on a file whose opening is judged as such."""
    return _caller() == _IMPORT_SYSTEM


def _caller() -> str:
    """The file of the frame that raised the event."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename in (__file__, PROGRAM):
        frame = frame.f_back
    return frame.f_code.co_filename


def _brief(value: Any) -> str:
    return repr(value)[:100]
