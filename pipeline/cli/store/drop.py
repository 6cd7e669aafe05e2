"""`nightlabel drop`"""

import click

from pipeline.cli import options
from pipeline.cli.console.output import say, say_json


@click.command()
@click.argument("dst")
@click.argument("recipe")
@options.take_over
@options.output
def drop(dst: str, recipe: str, take_over: bool, as_json: bool, debug: bool) -> int:  # noqa: ARG001
    """Delete a recipe's labels from DST. The first characters of its id suffice.

    The recipe that readers see cannot be deleted: choose another first with `nightlabel use`. If
    this command is killed, run it again.

    \b
    Example:
      nightlabel drop s3://bucket/labels r3f9c2a71

    Exit: 0 deleted, 2 no such recipe or it is the current one, 5 a run is writing.
    """
    from pipeline.runs.recipes import drop_recipe

    dropped = drop_recipe(dst, recipe, take_over=take_over)
    if as_json:
        say_json(dropped.model_dump(mode="json"))
        return 0
    say(f"deleted {dropped.recipe}: {dropped.rows:,} rows in {dropped.files:,} files")
    if dropped.parts_left:
        parts = f"{dropped.parts_left:,}"
        say(f"{parts} files are kept for a day, for readers that have the table open")
    return 0
