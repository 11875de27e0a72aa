"""Logits of a set of images on disk: rows in the images' order, appended as they come.

Neither writing nor reading holds more than a few of them in memory, and whoever is interrupted
goes on behind the last whole row.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vitedge.errors import VitedgeError
from vitedge.network.tasks import Task

_DTYPE = np.dtype("<f4")
_SUFFIX, _UNREADABLE_SUFFIX = ".f32", ".unreadable"


class Logits(Protocol):
    """float32 ``(n, classes)``, in memory or not."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Images and classes."""
        ...

    def __getitem__(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        """Some rows, as an array in memory."""
        ...


@dataclass(frozen=True)
class Probabilities:
    """The softmax of logits, or the sigmoid of each, to compare artefacts with that give it.

    See ``Logits``.
    """

    logits: Logits
    task: Task = Task.CLASSES

    @property
    def shape(self) -> tuple[int, ...]:
        """See ``Logits``."""
        return self.logits.shape

    def __getitem__(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        """See ``Logits``."""
        logits = self.logits[rows]
        if self.task is not Task.CLASSES:
            return np.asarray(0.5 * np.tanh(0.5 * logits) + 0.5, np.float32)
        exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True), np.float32)


@dataclass(frozen=True)
class YesOrNo:
    """The scores of a binary model as those of two classes: nothing for no, the rest for yes.

    See ``Logits``.

    Attributes:
        scores: One for each image.
        middle: The score that is as likely yes as no.
    """

    scores: Logits
    middle: float

    @property
    def shape(self) -> tuple[int, ...]:
        """See ``Logits``."""
        return (self.scores.shape[0], 2)

    def __getitem__(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        """See ``Logits``."""
        yes = self.scores[rows] - np.float32(self.middle)
        return np.concatenate([np.zeros_like(yes), yes], axis=1)


@dataclass(frozen=True)
class StoredLogits:
    """Logits that ``LogitsWriter`` wrote.

    Attributes:
        path: The file.
        shape: Images and classes.
    """

    path: Path
    shape: tuple[int, int]

    def __getitem__(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        """Some rows; nothing of the file stays mapped, so memory does not grow with the set."""
        mapped = np.memmap(self.path, _DTYPE, "r", shape=self.shape)
        return np.asarray(mapped[rows], np.float32)


class LogitsWriter:
    """Appends rows behind those that are there already; a context manager that closes the file.

    Args:
        path: The file; what it holds is kept, but for a torn last row.
        classes: Logits of an image.

    Attributes:
        rows: Images that are done, readable or not.
        unreadable: Reason by position, of the images that could not be read; their rows are zeros.
    """

    def __init__(self, path: Path, classes: int) -> None:
        self._path, self._classes = path, classes
        row_bytes = classes * _DTYPE.itemsize
        try:
            # Unbuffered: a process that is killed loses what it was computing, and no more.
            self._file = path.open("ab", buffering=0)
            self.rows = self._file.tell() // row_bytes
            self._file.truncate(self.rows * row_bytes)
            self._reasons = path.with_suffix(_UNREADABLE_SUFFIX)
            self.unreadable = _read_reasons(self._reasons, self.rows)
        except OSError as error:
            raise _refusal(path, error) from error

    def write(self, positions: list[int], logits: npt.NDArray[np.float32]) -> None:
        """Appends rows, and zeros for the images left out before and between them.

        Args:
            positions: The positions of the images, ascending.
            logits: float32 ``(len(positions), classes)``.

        Raises:
            VitedgeError: The disk refuses.
        """
        block = np.zeros((positions[-1] + 1 - self.rows, self._classes), _DTYPE)
        block[np.asarray(positions) - self.rows] = logits
        self._append(block)

    def leave_out(self, position: int, reason: str) -> None:
        """Notes an image that cannot be read; before a later one's row is written."""
        self.unreadable[position] = reason
        try:
            with self._reasons.open("a", encoding="utf-8") as stream:
                print(json.dumps([position, reason]), file=stream)
        except OSError as error:
            raise _refusal(self._reasons, error) from error

    def finish(self, n: int) -> StoredLogits:
        """Zeros for the images left out at the end; then all of it."""
        if n > self.rows:
            self._append(np.zeros((n - self.rows, self._classes), _DTYPE))
        return StoredLogits(self._path, (n, self._classes))

    def __enter__(self) -> LogitsWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def _append(self, block: npt.NDArray[Any]) -> None:
        try:
            unwritten = memoryview(block.tobytes())
            while unwritten:
                unwritten = unwritten[self._file.write(unwritten) :]
        except OSError as error:
            raise _refusal(self._path, error) from error
        self.rows += len(block)


@dataclass(frozen=True)
class LogitsStore:
    """The folder in which the logits of one set of images lie.

    Attributes:
        folder: The folder, which is made if it does not exist.
        of: The common origin of all rows: the images, the machine, the engines' versions.
        keeps: Whether they stay when they have been read, for another bench to go on from.
    """

    folder: Path
    of: str
    keeps: bool

    def path_for(self, *what: str) -> Path:
        """The file of whatever these words name; other words, another file.

        Raises:
            VitedgeError: The folder cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _refusal(self.folder, error) from error
        digest = hashlib.sha256(json.dumps([self.of, *what]).encode()).hexdigest()
        return self.folder / f"{digest[:32]}{_SUFFIX}"

    def release(self, path: Path) -> None:
        """Says that a file has been read."""
        if not self.keeps:
            self.forget(path)

    def forget(self, path: Path) -> None:
        """Removes a file, so that its logits are computed anew."""
        path.unlink(missing_ok=True)
        path.with_suffix(_UNREADABLE_SUFFIX).unlink(missing_ok=True)


def _read_reasons(path: Path, rows: int) -> dict[int, str]:
    """The reasons for images before a row; a process that died may have noted one more in part."""
    if not path.exists():
        return {}
    found: dict[int, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            position, reason = json.loads(line)
        except ValueError:
            continue
        if position < rows:
            found[position] = reason
    return found


def _refusal(path: Path, error: OSError) -> VitedgeError:
    return VitedgeError(f"cannot write '{path}': {error.strerror or error}")
