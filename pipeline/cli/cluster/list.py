"""`nightlabel list`"""

from typing import TYPE_CHECKING

import click

from pipeline.cli import options
from pipeline.cli.cluster.job_words import document_of
from pipeline.cli.console.output import say_json
from pipeline.cli.console.tables import Column, Row, say_columns
from pipeline.errors import Exit

if TYPE_CHECKING:
    from pipeline.cluster.server import Job


TABLE = (
    Column("job", whole=True),
    Column("status", least=9, status=True),
    Column("started", least=16, whole=True, spare=True),
    Column("images and labels"),
)


@click.command
@click.option("--all", "others", is_flag=True, help="Show jobs of other programs too.")
@options.cluster
@options.output
def list(address: str, others: bool, as_json: bool, debug: bool) -> int:  # noqa: ARG001
    """List the jobs of the cluster at --address, the newest last.

    \b
    Example:
      nightlabel list --address http://head:8265
    """
    from pipeline.cluster.nights import PREFIX
    from pipeline.cluster.server import JobServer

    found = [job for job in JobServer(address).jobs() if others or job.id.startswith(PREFIX)]
    if as_json:
        say_json([document_of(job) for job in found])
        return Exit.OK
    say_columns(TABLE, [Row(_cells(job)) for job in found], head=False)
    return Exit.OK


def _cells(job: "Job") -> tuple[str, ...]:
    ends = f"{job.metadata.get('src', '')} → {job.metadata.get('dst', '')}"
    started = f"{job.started.astimezone():%Y-%m-%d %H:%M}" if job.started else ""
    return job.id, job.status.lower(), started, ends if len(ends) > 3 else ""
