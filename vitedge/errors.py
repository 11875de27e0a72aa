"""Every error that vitedge raises on purpose.

::

    VitedgeError                exit 1: what happened, the value, what to do
    ├── UsageError              exit 2: the request itself makes no sense
    ├── ModelError              a model file or network that cannot be read as asked
    │   ├── NotAViTError        it was read, but it is not a vision transformer
    │   ├── SizeError           it would take more memory than allowed
    │   └── PlacementError      the device asked for cannot run all of it
    ├── DataError               images or labels that cannot be used
    ├── ConversionError         an artefact that could not be made
    │   ├── PrecisionError      its format lacks its precision, whatever the model
    │   └── ParityError         it was made, but computes something else than its source
    ├── BudgetError             exit 3: no artefact within the budget that was given
    └── UnavailableError        a runtime, device or package that is not here

The command line prints the message of a ``VitedgeError`` on one line and exits with its
``exit_code``; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

# How loaders on Linux, macOS and Windows, and C++ itself, say that memory is short.
_SIGNS_OF_TOO_LITTLE_MEMORY = (
    "cannot allocate memory",
    "failed to map segment",
    "out of memory",
    "bad_alloc",
    "paging file is too small",
)


_NOT_ON_PYTHON_3_14 = frozenset(["tensorflow", "tf_keras"])
"""As ``pyproject.toml`` has it; until their wheels come."""

_LONGEST_QUOTE = 300
"""Keras puts whole configs of 30,000 letters into one line."""


class VitedgeError(Exception):
    """Base of all errors raised on purpose; the message is one line and says what to do."""

    exit_code = 1


class UsageError(VitedgeError):
    """The request cannot be meant: contradicting options, an unknown name."""

    exit_code = 2


class ModelError(VitedgeError):
    """A model file is missing, truncated, foreign or inconsistent."""


class NotAViTError(ModelError):
    """A model was read, but its computation is not a vision transformer's."""


class PlacementError(ModelError):
    """The device asked for cannot run all operators of an artefact; the message names some."""


class SizeError(ModelError):
    """A file would take more memory than ``--max-source-size`` allows."""


class DataError(VitedgeError):
    """Images or labels are missing, unreadable or do not match the model."""


class ConversionError(VitedgeError):
    """An artefact could not be made from this model."""


class PrecisionError(ConversionError):
    """A format lacks a precision, whatever the model."""


class ParityError(ConversionError):
    """An artefact computes something else than the model it came from."""


class BudgetError(VitedgeError):
    """An artefact was measured, and loses more accuracy than it may."""

    exit_code = 3


class UnavailableError(VitedgeError):
    """A package, runtime or device is not available here.

    Args:
        what: The missing thing, in one sentence.
        remedy: The command or action that brings it; empty when there is none.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what.rstrip('.')}. {remedy}" if remedy else what)
        self.what = what
        self.remedy = remedy


def missing_package(package: str, extra: str) -> UnavailableError:
    """The error for an engine that cannot be imported; made where the ``ImportError`` is caught.

    Args:
        package: Its Python package.
        extra: The extra of vitedge that brings it.
    """
    error, remedy = sys.exception(), f"Run: pip install 'vitedge[{extra}]'"
    if package.partition(".")[0] in _NOT_ON_PYTHON_3_14 and sys.version_info >= (3, 14):
        remedy = (
            "It has no package for Python 3.14 yet: convert and train with Python 3.11 to 3.13; "
            "artefacts run here"
        )
    if not isinstance(error, ImportError) or isinstance(error, ModuleNotFoundError):
        return UnavailableError(f"the Python package '{package}' is not installed", remedy)
    words = f"the Python package '{package}' is installed but cannot be loaded: {first_line(error)}"
    return UnavailableError(words, load_remedy(words, remedy))


def load_remedy(words: str, otherwise: str) -> str:
    """The remedy for a library that could not be loaded.

    Args:
        words: The system's message.
        otherwise: The remedy if memory was not the cause.
    """
    if any(sign in words.lower() for sign in _SIGNS_OF_TOO_LITTLE_MEMORY):
        return "Free memory, or raise the limit on it (ulimit -v)"
    return otherwise


def nearest_of(name: str, known: Sequence[str], listed: str) -> str:
    """The end of a message about an unknown name.

    Args:
        name: The unknown name.
        known: The names that there are.
        listed: The words before all of them, where none is near.
    """
    import difflib  # only a message needs it

    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"{listed}: {', '.join(known)}"


def first_line(error: Exception) -> str:
    """The first line of a foreign error's message, cut where it is long, for ours to quote."""
    line = str(error).strip().split("\n", 1)[0]
    return line if len(line) <= _LONGEST_QUOTE else f"{line[: _LONGEST_QUOTE - 3]}..."
