"""`nightlabel use`"""

import click

from pipeline.cli import options
from pipeline.cli.console.output import say, say_json


@click.command()
@click.argument("dst")
@click.argument("recipe")
@options.output
def use(dst: str, recipe: str, as_json: bool, debug: bool) -> int:  # noqa: ARG001
    """Choose the recipe whose labels readers of DST see. The first characters of its id suffice.

    This is one atomic write: no label is changed, and a run may be writing at the same time. To
    go back, choose the previous recipe. `nightlabel recipes DST` lists them.

    \b
    Example:
      nightlabel use s3://bucket/labels r3f9c2a71

    Exit: 0 chosen, 2 no such recipe or it has no rows, 5 it is being removed.
    """
    from pipeline.runs.recipes import use_recipe

    used = use_recipe(dst, recipe)
    if as_json:
        say_json(used.model_dump(mode="json"))
        return 0
    say(f"readers see {used.recipe} ({used.rows:,} rows)")
    if used.before not in (None, used.recipe):
        say(f"to go back: nightlabel use {dst} {used.before}")
    return 0
