"""Following a job on the terminal, for the commands that do."""

from typing import TYPE_CHECKING

from pipeline.cli.label import say_next, say_summary
from pipeline.cli.output import say, say_json

if TYPE_CHECKING:
    from pipeline.cluster.server import JobServer


def follow_to_the_end(server: "JobServer", job_id: str, *, silent: bool, as_json: bool) -> int:
    """Show a job's lines on stderr, then how it ended; returns the exit code of its run."""
    from pipeline.cluster.following import Follower, exit_code, summary_in
    from pipeline.flow.feed import Stop

    follower = Follower(server, job_id, (lambda _: None) if silent else _show)
    try:
        with Stop().on_signals():
            job = follower.follow()
    except KeyboardInterrupt:
        say(
            f"job {job_id} goes on; nightlabel stop {job_id} --address {server.address} ends it",
            err=True,
        )
        raise
    code = exit_code(job)
    summary = summary_in(follower.log)
    if as_json:
        told = summary.model_dump(mode="json") if summary else None
        say_json({"job": job.id, "status": job.status, "exit_code": int(code), "summary": told})
    elif summary:
        say_summary(summary)
        say_next(summary)
    else:
        say(f"job {job.id}: {job.status.lower()}, exit {int(code)}: {job.message}")
    return code


def _show(line: str) -> None:
    from pipeline.cluster.following import is_summary

    if not is_summary(line):
        say(line.expandtabs(), err=True)
