"""Submission: starts a night's job once, however often it is submitted."""

import tempfile
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path

from pipeline.cluster.nights import job_id, nights_after
from pipeline.cluster.server import Job, JobServer
from pipeline.cluster.shipping import ENTRYPOINT, pack
from pipeline.spec import LabelSpec
from pipeline.storage import canonical, public


@dataclass(frozen=True, slots=True)
class Submitted:
    """A night's job, and whether it existed already."""

    job: Job
    attached: bool


def submit(
    server: JobServer, spec: LabelSpec, night: str, now: datetime, *, with_package: bool
) -> Submitted:
    """The job of this night and specification: the one that runs or has succeeded, else a new one.

    After a failed or stopped job a new one starts. `now` is the moment of submission.
    Raises ClusterError.
    """
    for attempt in count(1):
        name = job_id(spec, night, attempt)
        job = server.find(name)
        if job is None:
            started = _start(server, spec, name, night, now, with_package=with_package)
            job = server.job(name)
            if started:
                return Submitted(job, attached=False)
        if not job.over or job.status == "SUCCEEDED":
            return Submitted(job, attached=True)
    raise AssertionError("count never ends")


def another_night(server: JobServer, spec: LabelSpec, night: str) -> str:
    """A name for `--night` that makes another job: one that does not exist yet."""
    names = nights_after(night)
    return next(name for name in names if server.find(job_id(spec, name, 1)) is None)


def _start(
    server: JobServer, spec: LabelSpec, name: str, night: str, now: datetime, *, with_package: bool
) -> bool:
    with tempfile.TemporaryDirectory(prefix="nightlabel-") as made:
        folder = Path(made)
        pack(spec, folder, now, with_package=with_package)
        metadata = {"night": night, "src": _shown(spec.src), "dst": _shown(spec.dst)}
        return server.start(name, ENTRYPOINT, folder, metadata)


def _shown(uri: str) -> str:
    return public(canonical(uri))
