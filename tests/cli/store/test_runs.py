"""The runs of a store as people and programs see them."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli.store.runs import COLUMNS, runs
from pipeline.errors import MissingError
from pipeline.storage import Folder
from pipeline.store.lease import Lease
from pipeline.store.runs import Counts, RunSummary, save_run


def _run(folder: Folder, day: int, **fields: object) -> str:
    at = datetime(2026, 1, day, 2, tzinfo=UTC)
    run_id = f"202601{day:02}T020000Z-0000000{day}"
    given = {"run_id": run_id, "started": at, "recipe": "r", "scope": {}, "spec": {}, **fields}
    save_run(folder, RunSummary.model_validate(given))
    return run_id


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    found = Folder(str(tmp_path / "labels"))
    found.ensure()
    return found


def _lines(folder: Folder, *options: str) -> list[str]:
    return (
        CliRunner()
        .invoke(runs, [folder.uri, *options], catch_exceptions=False)
        .output.split("\n")[:-1]
    )


def test_each_run_is_a_line(folder: Folder) -> None:
    counts = Counts(listed=1500, new=1500, labelled=1234, failed=5, errors={"empty": 5})
    ended = datetime(2026, 1, 1, 3, tzinfo=UTC)
    _run(folder, 1, status="complete", finished=ended, counts=counts, seconds={"all": 250.0})
    _run(folder, 2, status="gate", exit_code=3, finished=ended, reason="5 errors")
    head, first, second = _lines(folder)
    assert head.split() == [*COLUMNS]
    assert first.split()[3:] == ["4m10s", "1,234", "5", "261", "0", "complete"]
    assert second.endswith("3     gate: 5 errors")


def test_a_run_without_an_end_has_died_or_goes_on(folder: Folder) -> None:
    _run(folder, 1)
    now = _run(folder, 2)
    with Lease(folder, now):
        assert [line.split()[-1] for line in _lines(folder)[1:]] == ["died", "running"]
    told = json.loads("\n".join(_lines(folder, "--json")))
    assert [run["status"] for run in told] == ["died", "died"]


def test_the_newest_are_last_and_enough(folder: Folder) -> None:
    for day in range(1, 6):
        _run(folder, day)
    told = json.loads("\n".join(_lines(folder, "--json", "--last", "2")))
    assert [run["started"][:10] for run in told] == ["2026-01-04", "2026-01-05"]
    assert len(_lines(folder, "--last", "0")) == 6


def test_one_run_is_shown_with_what_its_gpus_did(folder: Folder) -> None:
    ended = datetime(2026, 1, 1, 3, tzinfo=UTC)
    seconds = {"works": 80.0, "waits": 16.0, "copies": 3.0, "rows": 1.0}
    run = _run(folder, 1, status="complete", finished=ended, device_seconds=seconds)
    other = _run(folder, 2)
    said = {line.split("  ")[1]: line for line in _lines(folder, "--run", run)[1:]}
    assert said["GPUs"].endswith(
        "  worked 80% of the time, waited for images 16%, copied 3%, made rows 1%; "
        "more cores that decode would help"
    )
    assert (
        json.loads("\n".join(_lines(folder, "--run", run, "--json")))["device_seconds"] == seconds
    )
    assert "died" in _lines(folder, "--run", other)[0]
    assert not any("GPUs" in line for line in _lines(folder, "--run", other))
    with pytest.raises(MissingError, match="has no run 2026"):
        _lines(folder, "--run", "2026")


def test_no_runs_are_told(folder: Folder) -> None:
    with pytest.raises(MissingError, match="has no runs"):
        _lines(folder)
