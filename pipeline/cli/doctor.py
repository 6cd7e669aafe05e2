"""`nightlabel doctor`"""

import click

from pipeline.cli import options
from pipeline.cli.declared import DECLARED
from pipeline.cli.output import say, say_json
from pipeline.errors import Exit


@click.command()
@options.both_ends
@click.option(
    "--model",
    metavar="ID|FOLDER",
    help="Hugging Face model id, or a model's folder, to check.",
    shell_complete=options.paths,
)
@click.option("--address", metavar="HOST:PORT", help="Ray cluster to check, such as head:6379.")
@click.option(
    "--sample",
    type=click.IntRange(min=1, max=10_000),
    metavar="N",
    help="Read and decode N images of SRC: their formats, modes, sizes and errors.",
)
@click.option("--allow-private", is_flag=True, help=DECLARED["allow_private"].help)
@options.output
def doctor(
    src: str | None,
    dst: str | None,
    model: str | None,
    address: str | None,
    sample: int | None,
    allow_private: bool,
    as_json: bool,
    debug: bool,  # noqa: ARG001
) -> int:
    """Check versions, devices, decoders, storage, model and cluster; say how to fix each problem.

    \b
    Examples:
      nightlabel doctor
      nightlabel doctor s3://bucket/photos s3://bucket/labels --model ./my-vit
      nightlabel doctor ./photos --sample 200

    Exit: 0 all OK, or only warnings, 3 problems found; with --sample also if more than half of
    the images fail.
    """
    if sample and src is None:
        raise click.UsageError("--sample needs SRC: name the folder, glob or list to look at")
    from pipeline.flow.doctor import examine

    findings = examine(src, dst, model, address, allow_private=allow_private, sample=sample or 0)
    if as_json:
        say_json([finding.model_dump() for finding in findings])
    else:
        for finding in findings:
            say(f"{'ok   ' if finding.ok else 'WRONG'} {finding.check}: {finding.found}")
            for warning in finding.warnings:
                say(f"warn  {finding.check}: {warning}")
    return Exit.OK if all(finding.ok for finding in findings) else Exit.GATE
