"""One place between two threads: a new item waits for the old one to be taken, or replaces it."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Closed(Exception):  # noqa: N818  # an end, not an error
    """There will be no more items, or nobody takes them any more."""


class Mailbox(Generic[Item]):
    """Holds one item.

    Args:
        newest: Whether a new item replaces one that was not taken yet.
    """

    def __init__(self, *, newest: bool) -> None:
        self._newest = newest
        self._changed = threading.Condition()
        self._items: list[Item] = []
        self._closed = False
        self._error: BaseException | None = None

    def put(self, item: Item) -> None:
        """Leaves an item; waits for room unless the newest wins.

        Raises:
            Closed: Nobody takes items any more.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._newest or not self._items)
            if self._closed:
                raise Closed
            self._items[:] = [item]
            self._changed.notify_all()

    def take(self) -> Item:
        """Waits for an item.

        Raises:
            Closed: There will be no more.
            BaseException: The error that ``close`` was given, once all items are taken.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._items))
            if not self._items:
                raise self._error or Closed
            item = self._items.pop()
            self._changed.notify_all()
            return item

    def close(self, error: BaseException | None = None) -> None:
        """Ends it: what lies in it can still be taken, then ``error`` is raised, or ``Closed``."""
        with self._changed:
            if not self._closed:
                self._closed, self._error = True, error
            self._changed.notify_all()
