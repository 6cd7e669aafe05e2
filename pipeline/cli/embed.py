"""`nightlabel embed`"""

from typing import Any

import click

from pipeline.cli import options
from pipeline.cli.label import run_and_say


@click.command(cls=options.JobCommand)
@options.job_of_vectors
@click.option("--dry-run", is_flag=True, help="Say what would be done: the same as plan.")
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

    Each image gets one row, whose embedding is a vector as the network gives it, not normalised.
    --model is any vision backbone of transformers (DINOv2, ViT, CLIP, ConvNeXt, …); of a
    classifier the class head is left out. All else is as with label: run it again and it goes on.
    DST must be another folder than that of labels.

    \b
    Examples:
      nightlabel embed s3://bucket/photos s3://bucket/vectors --model facebook/dinov2-small
      nightlabel embed ./photos ./vectors --model ./clip --pooling projection
      nightlabel embed ./photos ./vectors --model ./dinov2 --pooling mean --vector-dtype float32

    Exit: 0 done, 1 failed, 2 usage, 3 gate, 4 incomplete, 5 busy.
    """
    given["task"] = "embed"
    if dry_run:
        from pipeline.cli.plan import plan

        result: int = ctx.invoke(plan, no_probe=True, as_json=as_json, debug=debug, **given)
        return result
    spec = options.spec_of_run(given)
    return run_and_say(spec, silent=no_progress, as_json=as_json, debug=debug).exit_code
