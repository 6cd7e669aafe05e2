"""`nightlabel fingerprint`"""

from typing import Any

import click

from pipeline.cli import options
from pipeline.cli.task_command import run_or_plan


@click.command(cls=options.JobCommand)
@options.job_without_model
@options.dry_run
@options.config
@options.progress
@options.output
@click.pass_context
def fingerprint(
    ctx: click.Context,
    /,
    dry_run: bool,
    no_progress: bool,
    as_json: bool,
    debug: bool,
    **given: Any,
) -> int:
    """Bring the measures at DST up to date with the images at SRC, without a model or a GPU.

    Each image gets one row: phash (a 64-bit perceptual hash; near-duplicates differ in few bits),
    sharpness, brightness, colourfulness, aspect. Everything else works as in label: run it again
    and it continues. DST must not be a folder of labels.

    \b
    Examples:
      nightlabel fingerprint s3://bucket/photos s3://bucket/measures
      nightlabel fingerprint ./photos ./measures --decode fast --json

    Exit: 0 done, 1 failed, 2 bad usage, 3 too many errors, 4 incomplete, 5 DST is in use.
    """
    given["task"] = "fingerprint"
    return run_or_plan(
        ctx, given, dry_run=dry_run, silent=no_progress, as_json=as_json, debug=debug
    )
