"""A job is followed to its end, whatever its head does meanwhile."""

from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.cluster import following
from pipeline.cluster.following import Follower, exit_code, summary_in
from pipeline.cluster.server import Job, UnknownJobError
from pipeline.errors import ClusterError, Exit
from pipeline.store.runs import RunSummary


def job(status: Any, code: int | None = None) -> Job:
    return Job("j", status, "", code, None, None, {})


class Head:
    """Answers in turn what it was given; an error it raises."""

    address = "http://head:8265"

    def __init__(self, *answers: tuple[Job | Exception, str]) -> None:
        self._answers = iter(answers)
        self._log = ""

    def job(self, job_id: str) -> Job:
        answer, self._log = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def log(self, job_id: str) -> str:
        return self._log


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that sleeping turns, so that five minutes take none."""
    now = [0.0]
    monkeypatch.setattr(following.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(following.time, "sleep", lambda s: now.__setitem__(0, now[0] + s))
    monkeypatch.setattr(following, "LOOKS_A_LOG", 1)


def test_each_line_is_told_once_and_whole() -> None:
    told: list[str] = []
    head = Head(
        (job("PENDING"), ""),
        (job("RUNNING"), "one\ntw"),
        (job("RUNNING"), "one\ntwo\n"),
        (job("SUCCEEDED"), "one\ntwo\nthree"),
    )
    assert Follower(head, "j", told.append).follow().status == "SUCCEEDED"  # type: ignore[arg-type]
    assert told == ["one", "two", "three"]


def test_a_head_may_be_away_for_a_while() -> None:
    away = [(ClusterError("away"), "")] * 140
    head = Head((job("RUNNING"), ""), *away, (job("RUNNING"), ""), *away, (job("FAILED", 4), ""))
    assert Follower(head, "j", print).follow().exit_code == 4  # type: ignore[arg-type]


def test_a_head_that_stays_away_is_given_up() -> None:
    head = Head((job("RUNNING"), ""), *[(ClusterError("away"), "")] * 160)
    with pytest.raises(ClusterError, match=r"away; this has lasted 5 minutes. The job j may still"):
        Follower(head, "j", print).follow()  # type: ignore[arg-type]


def test_a_head_that_has_forgotten_the_job_is_not_asked_again() -> None:
    head = Head((job("RUNNING"), ""), (UnknownJobError("no such job"), ""))
    with pytest.raises(UnknownJobError):
        Follower(head, "j", print).follow()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "told", "code"),
    [
        ("SUCCEEDED", 0, Exit.OK),
        ("FAILED", 1, Exit.FAILED),
        ("FAILED", 3, Exit.GATE),
        ("FAILED", 4, Exit.INCOMPLETE),
        ("FAILED", 5, Exit.BUSY),
        ("FAILED", 143, Exit.TERMINATED),
        ("FAILED", None, Exit.FAILED),
        ("FAILED", 0, Exit.FAILED),
        ("FAILED", -9, Exit.FAILED),
        ("FAILED", 137, Exit.FAILED),
        ("STOPPED", None, Exit.TERMINATED),
        ("STOPPED", 0, Exit.TERMINATED),
        ("STOPPED", 143, Exit.TERMINATED),
        ("STOPPED", 130, Exit.INTERRUPTED),
    ],
)
def test_the_exit_code_is_the_jobs_own(status: str, told: int | None, code: Exit) -> None:
    assert exit_code(job(status, told)) is code


def test_the_summary_is_the_last_line_of_its_kind() -> None:
    run = RunSummary(run_id="r", started=datetime.now(UTC), recipe="x", scope={}, spec={})
    log = f'progress\n{{"other": 1}}\n{run.model_dump_json()}\nray says goodbye\n'
    assert summary_in(log) == run
    assert summary_in("progress\n") is None
    assert summary_in('{"run_id": "cut of') is None
