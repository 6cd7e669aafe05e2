"""Final output of a command: text for people, or one JSON document."""

import json
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.console.terminal import console_of, on_terminal, shown
from pipeline.words import DEFAULT_TASK, LABELLING, Words

if TYPE_CHECKING:
    from pipeline.spec import LabelSpec


def words_of(spec: "LabelSpec | Mapping[str, Any]") -> Words:
    """The words for what a run does, from its specification or its recorded one."""
    task = spec.get("task", DEFAULT_TASK) if isinstance(spec, Mapping) else spec.task
    if task == DEFAULT_TASK:
        return LABELLING  # without loading Arrow
    from pipeline import tasks

    return tasks.words_of(spec)


def say(text: str, *, err: bool = False) -> None:
    """Print lines for people; names in them cannot control a terminal."""
    stream = sys.stderr if err else sys.stdout
    for line in text.split("\n"):
        click.echo(shown(line, stream), file=stream)


def say_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=2, default=str))


def say_table(
    rows: Iterable[tuple[str, object]], title: str | None = None, *, least: int = 0
) -> None:
    """Print names and values in two columns; integers with thousands separators.

    `least` is the width of the names in characters, so that logs of several nights line up.
    """
    listed = [(name, _cell(value)) for name, value in rows]
    if title:
        say(title)
    width = max([least, *(len(name) for name, _ in listed)])
    if on_terminal(sys.stdout):
        _draw(listed, width)
        return
    for name, value in listed:
        say(f"  {name:<{width}}  {value}")


def _draw(rows: list[tuple[str, str]], width: int) -> None:
    """The same on a terminal, where a long value is folded below its first line."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=width + 2, no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        cells = (shown(f"  {name}", sys.stdout), shown(value, sys.stdout))
        table.add_row(Text(cells[0], "dim"), Text(cells[1]))
    console_of(sys.stdout).print(table)


def _cell(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    return f"{value:,}" if isinstance(value, int) else str(value)


def left_out_rows(left_out: Mapping[str, int]) -> list[tuple[str, object]]:
    """A row that says what the default excludes skipped, if anything."""
    if not left_out:
        return []
    named = ", ".join(f"{number:,} {name}" for name, number in sorted(left_out.items()))
    return [("left out by default", f"{named} (--no-default-excludes reads them)")]


def say_unreadable(named: Mapping[str, str], count: int) -> None:
    """Name on stderr what could not be listed; `count` is the total."""
    from pipeline.storage import public

    for uri, why in named.items():
        say(f"cannot read {public(uri)}: {why}", err=True)
    if count > len(named):
        say(f"and {count - len(named):,} more", err=True)
    if count:
        say(
            "Nothing in there was listed; its rows stay as they are. Grant read permission, or "
            "skip it with --exclude 'FOLDER/'; replace a damaged archive with a whole copy",
            err=True,
        )


def duration(seconds: float) -> str:
    """3.2s, 4m10s, 2h05m."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"


def size(count: float) -> str:
    """Bytes in a unit that fits: 999 B, 1.5 KB, 2.5 GB."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
