"""Choices that are not closed: names that records stand behind, wherever those were declared."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, Self


class OpenName(str):
    """A name that is text everywhere, and that only a record can bring into being.

    Equal names are one object, as members of an enumeration are.
    """

    _made: ClassVar[dict[str, Self]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._made = {}

    def __new__(cls, name: str) -> Self:
        """The name.

        Raises:
            ValueError: No record has it.
        """
        if name not in cls.known():
            raise ValueError(f"{str(name)!r} is not a valid {cls.__name__}")
        return cls.declared(name)

    @classmethod
    def known(cls) -> Collection[str]:
        """The names of all records."""
        raise NotImplementedError

    @classmethod
    def declared(cls, name: str) -> Self:
        """The name of a record that may not have been looked for yet."""
        return cls._made.setdefault(name, super().__new__(cls, name))
