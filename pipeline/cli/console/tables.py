"""Tables: fitted to a terminal, and elsewhere plain lines that stay the same in logs.

Off a terminal nothing is wrapped or cut, and columns have a least width, so that lines of
several nights line up.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pipeline.cli.console.output import say
from pipeline.cli.console.terminal import console_of, on_terminal, shown

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_COLOURS: Final = {
    "green": ("OK", "complete", "succeeded"),
    "yellow": ("WARNING", "incomplete", "interrupted", "busy", "stopped", "pending"),
    "red": ("FAILED", "failed", "gate", "died"),
    "cyan": ("running", "*"),
}
#: Terminal widths in characters: below the first no columns are drawn, from the second on all.
NARROW: Final = 72
WIDE: Final = 100
_STYLES: Final = {word: colour for colour, words in _COLOURS.items() for word in words}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of text; `least` is its width in characters off a terminal."""

    name: str
    least: int = 0
    padded: bool = True
    right: bool = False
    #: Its first word is a status, which has a colour.
    status: bool = False
    #: Not folded on a narrow terminal.
    whole: bool = False
    #: Omitted on a terminal that is not `WIDE`.
    spare: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    cells: Sequence[str]
    #: Lines below the row.
    notes: Sequence[str] = field(default=())


def say_columns(columns: Sequence[Column], rows: Iterable[Row], *, head: bool = True) -> None:
    """Print a table on stdout; names in it cannot control a terminal."""
    if on_terminal(sys.stdout) and (console := console_of(sys.stdout)).width >= NARROW:
        kept = [
            one for one, column in enumerate(columns) if console.width >= WIDE or not column.spare
        ]
        console.print(_drawn(columns, kept, rows, head=head))
        return
    lines = [Row([column.name for column in columns])] if head else []
    lines += rows
    widths = [
        max([column.least, *(len(row.cells[place]) for row in lines if column.padded)])
        for place, column in enumerate(columns)
    ]
    for row in lines:
        cells = zip(row.cells, widths, strict=True)
        say("  ".join(cell.ljust(width) for cell, width in cells).rstrip())
        for note in row.notes:
            say(f"     {note}")


def _drawn(
    columns: Sequence[Column], kept: Sequence[int], rows: Iterable[Row], *, head: bool
) -> "Table":
    """The columns whose positions are in `kept`, in rich's layout."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=head, padding=(0, 2, 0, 0))
    for column in (columns[place] for place in kept):
        table.add_column(
            column.name,
            justify="right" if column.right else "left",
            no_wrap=column.whole or column.right,
            overflow="fold",
        )
    for row in rows:
        cells = [_text(row.cells[place], columns[place]) for place in kept]
        for note in row.notes:
            cells[-1].append(f"\n{shown(note, sys.stdout)}", "dim")
        table.add_row(*cells)
    return table


def _text(cell: str, column: Column) -> "Text":
    from rich.text import Text

    word = cell.split(":")[0].split(" ")[0]
    return Text(shown(cell, sys.stdout), _STYLES.get(word, "") if column.status else "")
