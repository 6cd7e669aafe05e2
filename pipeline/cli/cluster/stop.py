"""`nightlabel stop`"""

import click

from pipeline.cli import options
from pipeline.cli.cluster.job_words import document_of
from pipeline.cli.console.output import say, say_json
from pipeline.errors import ClusterError, Exit

#: How long to wait for a job to stop.
STOP_SECONDS = 120.0


@click.command()
@click.argument("job")
@options.cluster
@options.output
def stop(job: str, address: str, as_json: bool, debug: bool) -> int:  # noqa: ARG001
    """Stop a job. What it has labelled is committed first, and the next run continues.

    A cluster gives a job RAY_JOB_STOP_WAIT_TIME_S seconds to stop, an environment variable of its
    head; set it to 30.

    \b
    Example:
      nightlabel stop nightlabel-2026-01-31-3f9c2a71b0 --address http://head:8265
    """
    from pipeline.cluster.following import wait_until_over
    from pipeline.cluster.server import JobServer

    server = JobServer(address)
    if not server.job(job).over:
        server.stop(job)
    found = wait_until_over(server, job, STOP_SECONDS)
    if not found.over:
        raise ClusterError(f"job {job} has not stopped within {STOP_SECONDS:.0f} s; try again")
    if as_json:
        say_json(document_of(found))
    else:
        say(f"job {job}: {found.status.lower()}")
    return Exit.OK
