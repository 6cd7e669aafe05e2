"""`nightlabel doctor`"""

from typing import TYPE_CHECKING

import click

from pipeline.cli import options
from pipeline.cli.console.output import say_json
from pipeline.cli.console.tables import Column, Row, say_columns
from pipeline.cli.declared import DECLARED
from pipeline.errors import Exit
from pipeline.words import DEFAULT_TASK

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.runs.doctor import Finding

TABLE = (Column("", least=7, status=True, whole=True), Column("check"))


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
    """Check versions, devices, decoders, storage, model and cluster; say how to fix each problem.

    \b
    Examples:
      nightlabel doctor
      nightlabel doctor s3://bucket/photos s3://bucket/labels --model ./my-vit
      nightlabel doctor --model ./dinov2 --task embed
      nightlabel doctor ./photos --sample 200

    Exit: 0 OK, or only warnings; 3 problems found, or with --sample more than half of the images
    failed.
    """
    if sample and src is None:
        raise click.UsageError("--sample needs SRC: give the folder, glob or list to check")
    from pipeline.runs.doctor import examine

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
        _say(findings)
    return Exit.OK if all(finding.ok for finding in findings) else Exit.GATE


def _say(findings: "Iterable[Finding]") -> None:
    rows = []
    for one in findings:
        rows.append(Row(("OK" if one.ok else "FAILED", f"{one.check}: {one.found}")))
        rows += [Row(("WARNING", f"{one.check}: {warning}")) for warning in one.warnings]
    say_columns(TABLE, rows, head=False)
