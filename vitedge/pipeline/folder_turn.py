"""One process at a time writes artefacts into a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from vitedge.files.folder_lock import only_writer
from vitedge.terminal.progress import Progress

_folders_in_turn: ContextVar[tuple[Path, ...]] = ContextVar("folders_in_turn", default=())


@contextmanager
def in_turn(folder: Path, progress: Progress) -> Iterator[None]:
    """Waits until no other process writes artefacts into a folder, and keeps others waiting.

    Two at once would each see that nothing is there yet, or leave an artefact of either. Inside
    the block, the same folder may be asked for again.
    """
    place = folder.resolve()
    if place in _folders_in_turn.get():
        yield
        return

    def waiting() -> None:
        progress(f"waiting for another process that writes into {folder}", 0, 0)

    with only_writer(folder, wait=True, on_wait=waiting):
        before = _folders_in_turn.set((*_folders_in_turn.get(), place))
        try:
            yield
        finally:
            _folders_in_turn.reset(before)
