"""A run's end is told whichever it is, once, and who is told can harm no run."""

import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import BusyError, NightlabelError, SpecError, Terminated
from pipeline.events.kinds import KINDS
from pipeline.graph.progress import Progress
from pipeline.runs.reporting import reporting
from pipeline.spec import LabelSpec, make_spec
from pipeline.store.runs import Counts, RunSummary
from tests.events.test_webhook import hook

RUN = "20260131T020000Z-00000000"


def spec_of(folder: Path, **more: Any) -> LabelSpec:
    return make_spec(src="s3://me:pw@b/photos", dst=f"{folder}/labels", **more)


def events(path: Path) -> list[dict[str, Any]]:
    """Each as its own kind reads it."""
    kinds = {kind.model_fields["event"].default: kind for kind in KINDS}
    found = [json.loads(line) for line in path.read_bytes().splitlines()]
    for one in found:
        kinds[one["event"]].model_validate(one)
    return found


def summary(**fields: Any) -> RunSummary:
    counts = Counts(listed=5, new=5, labelled=3, failed=2, errors={"empty": 2})
    now = datetime.now(UTC)
    return RunSummary(
        run_id=RUN, started=now, recipe="r1", scope={}, spec={}, counts=counts, **fields
    )


def test_a_gate_is_told_before_the_end(tmp_path: Path) -> None:
    log = tmp_path / "night.jsonl"
    with (
        hook(200) as receiver,
        reporting(spec_of(tmp_path, events=str(log), notify=receiver.url), RUN) as reporter,
    ):
        reporter.finished(
            summary(status="gate", exit_code=3, reason="2 errors, over the 1 allowed")
        )
    gate, end = events(log)
    assert (gate["event"], gate["errors"]) == ("gate", 2)
    assert (end["event"], end["status"], end["exit_code"]) == ("finished", "gate", 3)
    assert (end["counts"]["labelled"], end["errors"]) == (3, {"empty": 2})
    assert (end["src"], end["dst"]) == ("s3://b/photos", f"{tmp_path}/labels")
    [(_, body)] = receiver.posted
    assert json.loads(body) == end
    assert end["text"].endswith("gate (2 errors, over the 1 allowed), 3 labelled, 2 failed")


@pytest.mark.parametrize(
    ("error", "status", "code", "reason"),
    [
        (BusyError("run x holds it"), "busy", 5, "run x holds it"),
        (NightlabelError("see https://h/x?sig=c4n4ry"), "failed", 1, "see https://h/x?…"),
        (Terminated(), "interrupted", 143, "Terminated"),
        (KeyboardInterrupt(), "interrupted", 130, "KeyboardInterrupt"),
        (ZeroDivisionError("c4n4ry"), "failed", 1, "ZeroDivisionError"),
    ],
)
def test_an_end_without_a_summary(
    tmp_path: Path, error: BaseException, status: str, code: int, reason: str
) -> None:
    log = tmp_path / "night.jsonl"
    with pytest.raises(type(error)), reporting(spec_of(tmp_path, events=str(log)), RUN):
        raise error
    [end] = events(log)
    assert (end["status"], end["exit_code"], end["reason"]) == (status, code, reason)
    assert "c4n4ry" not in log.read_text()


def test_an_end_is_told_once(tmp_path: Path) -> None:
    log = tmp_path / "night.jsonl"
    with reporting(spec_of(tmp_path, events=str(log)), RUN) as reporter:
        reporter.finished(summary(status="failed", exit_code=1, reason="the store is away"))
        reporter.failed(NightlabelError("the store is away"))
    assert [one["reason"] for one in events(log)] == ["the store is away"]


def test_progress_is_told_now_and_then_and_where_a_stage_begins(tmp_path: Path) -> None:
    log = tmp_path / "night.jsonl"
    with reporting(spec_of(tmp_path, events=str(log)), RUN) as reporter:
        reporter.progress(Progress("listing"))
        for listed in range(100):
            reporter.progress(Progress("labelling", listed=listed))
        reporter.progress(Progress("merging"))
    told = [(one.get("stage"), one["listed"]) for one in events(log)]
    assert told == [("listing", 0), ("labelling", 0), ("merging", 99)]


def test_nobody_there_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spec = spec_of(tmp_path, notify="http://127.0.0.1:9/s3cr3t", events=str(tmp_path / "e.jsonl"))
    with caplog.at_level(logging.WARNING, "nightlabel"), reporting(spec, RUN) as reporter:
        reporter.finished(summary(status="interrupted", exit_code=143))
    [warning] = caplog.messages
    assert warning.startswith("nightlabel: could not notify: 127.0.0.1: ")
    assert "s3cr3t" not in warning


@pytest.mark.parametrize("name", ["jörg/läbels", "my model #1 é 模型", "a\x01b\x1b[1m", "x" * 9000])
def test_names_of_any_letters_are_told(tmp_path: Path, name: str) -> None:
    log = tmp_path / "é" / "night.jsonl"
    spec = make_spec(src=f"s3://b/{name}", dst=f"s3://b/{name}", events=str(log))
    with reporting(spec, RUN) as reporter:
        reporter.finished(summary(status="failed", exit_code=1, reason=f"{name}\udce4"))
    [end] = events(log)
    assert end["dst"] == f"s3://b/{name}"
    assert end["reason"] == f"{name}?"


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1/hook",
        "http://h:99999/hook",
        "http://jörg.invalid/s3cr3t",
        "http://€:s3cr3t@127.0.0.1:9/",
        "http://a..b/s3cr3t",
    ],
)
def test_an_address_that_is_none_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, url: str
) -> None:
    spec = spec_of(tmp_path, notify=url)
    with caplog.at_level(logging.WARNING, "nightlabel"), reporting(spec, RUN) as reporter:
        reporter.finished(summary(status="interrupted", exit_code=143))
    assert "could not notify" in caplog.text
    assert "s3cr3t" not in caplog.text


def test_an_event_log_of_no_possible_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"events=.*contain a NUL"):
        spec_of(tmp_path, events=f"{tmp_path}/a\x00b.jsonl")
