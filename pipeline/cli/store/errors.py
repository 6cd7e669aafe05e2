"""`nightlabel errors`"""

from typing import TYPE_CHECKING

import click

from pipeline.cli import options
from pipeline.cli.console.output import say, say_json
from pipeline.cli.console.tables import Column, Row, say_columns
from pipeline.errors import SpecError, error_codes

if TYPE_CHECKING:
    from pipeline.store.failed import FailedRow, FailedRows
    from pipeline.store.reader import LabelStore

TABLE = (Column("at", whole=True), Column("uri", padded=False), Column("message"))


@click.command()
@click.argument("dst")
@click.option("--code", "codes", multiple=True, metavar="CODE,…", help="Show only these codes.")
@click.option(
    "--recipe", metavar="ID", help="Show the errors of this recipe. [default: the current one]"
)
@click.option(
    "--last",
    type=click.IntRange(min=0),
    default=20,
    metavar="N",
    show_default=True,
    help="Show the newest N images of each code.",
)
@options.output
def errors(
    dst: str,
    codes: tuple[str, ...],
    recipe: str | None,
    last: int,
    as_json: bool,
    debug: bool,  # noqa: ARG001
) -> int:
    """List the images that failed, by error code, and say how to fix each.

    \b
    Examples:
      nightlabel errors s3://bucket/labels
      nightlabel errors ./labels --code denied,missing --last 1000 --json

    Exit: 0, whether there are errors or not.
    """
    try:
        wanted = error_codes(name for text in codes for name in text.split(","))
    except ValueError as problem:
        raise SpecError("code", ",".join(codes), str(problem)) from None
    from pipeline.store.failed import failed_rows
    from pipeline.store.reader import LabelStore

    store = LabelStore(dst)
    chosen = _recipe(store, recipe)
    found = failed_rows(store, chosen, wanted, last)
    if as_json:
        groups = [group.model_dump(mode="json") for group in found]
        say_json({"recipe": chosen, "rows": sum(one.rows for one in found), "codes": groups})
    else:
        _say(found, chosen)
    return 0


def _recipe(store: "LabelStore", asked: str | None) -> str | None:
    if asked is None:
        return store.current()
    known = store.recipes()
    if asked not in known:
        raise SpecError("recipe", asked, f"not in this store; it has {', '.join(sorted(known))}")
    return asked


def _say(found: "list[FailedRows]", recipe: str | None) -> None:

    total = sum(group.rows for group in found)
    say(f"{total:,} failed under recipe {recipe}" if total else f"no errors under recipe {recipe}")
    for group in found:
        say(f"\n{group.code}: {group.rows:,} ({group.meaning})")
        say(f"  what to do: {group.advice.replace('`', '')}")
        say_columns(TABLE, [Row(_cells(row)) for row in group.newest], head=False)
        if len(group.newest) < group.rows:
            say(f"  … {group.rows - len(group.newest):,} more; --last N shows more")


def _cells(row: "FailedRow") -> tuple[str, ...]:
    from pipeline.storage import member_name

    name = member_name(row.uri, row.member)
    return f"  {row.at.astimezone():%Y-%m-%d %H:%M}", name, row.message or ""
