"""Follow a job on the terminal."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.cli.console.output import say, say_json
from pipeline.cli.summary import say_next, say_summary

if TYPE_CHECKING:
    from pipeline.cluster.server import Job, JobServer
    from pipeline.store.runs import RunSummary


def follow_to_the_end(
    server: "JobServer",
    job_id: str,
    *,
    silent: bool,
    as_json: bool,
    facts: Mapping[str, Any] | None = None,
) -> int:
    """Print a job's lines on stderr, then how it ended; returns the exit code of its run.

    `facts` are added to the JSON document.
    """
    from pipeline.cluster.following import Follower, summary_in
    from pipeline.graph.result_queue import Stop

    follower = Follower(server, job_id, (lambda _: None) if silent else _show)
    try:
        with Stop().on_signals():
            job = follower.follow()
    except KeyboardInterrupt:
        stop = f"nightlabel stop {job_id} --address {server.address}"
        say(f"job {job_id} continues; stop it with: {stop}", err=True)
        raise
    return say_end(job, summary_in(follower.log), facts or {}, as_json=as_json)


def say_end(
    job: "Job", summary: "RunSummary | None", facts: Mapping[str, Any], *, as_json: bool
) -> int:
    """Print how a job ended; returns the exit code of its run."""
    from pipeline.cluster.following import exit_code

    code = int(exit_code(job))
    if as_json:
        found = summary.model_dump(mode="json") if summary else None
        document = {"job": job.id, "status": job.status, "exit_code": code, "summary": found}
        say_json(document | dict(facts))
    elif summary:
        say_summary(summary)
        say_next(summary)
    else:
        say(f"job {job.id}: {job.status.lower()}, exit {code}: {job.message}")
    return code


def _show(line: str) -> None:
    from pipeline.cluster.following import is_summary

    if not is_summary(line):
        say(line.expandtabs(), err=True)
