"""`nightlabel doctor`"""

import click

from pipeline.cli import options
from pipeline.cli.output import say, say_json
from pipeline.errors import Exit
from pipeline.words import DEFAULT_TASK


@click.command()
@options.both_ends
@click.option("--model", help="Hub id or folder of a model to check.", shell_complete=options.paths)
@click.option("--address", help="A Ray cluster to check.")
@click.option(
    "--sample",
    type=click.IntRange(min=1, max=10_000),
    help="Read and decode so many images of SRC: formats, modes, sizes, errors.",
)
@click.option("--allow-private", is_flag=True, help="SRC may be in your own network.")
@options.task
@options.output
def doctor(
    src: str | None,
    dst: str | None,
    model: str | None,
    address: str | None,
    sample: int | None,
    allow_private: bool,
    task: str | None,
    pooling: str | None,
    as_json: bool,
    debug: bool,  # noqa: ARG001
) -> int:
    """Check versions, devices, decoders, storage, model and cluster; name each mend.

    \b
    Examples:
      nightlabel doctor
      nightlabel doctor s3://bucket/photos s3://bucket/labels --model ./my-vit
      nightlabel doctor --model ./dinov2 --task embed
      nightlabel doctor ./photos --sample 200

    Exit: 0 all well or a warning, 3 something is wrong: with --sample, if more than half of the
    images fail.
    """
    if sample and src is None:
        raise click.UsageError("--sample needs SRC: name the folder, glob or list to look at")
    from pipeline.flow.doctor import examine

    findings = examine(
        src,
        dst,
        model,
        address,
        allow_private=allow_private,
        sample=sample or 0,
        task=task or DEFAULT_TASK,
        pooling=pooling,
    )
    if as_json:
        say_json([finding.model_dump() for finding in findings])
    else:
        for finding in findings:
            say(f"{'ok   ' if finding.ok else 'WRONG'} {finding.check}: {finding.found}")
            for warning in finding.warnings:
                say(f"warn  {finding.check}: {warning}")
    return Exit.OK if all(finding.ok for finding in findings) else Exit.GATE
