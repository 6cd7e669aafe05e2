"""What a job takes along means the same on another machine."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from pipeline.cluster.shipping import ENTRYPOINT, SPEC, pack, resolved
from pipeline.spec import LabelSpec, deadline_at, make_spec, parse_spec, since_at

NOW = datetime(2026, 1, 31, 22, 30, tzinfo=timezone(timedelta(hours=1)))


def spec(**fields: Any) -> LabelSpec:
    return make_spec(**{"src": "s3://b/in", "dst": "s3://b/out", **fields})


def test_paths_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vit").mkdir()
    found = resolved(spec(src="photos/*.jpg", dst="labels", model="vit"), NOW)
    assert found.src == f"file://{tmp_path}/photos/*.jpg"
    assert found.dst == f"file://{tmp_path}/labels"
    assert found.model == str(tmp_path / "vit")


@pytest.mark.parametrize("events", ["/logs/", "/a.jsonl", "s3://b/events/"])
def test_a_whole_event_log_stays(events: str) -> None:
    assert resolved(spec(events=events), NOW).events == events


def test_an_event_folder_stays_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolved(spec(events="logs/"), NOW).events == f"{tmp_path}/logs/"


def test_the_rest_is_as_it_was() -> None:
    given = spec(model="google/vit-base-patch16-224", top_k=3, include=["*.png"])
    assert resolved(given, NOW) == given
    assert resolved(spec(address="http://head:8265"), NOW) == spec()


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine's zone, for a test."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("berlin")
def test_a_clock_time_is_of_the_zone_of_who_submits() -> None:
    found = resolved(spec(deadline="06:30"), NOW)
    assert found.deadline == "2026-02-01T06:30:00+01:00"
    elsewhere = datetime(2026, 1, 31, 21, 31, tzinfo=timezone(timedelta(hours=-8)))
    assert deadline_at(found.deadline, elsewhere) == NOW.replace(month=2, day=1, hour=6, minute=30)
    over_the_change = datetime(2026, 3, 28, 22, 30, tzinfo=NOW.tzinfo)
    assert resolved(spec(deadline="06:30"), over_the_change).deadline == "2026-03-29T06:30:00+02:00"


def test_a_duration_begins_with_the_job() -> None:
    assert resolved(spec(deadline="6h"), NOW).deadline == "6h"


def test_modified_since_goes_along_as_a_moment() -> None:
    for text in ("36h", "2026-01-30", "2026-01-30T06:00", "2026-01-30T06:00:00Z"):
        found = resolved(spec(modified_since=text), NOW).modified_since
        assert found is not None
        assert datetime.fromisoformat(found) == since_at(text, NOW)
        assert since_at(found, NOW + timedelta(days=9)) == since_at(text, NOW)
    assert resolved(spec(), NOW).modified_since is None


@pytest.mark.parametrize("with_package", [True, False])
def test_it_is_packed(tmp_path: Path, with_package: bool) -> None:
    pack(spec(top_k=3), tmp_path, NOW, with_package=with_package)
    assert parse_spec((tmp_path / SPEC).read_text()) == spec(top_k=3)
    assert (tmp_path / "pipeline" / "cli" / "job.py").exists() == with_package
    assert not list(tmp_path.rglob("__pycache__"))


def test_the_package_runs_from_where_it_was_packed(tmp_path: Path) -> None:
    pack(spec(), tmp_path, NOW, with_package=True)
    where = "import pipeline, pipeline.cli.job; print(pipeline.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", where],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()).parent == tmp_path / "pipeline"
    assert ENTRYPOINT == "python -m pipeline.cli.job spec.json"
