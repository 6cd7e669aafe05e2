"""`nightlabel label`"""

from typing import Any

import click

from pipeline.cli import options
from pipeline.cli.task_command import run_or_plan


@click.command(cls=options.JobCommand)
@options.job
@options.dry_run
@options.config
@options.progress
@options.output
@click.pass_context
def label(
    ctx: click.Context,
    /,
    dry_run: bool,
    no_progress: bool,
    as_json: bool,
    debug: bool,
    **given: Any,
) -> int:
    """Bring the labels at DST up to date with the images at SRC.

    Lists SRC (a folder, a glob, a zip file or a list of images), skips what DST already has, and
    labels the rest. Run it every night, and again after a crash. Every image gets exactly one row.

    \b
    Examples:
      nightlabel label s3://bucket/photos s3://bucket/labels
      nightlabel label ./photos ./labels --model ./my-vit --deadline 06:30
      nightlabel label urls.csv gs://bucket/labels --config night.toml
      nightlabel label https://host/photos.zip ./labels

    Exit: 0 done, 1 failed, 2 bad usage, 3 too many errors, 4 incomplete, 5 DST is in use.
    """
    return run_or_plan(
        ctx, given, dry_run=dry_run, silent=no_progress, as_json=as_json, debug=debug
    )
