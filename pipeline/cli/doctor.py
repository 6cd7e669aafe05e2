"""`nightlabel doctor`"""

import click

from pipeline.cli import options
from pipeline.cli.output import say, say_json
from pipeline.errors import Exit


@click.command()
@options.both_ends
@click.option("--model", help="Hub id or folder of a model to check.", shell_complete=options.paths)
@click.option("--address", help="A Ray cluster to check.")
@click.option("--allow-private", is_flag=True, help="SRC may be in your own network.")
@options.output
def doctor(
    src: str | None,
    dst: str | None,
    model: str | None,
    address: str | None,
    allow_private: bool,
    as_json: bool,
    debug: bool,  # noqa: ARG001
) -> int:
    """Check versions, devices, decoders, storage, model and cluster; name each mend.

    \b
    Examples:
      nightlabel doctor
      nightlabel doctor s3://bucket/photos s3://bucket/labels --model ./my-vit

    Exit: 0 all well, 3 something is wrong.
    """
    from pipeline.flow.doctor import examine

    findings = examine(src, dst, model, address, allow_private=allow_private)
    if as_json:
        say_json([finding.model_dump() for finding in findings])
    else:
        for finding in findings:
            say(f"{'ok   ' if finding.ok else 'WRONG'} {finding.check}: {finding.found}")
    return Exit.OK if all(finding.ok for finding in findings) else Exit.GATE
