"""`nightlabel move-src`"""

import click

from pipeline.cli import options
from pipeline.cli.console.output import say, say_json


@click.command(name="move-src")
@click.argument("dst")
@click.argument("old")
@click.argument("new")
@options.names
@options.take_over
@options.output
def move_src(
    dst: str,
    old: str,
    new: str,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    take_over: bool,
    as_json: bool,
    debug: bool,  # noqa: ARG001
) -> int:
    """Keep the labels of an archive that moved from OLD to NEW: two folders, or two zip files.

    A row of DST moves if NEW lists the image with the same size and etag, or the same size and
    time if an etag is not known. Other rows stay, and the next run labels their images. Move or
    copy the images first; OLD may be gone. Give the same --include and --exclude as your runs. If
    this command is killed, run it again.

    \b
    Example:
      nightlabel move-src s3://bucket/labels s3://bucket/photos s3://archive/photos

    Exit: 0 moved, 2 no rows below OLD, 5 a run is writing.
    """
    from pipeline.runs.move_src import move_src as move

    moved = move(dst, old, new, include=include, exclude=exclude, take_over=take_over)
    if as_json:
        say_json(moved.model_dump(mode="json"))
        return 0
    say(f"moved {moved.moved:,} rows in {moved.files:,} files to {moved.src}")
    for rows, why in (
        (moved.missing, "no such image in NEW"),
        (moved.different, "the image in NEW differs in size, etag or time"),
        (moved.already, "already labelled in NEW"),
    ):
        if rows:
            say(f"left {rows:,} rows: {why}")
    return 0
