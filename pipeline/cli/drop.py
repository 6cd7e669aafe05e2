"""`nightlabel drop`"""

import click

from pipeline.cli import options
from pipeline.cli.output import say, say_json


@click.command()
@click.argument("dst")
@click.argument("recipe")
@click.option("--take-over", is_flag=True, help="Fence a run that holds the store.")
@options.output
def drop(dst: str, recipe: str, take_over: bool, as_json: bool, debug: bool) -> int:  # noqa: ARG001
    """Remove a recipe's labels from DST. The beginning of its id will do.

    Never the one that readers see: choose another first with `nightlabel use`. If it is killed,
    call it again.

    \b
    Example:
      nightlabel drop s3://bucket/labels r3f9c2a71

    Exit: 0 removed, 2 no such recipe, or the current one, 5 a run is writing.
    """
    from pipeline.flow.recipes import drop_recipe

    dropped = drop_recipe(dst, recipe, take_over=take_over)
    if as_json:
        say_json(dropped.model_dump(mode="json"))
        return 0
    say(f"removed {dropped.recipe}: {dropped.rows:,} rows in {dropped.files:,} files")
    if dropped.parts_left:
        parts = f"{dropped.parts_left:,}"
        say(f"parts kept for a day, for readers that opened the table before: {parts}")
    return 0
