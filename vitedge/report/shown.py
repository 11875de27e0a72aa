"""Results that people read: as lines and tables in a terminal, as HTML in a notebook."""

from __future__ import annotations

import html
import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from vitedge.terminal.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

_PLAIN_WIDTH = 100
"""Characters of a line where no terminal says how many it has."""


@dataclass(frozen=True)
class Table:
    """Cells in rows.

    Attributes:
        rows: Their cells, each row as long as ``headings``.
        headings: One for each column; all empty shows no line of headings.
        numbers: Columns that are aligned right.
        styles: rich's style of each row, or empty.
        folds: Cells fold where lines are short; else lines stay whole, for paths to be copied.
    """

    rows: tuple[tuple[str, ...], ...]
    headings: tuple[str, ...]
    numbers: frozenset[int] = frozenset()
    styles: tuple[str, ...] = ()
    folds: bool = True


Block: TypeAlias = Table | str
"""A table, or one paragraph."""


class Shown:
    """A result that prints well: ``print(result)``, and by itself in a notebook's cell."""

    def blocks(self, width: int | None) -> Sequence[Block]:
        """The content, from top to bottom.

        Args:
            width: Characters of a line; None leaves out nothing for want of space.
        """
        raise NotImplementedError

    def __str__(self) -> str:
        width = shutil.get_terminal_size((_PLAIN_WIDTH, 24)).columns
        return text_of(self.blocks(width), width)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return "\n".join(map(_as_html, self.blocks(None)))


def print_shown(shown: Shown) -> None:
    """Prints a result on stdout, in colour where that is a terminal."""
    console = _console()
    _write(shown.blocks(console.width), console)


def text_of(blocks: Sequence[Block], width: int) -> str:
    """Blocks as plain text.

    Args:
        blocks: The blocks to show.
        width: Characters of a line of a table.
    """
    stream = io.StringIO()
    _write(blocks, _console(stream, width))
    return "\n".join(line.rstrip() for line in stream.getvalue().rstrip("\n").split("\n"))


def _console(stream: io.StringIO | None = None, width: int | None = None) -> Console:
    """A console that takes no text for rich's markup or for the name of an emoji."""
    from rich.console import Console

    return Console(file=stream, width=width, markup=False, emoji=False, highlight=False)


def _write(blocks: Sequence[Block], console: Console) -> None:
    for number, block in enumerate(blocks):
        if isinstance(block, Table):
            if number and any(block.headings):
                console.print()
            if block.folds:
                _write_table(block, console)
            else:
                _write_lines(block, console)
        else:
            # Paths and commands are to be copied, so a terminal wraps them, and no line break does.
            console.print(printable(block), soft_wrap=True)


def _write_table(table: Table, console: Console) -> None:
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(box=None, show_header=any(table.headings), pad_edge=False)
    for column, heading in enumerate(table.headings):
        drawn.add_column(
            Text(heading),
            justify="right" if column in table.numbers else "left",
            no_wrap=column in table.numbers,
            overflow="fold",
        )
    for number, row in enumerate(table.rows):
        style = table.styles[number] if table.styles else None
        drawn.add_row(*(Text(printable(cell)) for cell in row), style=style)
    console.print(drawn)


def _write_lines(table: Table, console: Console) -> None:
    cells = [tuple(map(printable, row)) for row in table.rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        aligned = (
            cell.rjust(width) if column in table.numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        console.print("  ".join(aligned).rstrip(), soft_wrap=True)


def _as_html(block: Block) -> str:
    if not isinstance(block, Table):
        return f"<p>{html.escape(printable(block))}</p>"

    def cells(tag: str, texts: Sequence[str]) -> str:
        styles = [
            f"text-align:{'right' if column in block.numbers else 'left'}"
            for column in range(len(texts))
        ]
        return "".join(
            f'<{tag} style="{style}">{html.escape(printable(text))}</{tag}>'
            for style, text in zip(styles, texts, strict=True)
        )

    head = f"<thead><tr>{cells('th', block.headings)}</tr></thead>" if any(block.headings) else ""
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in block.rows)
    return f"<table>{head}<tbody>{body}</tbody></table>"
