"""Client of a Ray cluster's job server: Ray's own client, with a time limit and our errors."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Literal

import ray
import requests
from ray.job_submission import JobDetails, JobSubmissionClient

from pipeline.cluster.url import job_server_url
from pipeline.errors import ClusterError, SpecError

Status = Literal["PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED"]

#: Seconds after which a request counts as unanswered.
REQUEST_SECONDS: Final = 20.0

#: Variables that Ray's client reads before its arguments.
_ADDRESS: Final = "RAY_API_SERVER_ADDRESS"
#: JSON with headers for a secured cluster, the same as for Ray's own `ray job`.
_HEADERS: Final = "RAY_JOB_HEADERS"


@dataclass(frozen=True, slots=True)
class Job:
    """One job as its cluster reports it. `exit_code` is that of its process, if it had one."""

    id: str
    status: Status
    message: str
    exit_code: int | None
    started: datetime | None
    ended: datetime | None
    metadata: Mapping[str, str]

    @property
    def over(self) -> bool:
        return self.status in {"STOPPED", "SUCCEEDED", "FAILED"}


class UnknownJobError(ClusterError):
    """The server knows no such job."""


class JobServer:
    """Jobs on the cluster at an address, the url of its head's dashboard.

    Every method raises ClusterError if the server is down, refuses or gives an invalid answer;
    the constructor raises SpecError for an address that is not a job server's.
    """

    def __init__(self, address: str) -> None:
        self.address = job_server_url(address)
        with _border(self.address), _asking(self.address):
            self._client = _connected(self.address)

    def start(
        self, job_id: str, entrypoint: str, folder: Path, metadata: Mapping[str, str]
    ) -> bool:
        """Run `entrypoint` in a copy of `folder`; False if the cluster has a job of that id."""
        try:
            with _border(self.address):
                self._client.submit_job(
                    entrypoint=entrypoint,
                    submission_id=job_id,
                    runtime_env={"working_dir": str(folder)},
                    metadata=dict(metadata),
                )
        except ClusterError:
            # The server gives no special code if another submission was faster.
            if self.find(job_id) is None:
                raise
            return False
        return True

    def find(self, job_id: str) -> Job | None:
        try:
            with _border(self.address):
                return _job(self._client.get_job_info(job_id))
        except UnknownJobError:
            return None

    def job(self, job_id: str) -> Job:
        """Raises UnknownJobError if there is none."""
        found = self.find(job_id)
        if found is None:
            raise UnknownJobError(
                f"{self.address} knows no job {job_id}; `nightlabel list` shows those it knows"
            )
        return found

    def jobs(self) -> list[Job]:
        """All jobs that were submitted, ours or not, the oldest first."""
        with _border(self.address):
            found = [_job(one) for one in self._client.list_jobs() if one.submission_id]
        return sorted(found, key=lambda job: job.started or datetime.now(UTC))

    def log(self, job_id: str) -> str:
        """Everything that a job has printed so far."""
        with _border(self.address):
            return str(self._client.get_job_logs(job_id))

    def stop(self, job_id: str) -> None:
        """Ask the job to stop; it has the time that its cluster is configured for to commit."""
        with _border(self.address):
            self._client.stop_job(job_id)


class _Client(JobSubmissionClient):  # type: ignore[misc]
    """Ray's client waits forever for an answer, and gives a refusal's code only as text."""

    def _do_request(self, *arguments: Any, **options: Any) -> requests.Response:
        found: requests.Response = super()._do_request(
            *arguments, timeout=REQUEST_SECONDS, **options
        )
        return found

    def _raise_error(self, r: requests.Response) -> None:
        kind = UnknownJobError if r.status_code == HTTPStatus.NOT_FOUND else ClusterError
        raise kind(f"{self._address} answers {r.status_code}: {_last_line(r.text)}")


def _connected(address: str) -> _Client:
    """Requests the version: other kinds of web servers do not have one."""
    try:
        return _Client(address, headers=_headers())
    except (RuntimeError, KeyError, TypeError, requests.JSONDecodeError):
        raise SpecError(
            "address",
            address,
            "the server there is not a job server: give the url of the dashboard of the cluster's "
            "head, such as http://head:8265",
        ) from None


@contextmanager
def _border(address: str) -> Iterator[None]:
    try:
        yield
    except ray.exceptions.AuthenticationError as error:
        raise ClusterError(
            f"{address} admits only clients with its token: set RAY_AUTH_MODE=token and "
            f"RAY_AUTH_TOKEN, or {_HEADERS} ({_last_line(str(error)).partition('. ')[0]})"
        ) from error
    except (ConnectionError, requests.RequestException) as error:
        raise ClusterError(
            f"no job server answers at {address}: give the url of the dashboard of the cluster's "
            "head, such as http://head:8265"
        ) from error
    except (RuntimeError, ValueError) as error:
        raise ClusterError(f"{address}: {_last_line(str(error))}") from error


@contextmanager
def _asking(address: str) -> Iterator[None]:
    """Ray's environment variables override its arguments; here the arguments win."""
    before = os.environ.get(_ADDRESS)
    os.environ[_ADDRESS] = address
    try:
        yield
    finally:
        if before is None:
            del os.environ[_ADDRESS]
        else:
            os.environ[_ADDRESS] = before


def _headers() -> dict[str, str] | None:
    text = os.environ.get(_HEADERS)
    if text is None:
        return None
    try:
        headers = json.loads(text)
    except ValueError:
        headers = None
    if not isinstance(headers, dict):
        # Its value is a secret.
        raise SpecError(_HEADERS, "…", 'write a JSON object, {"Authorization": "Bearer …"}')
    return {str(name): str(value) for name, value in headers.items()}


def _job(details: JobDetails) -> Job:
    return Job(
        id=str(details.submission_id),
        status=details.status.value,
        message=details.message or "",
        exit_code=details.driver_exit_code,
        started=_time(details.start_time),
        ended=_time(details.end_time),
        metadata=details.metadata or {},
    )


def _time(milliseconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None


def _last_line(text: str) -> str:
    """The last line of a server's message: if it is a whole traceback, that line is the reason."""
    return (text.strip().splitlines() or ["no reason given"])[-1]
