"""The end of a run, for people: its numbers by their words, its speed, and what to do next."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.cli.plan import _say as say_plan
from pipeline.cli.store.runs import COLUMNS
from pipeline.cli.summary import say_next, say_summary
from pipeline.cli.verify import _say as say_verification
from pipeline.runs.plan import Plan, Probe
from pipeline.runs.verify import Verification
from pipeline.store.runs import DERIVED, Counts, RunSummary, word

COUNTS: dict[str, Any] = {
    "listed": 100,
    "excluded": 3,
    "done": 40,
    "failed_before": 32,
    "failed_before_by_code": {"truncated": 2, "denied": 30},
    "new": 20,
    "changed": 5,
    "retried": 3,
    "labelled": 24,
    "failed": 4,
    "errors": {"empty": 1, "denied": 3},
    "gone": 6,
    "deleted": 2,
}
SPEC = {"src": "photos of mine", "dst": "labels", "include": ["*.jpg"], "limit": 9}
WORDS = {word(name) for name in Counts.model_fields} | set(DERIVED)


def summary(**fields: Any) -> RunSummary:
    given: dict[str, Any] = {
        "run_id": "run",
        "started": datetime(2026, 1, 2, tzinfo=UTC),
        "recipe": "r1",
        "scope": {},
        "spec": SPEC,
        "status": "complete",
        "counts": Counts(**COUNTS),
        "seconds": {"start": 2.0, "load": 4.0, "label": 8.0, "all": 9.0},
        "images_per_second": 7.0,
    }
    return RunSummary.model_validate(given | fields)


def table(text: str) -> dict[str, str]:
    rows = [re.split(r" {2,}", line.strip(), maxsplit=1) for line in text.splitlines()]
    return {row[0]: row[1] for row in rows if len(row) == 2}


def test_a_summary_names_its_numbers_as_documented(capsys: pytest.CaptureFixture[str]) -> None:
    say_summary(summary())
    said = table(capsys.readouterr().out)
    assert said.pop("speed") == "7.0 img/s"
    assert set(said) <= WORDS
    assert said["failed before"] == "32 (denied 30, truncated 2)"
    assert said["failed"] == "4 (denied 3, empty 1)"
    assert (said["done"], said["labelled"], said["remaining"]) == ("40", "24", "0")
    assert (said["excluded"], said["gone"], said["deleted"]) == ("3", "6", "2")


def test_what_gpus_did_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def said(**seconds: float) -> str:
        say_summary(summary(device_seconds=seconds))
        return table(capsys.readouterr().out)["GPUs"]

    busy = "worked 87% of the time, waited for images 9%, copied 3%, made rows 1%"
    assert said(works=870.0, waits=90.0, copies=30.0, rows=10.0) == busy
    advice = "; more cores that decode would help"
    assert said(works=50.0, waits=50.0).endswith(f"made rows 0%{advice}")
    assert not said(works=5.0, waits=5.0).endswith(advice)  # its first images, perhaps


def test_plan_and_verify_and_runs_use_the_same_words(capsys: pytest.CaptureFixture[str]) -> None:
    probe = Probe(
        images=16,
        read_and_decode_seconds=0.1,
        predict_seconds=0.1,
        device="cpu",
        images_per_second=10.0,
        start_seconds=5.0,
        expected_seconds=7.8,
    )
    ends = {"src": "a", "dst": "b", "recipe": "r1"}
    say_plan(Plan(**ends, refused=None, counts=Counts(**COUNTS), probe=probe))
    planned = table(capsys.readouterr().out)
    assert set(planned) - {"recipe", "speed here", "time here"} <= WORDS
    assert planned["to label"] == "28 (20 new, 5 changed, 3 retried)"
    assert planned["time here"] == "7.8s, including 5.0s to start Ray and load the model"
    found = {"rows": 72, "doubled": 0, "missing": 0, "newer": 1, "unmerged_parts": 0}
    say_verification(
        Verification(
            **found, recipe="r1", version=1, counts=Counts(**COUNTS), sample=None, problems=[]
        )
    )
    verified = table(capsys.readouterr().out)
    assert set(verified) - {"rows", "rows twice"} <= WORDS
    assert verified["failed before"] == "32 (denied 30, truncated 2)"
    assert set(COLUMNS) - {"run", "started", "took", "exit", "status"} <= WORDS


def test_the_next_command(capsys: pytest.CaptureFixture[str]) -> None:
    clean = Counts(listed=9, done=9)

    def next_of(one: RunSummary) -> list[str]:
        say_next(one)
        said = capsys.readouterr().out
        assert table(said)["labels"] == "labels"
        assert table(said)["read them"] == "labels/recipe=r1/*.parquet"
        return re.findall(r"next +(.*)", said)

    verify = "nightlabel verify 'photos of mine' labels '--include=*.jpg' --limit=9"
    assert next_of(summary(counts=clean)) == [verify]
    assert next_of(summary()) == ["nightlabel errors labels", verify]
    assert next_of(summary(status="gate")) == ["nightlabel errors labels"]
    assert next_of(summary(status="incomplete", counts=clean)) == ["nightlabel runs labels"]


def test_the_rate_is_that_of_the_labelling_part() -> None:
    assert summary().rate() == 7.0
    without = summary(seconds={"start": 1.0, "label": 8.0})
    assert without.rate() == 4.0
    for seconds in ({}, {"start": 2.0, "label": 2.5}, {"check": 1.0, "all": 3.0}):
        assert summary(seconds=seconds).rate() is None


def test_summaries_of_older_versions_load() -> None:
    stored = summary().model_dump(mode="json")
    del stored["images_per_second"], stored["counts"]["failed_before_by_code"]
    del stored["device_seconds"]
    old = RunSummary.model_validate(stored)
    assert (old.images_per_second, old.counts.failed_before_by_code) == (None, {})


def test_rows_of_a_plan_stand_where_they_stand_every_night(
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = set()
    for counts in (Counts(**COUNTS), Counts(**COUNTS, unreadable=3, left_out={"._*": 1_000})):
        say_plan(Plan(src="a", dst="b", recipe="r1", refused=None, counts=counts, probe=None))
        rows = capsys.readouterr().out.splitlines()[1:]
        places |= {len(line) - len(re.split(r"(?<=\S) {2,}", line, maxsplit=1)[1]) for line in rows}
    assert places == {23}
