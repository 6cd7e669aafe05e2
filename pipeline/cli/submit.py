"""`nightlabel submit`"""

import logging
from datetime import datetime
from typing import Any

import click

from pipeline.cli import options
from pipeline.cli.follow import follow_to_the_end
from pipeline.cli.output import say, say_json
from pipeline.errors import Exit, SpecError


@click.command(cls=options.JobCommand)
@options.job
@click.option(
    "--night", metavar="NAME", help="One job a night and specification. [date of the last noon]"
)
@click.option(
    "--image-has-package", is_flag=True, help="Nodes have this package: send only the job."
)
@click.option("--wait/--no-wait", default=True, help="Follow it, and exit with its code. [--wait]")
@options.config
@options.progress
@options.output
def submit(
    night: str | None,
    image_has_package: bool,
    wait: bool,
    no_progress: bool,
    as_json: bool,
    debug: bool,  # noqa: ARG001
    **given: Any,
) -> int:
    """Run label as a job of the Ray cluster at --address, the url of its head's dashboard.

    Submit again and get the job that is there: it runs once a night, and after it failed.
    Ctrl-C ends the following, not the job. Paths of folders are those of the cluster.

    \b
    Examples:
      nightlabel submit s3://bucket/photos s3://bucket/labels --address http://head:8265
      nightlabel submit --config night.toml --deadline 06:30 --no-wait

    Exit: the job's own code (see label); 143 where it was stopped.
    """
    from pipeline.cluster.nights import checked, night_of
    from pipeline.cluster.server import JobServer
    from pipeline.cluster.submission import submit as run

    logging.disable(logging.INFO)  # Ray tells of each upload
    spec = options.spec_from(given)
    address = spec.address or options.job_server()
    if address is None:
        raise SpecError("address", None, "give the url of the cluster's dashboard")
    now = datetime.now().astimezone()
    night = night_of(now) if night is None else checked(night)
    server = JobServer(address)
    submitted = run(server, spec, night, now, with_package=not image_has_package)
    job = submitted.job
    if wait:
        if not no_progress:
            say(_told(job.id, attached=submitted.attached, over=job.over), err=True)
        return follow_to_the_end(server, job.id, silent=no_progress, as_json=as_json)
    if as_json:
        say_json({"job": job.id, "status": job.status, "attached": submitted.attached})
    else:
        say(_told(job.id, attached=submitted.attached, over=job.over))
    return Exit.OK


def _told(job_id: str, *, attached: bool, over: bool) -> str:
    if over:
        return f"job {job_id} has done this night already; --night NAME makes another"
    return f"job {job_id} {'is there already' if attached else 'submitted'}"
