"""`nightlabel submit`"""

import logging
from datetime import UTC, datetime
from typing import Any

import click

from pipeline.cli import options
from pipeline.cli.cluster.completed import say_completed
from pipeline.cli.cluster.follow import follow_to_the_end
from pipeline.cli.console.output import say, say_json
from pipeline.errors import Exit, SpecError
from pipeline.job_options import Group


@click.command(cls=options.JobCommand)
@options.job_of_a_cluster
@options.task
@options.option(
    "--night",
    metavar="NAME",
    group=Group.RUN,
    help="Name of the night. The same night and options run once; another name runs them again. "
    "[default: date of the last noon in UTC]",
)
@options.option(
    "--image-has-package",
    is_flag=True,
    group=Group.CLUSTER,
    rare=True,
    help="The nodes have this package installed: send only the job.",
)
@options.option(
    "--wait/--no-wait",
    default=True,
    group=Group.OUTPUT,
    help="Follow the job, and exit with its exit code. [default: --wait]",
)
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
    """Run label as a job on the Ray cluster at --address, the URL of its dashboard.

    A job runs once a night: submit it again to follow the existing job, or to run it again
    if it failed. A night lasts from noon to noon in UTC. Images that arrive after the job has
    ended wait for the next night; to label them earlier, give another --night. Ctrl-C stops
    following the job, not the job. Local paths are those of the cluster's nodes.

    \b
    Examples:
      nightlabel submit s3://bucket/photos s3://bucket/labels --address http://head:8265
      nightlabel submit --config night.toml --deadline 06:30 --no-wait
      nightlabel submit --config night.toml --night 2026-01-31b

    Exit: the job's own exit code (see label); 143 if it was stopped.
    """
    from pipeline.cluster.nights import checked, night_of
    from pipeline.cluster.url import job_server_url

    spec = options.spec_from(given)
    address = spec.address or options.job_server()
    if address is None:
        raise SpecError(
            "address", None, "give the url of the cluster's dashboard, such as http://head:8265"
        )
    address = job_server_url(address)
    now = datetime.now(UTC)
    night = night_of(now) if night is None else checked(night)
    from pipeline.cluster.server import JobServer
    from pipeline.cluster.submission import submit as run

    logging.disable(logging.INFO)  # Ray reports each upload
    server = JobServer(address)
    submitted = run(server, spec, night, now, with_package=not image_has_package)
    job = submitted.job
    if submitted.attached and job.over:
        return say_completed(server, spec, night, job, as_json=as_json)
    facts = {"attached": submitted.attached, "already_completed": False, "night": night}
    line = f"job {job.id} {'already exists' if submitted.attached else 'submitted'}"
    if wait:
        if not no_progress:
            say(line, err=True)
        silent = no_progress
        return follow_to_the_end(server, job.id, silent=silent, as_json=as_json, facts=facts)
    if as_json:
        say_json({"job": job.id, "status": job.status} | facts)
    else:
        say(line)
    return Exit.OK
