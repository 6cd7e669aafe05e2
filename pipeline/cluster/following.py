"""Follows a job from outside: prints its log lines as they come, and returns how it ended.

It polls the job's status: a stream of the job's log sometimes ends early, and does not
say that the job ended. If the head does not answer for a while, it waits.
"""

import time
from collections.abc import Callable
from typing import Final

from pydantic import ValidationError

from pipeline.cluster.server import Job, JobServer, UnknownJobError
from pipeline.errors import ClusterError, Exit
from pipeline.store.runs import RunSummary

POLL_SECONDS: Final = 2.0
#: Seconds between reads of the log: each reads all of it, so not at every poll.
LOOKS_A_LOG: Final = 3
#: Seconds for which a head may be down.
PATIENCE_SECONDS: Final = 300.0


class Follower:
    """Passes on each new line of a job's log, until the job is over."""

    def __init__(self, server: JobServer, job_id: str, listen: Callable[[str], None]) -> None:
        self._server, self._id, self._listen = server, job_id, listen
        self._printed = 0
        self._answered = time.monotonic()
        self.log = ""

    def follow(self) -> Job:
        """Raises ClusterError if the cluster is down for long, or has lost the job."""
        looks = 0
        while True:
            job = self._look(with_log=looks % LOOKS_A_LOG == 0)
            if job is not None and job.over:
                self._tell(self._server.log(self._id), whole=True)
                return job
            looks += 1
            time.sleep(POLL_SECONDS)

    def _look(self, *, with_log: bool) -> Job | None:
        try:
            job = self._server.job(self._id)
            if with_log:
                self._tell(self._server.log(self._id), whole=False)
        except UnknownJobError:
            raise
        except ClusterError as error:
            away = time.monotonic() - self._answered
            if away > PATIENCE_SECONDS:
                raise ClusterError(
                    f"{error}; this has lasted {away / 60:.0f} minutes. The job {self._id} may "
                    "still run: submit again to follow it; this starts no second job"
                ) from None
            return None
        self._answered = time.monotonic()
        return job

    def _tell(self, log: str, *, whole: bool) -> None:
        self.log = log
        end = len(log) if whole else log.rfind("\n") + 1
        for line in log[self._printed : end].splitlines():
            self._listen(line)
        self._printed = max(self._printed, end)


def wait_until_over(server: JobServer, job_id: str, seconds: float) -> Job:
    """The job once it is over, or in its state at the time limit."""
    until = time.monotonic() + seconds
    while not (job := server.job(job_id)).over and time.monotonic() < until:
        time.sleep(POLL_SECONDS / 4)
    return job


def exit_code(job: Job) -> Exit:
    """A job's own exit code; the cluster may not report one: a stopped job was terminated."""
    if job.status == "SUCCEEDED":
        return Exit.OK
    if job.status == "STOPPED":
        return Exit.INTERRUPTED if job.exit_code == Exit.INTERRUPTED else Exit.TERMINATED
    # Not 0: a cluster may report a job as failed although its process succeeded.
    return Exit(job.exit_code) if job.exit_code and job.exit_code in {*Exit} else Exit.FAILED


def is_summary(line: str) -> bool:
    """Is this line of a log the summary that a run prints at its end?"""
    return line.startswith('{"run_id"')


def summary_in(log: str) -> RunSummary | None:
    """The summary that a run printed as its last line, None if it printed none."""
    for line in reversed(log.splitlines()):
        if is_summary(line):
            try:
                return RunSummary.model_validate_json(line)
            except ValidationError:
                return None
    return None
