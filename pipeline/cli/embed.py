"""`nightlabel embed`"""

from typing import Any

import click

from pipeline.cli import options
from pipeline.cli.task_command import run_or_plan


@click.command(cls=options.JobCommand)
@options.job_of_vectors
@options.dry_run
@options.config
@options.progress
@options.output
@click.pass_context
def embed(
    ctx: click.Context,
    /,
    dry_run: bool,
    no_progress: bool,
    as_json: bool,
    debug: bool,
    **given: Any,
) -> int:
    """Bring the vectors at DST up to date with the images at SRC.

    Each image gets one row. Its embedding is the vector that the network gives, not normalised.
    --model is any vision backbone of transformers (DINOv2, ViT, CLIP, ConvNeXt, …), or a
    classifier, whose class head is then not used. Everything else works as in label: run it again
    and it continues. DST must not be a folder of labels.

    \b
    Examples:
      nightlabel embed s3://bucket/photos s3://bucket/vectors --model facebook/dinov2-small
      nightlabel embed ./photos ./vectors --model ./clip --pooling projection
      nightlabel embed ./photos ./vectors --model ./dinov2 --pooling mean --vector-dtype float32

    Exit: 0 done, 1 failed, 2 bad usage, 3 too many errors, 4 incomplete, 5 DST is in use.
    """
    given["task"] = "embed"
    return run_or_plan(
        ctx, given, dry_run=dry_run, silent=no_progress, as_json=as_json, debug=debug
    )
