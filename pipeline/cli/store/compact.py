"""`nightlabel compact`"""

import click

from pipeline.cli import options
from pipeline.cli.console.output import say, say_json


@click.command()
@options.store
@options.take_over
@options.output
def compact(dst: str, take_over: bool, as_json: bool, debug: bool) -> int:  # noqa: ARG001
    """Merge the small files of a label store into large ones.

    Every run merges its own files; over many nights small files still add up.

    \b
    Example:
      nightlabel compact s3://bucket/labels
    """
    from pipeline.runs.finalize import compact_store

    before, after = compact_store(dst, take_over=take_over)
    if as_json:
        say_json({"files_before": before, "files_after": after})
    else:
        say(f"merged {before:,} files into {after:,}")
    return 0
