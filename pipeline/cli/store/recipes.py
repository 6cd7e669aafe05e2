"""`nightlabel recipes`"""

from typing import TYPE_CHECKING

import click

from pipeline.cli import options
from pipeline.cli.console.output import say_json
from pipeline.cli.console.tables import Column, Row, say_columns

if TYPE_CHECKING:
    from pipeline.runs.recipes import Listed

TABLE = (
    Column("", least=1, status=True),
    Column("recipe", whole=True),
    Column("rows", least=11, right=True),
    Column("share", least=6, right=True),
    Column("last run", least=16, whole=True),
    Column("model"),
)


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
    from pipeline.runs.recipes import list_recipes

    found = list_recipes(dst)
    if as_json:
        say_json([row.model_dump(mode="json") for row in found])
        return 0
    say_columns(TABLE, [Row(_cells(row), row.differences) for row in found])
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
