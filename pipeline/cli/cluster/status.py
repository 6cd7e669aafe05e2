"""`nightlabel status`"""

import click

from pipeline.cli import options
from pipeline.cli.cluster.job_words import document_of
from pipeline.cli.console.output import say_json, say_table
from pipeline.errors import Exit


@click.command()
@click.argument("job")
@options.cluster
@options.output
def status(job: str, address: str, as_json: bool, debug: bool) -> int:  # noqa: ARG001
    """Show a job's status.

    \b
    Example:
      nightlabel status nightlabel-2026-01-31-3f9c2a71b0 --address http://head:8265
    """
    from pipeline.cluster.server import JobServer

    found = JobServer(address).job(job)
    document = document_of(found)
    if as_json:
        say_json(document)
    else:
        del document["job"]
        say_table([(name.replace("_", " "), one) for name, one in document.items()], found.id)
    return Exit.OK
