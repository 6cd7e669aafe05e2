"""`nightlabel recipes`"""

from typing import TYPE_CHECKING

import click

from pipeline.cli import options
from pipeline.cli.output import say, say_json

if TYPE_CHECKING:
    from pipeline.flow.recipes import Listed

COLUMNS = ("", "recipe", "rows", "share", "last run", "model")


@click.command()
@click.argument("dst")
@options.output
def recipes(dst: str, as_json: bool, debug: bool) -> int:  # noqa: ARG001
    """List the recipes of the label store at DST, and which one readers see (marked *).

    A recipe is everything that decides a label: model, preprocessing, options. The share is of
    all images that runs have listed. Below each recipe: how it differs from the current one.

    \b
    Example:
      nightlabel recipes s3://bucket/labels
    """
    from pipeline.flow.recipes import list_recipes

    found = list_recipes(dst)
    if as_json:
        say_json([row.model_dump(mode="json") for row in found])
        return 0
    table = [COLUMNS, *map(_cells, found)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells, row in zip(table, [None, *found], strict=True):
        line = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        say(line.rstrip())
        for difference in row.differences if row else ():
            say(f"     {difference}")
    return 0


def _cells(row: "Listed") -> tuple[str, ...]:
    model = row.model or "-"
    return (
        "*" if row.current else "",
        row.recipe,
        f"{row.rows:,}",
        "-" if row.share is None else f"{row.share:.1%}",
        f"{row.last_run.astimezone():%Y-%m-%d %H:%M}" if row.last_run else "-",
        f"{model} @ {row.revision[:12]}" if row.revision else model,
    )
