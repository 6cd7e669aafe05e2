"""`nightlabel logs`"""

import click

from pipeline.cli import options
from pipeline.cli.cluster.follow import follow_to_the_end
from pipeline.cli.console.output import say, say_json
from pipeline.errors import Exit


@click.command()
@click.argument("job")
@click.option("-f", "--follow", is_flag=True, help="Follow the job, and exit with its exit code.")
@options.cluster
@options.output
def logs(job: str, follow: bool, address: str, as_json: bool, debug: bool) -> int:  # noqa: ARG001
    """Show what a job has printed. Ctrl-C stops following the job, not the job.

    \b
    Example:
      nightlabel logs -f nightlabel-2026-01-31-3f9c2a71b0 --address http://head:8265
    """
    from pipeline.cluster.server import JobServer

    server = JobServer(address)
    server.job(job)
    if follow:
        return follow_to_the_end(server, job, silent=False, as_json=as_json)
    log = server.log(job)
    if as_json:
        say_json({"job": job, "log": log})
    else:
        say(log.rstrip("\n"))
    return Exit.OK
