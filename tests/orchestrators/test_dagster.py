"""The asset in a real Dagster, which labels for real."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from pipeline.storage import Folder
from pipeline.store.lease import Lease
from tests.integration.conftest import nightlabel
from tests.orchestrators.conftest import JOBS, NIGHTLABEL, Archive, Tool, jobs, tool, until
from tests.parts.clusters.cluster import LocalCluster
from tests.parts.models.tiny import archive

ASSETS = JOBS / "dagster" / "nightlabel_assets.py"

#: Runs with Dagster's Python: the pure part, and what the schedule would ask for.
PURE = """
import json
import dagster as dg
import nightlabel_assets as ours

night = ours.Night(src="s3://a", dst="s3://b", address="http://head:8265", options=["--top-k=1"])
with dg.instance_for_test() as instance:
    asked = ours.nightly.evaluate_tick(dg.build_schedule_context(instance)).run_requests
print(json.dumps({"command": ours.command(night, "a-run"), "asked": asked[0].run_config}))
"""


@pytest.fixture
def dagster(tmp_path: Path) -> Tool:
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    return tool("dagster", DAGSTER_HOME=home)


def command(params: dict[str, Any]) -> list[str]:
    config = json.dumps({"ops": {"labels": {"config": params}}})
    asset = ["--select", "labels", "--python-file", str(ASSETS), "--config-json", config]
    return ["dagster", "asset", "materialize", *asset]


def night(dagster: Tool, params: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """What a run came to, and its log."""
    log = dagster.run(*command(params))
    return events(dagster), log


def events(dagster: Tool) -> dict[str, Any]:
    told: dict[str, Any] = dagster.json(Path(__file__).with_name("dagster_events.py"))
    return told


def test_a_whole_night_is_materialised(dagster: Tool, photos: Archive, tiny_model: Path) -> None:
    photos.put({"broken.jpg": b"no image"})
    told, log = night(dagster, photos.params(tiny_model))
    assert (told["run"], told["check"]) == ("SUCCESS", ["complete", True, "WARN"]), log
    run = photos.last_run()
    assert told["metadata"] == {
        "listed": 13,
        "labelled": 12,
        "failed": 1,
        "remaining": 0,
        "errors": {"not_an_image": 1},
        "recipe": run.recipe,
        "run_id": run.run_id,
        "seconds": run.seconds["all"],
    }
    assert photos.codes() == {None: 12, "not_an_image": 1}
    assert "starting" in log  # progress


def test_a_night_that_is_over_warns_of_what_is_left(
    dagster: Tool, photos: Archive, tiny_model: Path
) -> None:
    told, log = night(dagster, photos.params(tiny_model, "--max-images", 4))
    assert (told["run"], told["check"]) == ("SUCCESS", ["complete", False, "WARN"]), log
    assert told["reason"] == "8 objects are left for the next run"
    assert told["metadata"]["remaining"] == 8
    assert photos.codes() == {None: 4}


def test_a_deadline_ends_the_night_with_what_is_done(
    dagster: Tool, photos: Archive, slow_model: Path
) -> None:
    photos.put(archive(8000))
    told, log = night(dagster, photos.params(slow_model, "--deadline", "60s"))
    assert (told["run"], told["check"]) == ("SUCCESS", ["complete", False, "WARN"]), log
    assert told["reason"] == "the deadline was reached"
    assert 0 < photos.codes()[None] == photos.last_run().counts.labelled < 8000
    assert told["metadata"]["remaining"] == 8000 - photos.rows()


def test_the_gate_fails_and_is_not_tried_again(
    dagster: Tool, photos: Archive, tiny_model: Path
) -> None:
    photos.put({"broken.jpg": b"no image"})
    told, log = night(dagster, photos.params(tiny_model, "--max-errors", 0))
    assert (told["run"], told["retries"]) == ("FAILURE", 0), log
    assert told["failure"] == "nightlabel: exit 3: 1 errors, over the 0 allowed"
    assert told["metadata"]["errors"] == {"not_an_image": 1}
    assert photos.codes()["not_an_image"] == 1


def test_bad_usage_fails_and_is_not_tried_again(
    dagster: Tool, photos: Archive, tiny_model: Path
) -> None:
    told, log = night(dagster, photos.params(tiny_model, "--top-k", 0))
    assert (told["run"], told["retries"]) == ("FAILURE", 0), log
    assert told["failure"].startswith("nightlabel: exit 2: top_k")


def test_a_busy_store_is_tried_again(dagster: Tool, photos: Archive, tiny_model: Path) -> None:
    with (
        Lease(Folder(str(photos.dst)), "another"),
        dagster.start(*command(photos.params(tiny_model))) as process,
    ):
        until("STEP_UP_FOR_RETRY", process)
    told = events(dagster)
    assert (told["run"], told["retries"]) == ("STARTED", 1)
    assert "nightlabel: exit 5: " in told["failure"]
    assert photos.rows() == 0


def test_a_run_that_is_stopped_commits_first(
    dagster: Tool, photos: Archive, slow_model: Path
) -> None:
    photos.put(archive(2000))
    with dagster.start(*command(photos.params(slow_model, "--commit-seconds", 2))) as process:
        photos.wait_for_rows()
        process.send_signal(signal.SIGTERM)
        log, _ = process.communicate(timeout=60)
    told = events(dagster)
    assert (told["run"], told["retries"]) == ("FAILURE", 0), log
    assert told["failure"] == "nightlabel: exit 143: terminated"
    assert photos.codes() == {None: photos.last_run().counts.labelled}
    assert photos.rows() < 2000


def test_what_is_run_on_a_cluster_and_every_night(dagster: Tool) -> None:
    told = dagster.json("-c", PURE, cwd=ASSETS.parent)
    assert told["command"] == [
        *(NIGHTLABEL, "submit", "--address", "http://head:8265", "--night", "a-run"),
        *("--json", "--top-k=1", "--", "s3://a", "s3://b"),
    ]
    assert told["asked"]["ops"]["labels"]["config"]["src"] == "s3://bucket/photos"


def test_a_night_on_a_cluster_ends_as_its_job_does(
    dagster: Tool, photos: Archive, tiny_model: Path, cluster: LocalCluster
) -> None:
    def on_cluster(*options: object) -> tuple[dict[str, Any], str]:
        return night(dagster, photos.params(tiny_model, *options, address=cluster.url))

    told, log = on_cluster("--max-images", 4)
    assert (told["run"], told["check"]) == ("SUCCESS", ["complete", False, "WARN"]), log
    assert told["reason"] == "8 objects are left for the next run"

    told, log = on_cluster()
    assert (told["run"], told["check"]) == ("SUCCESS", ["complete", True, "WARN"]), log
    assert told["metadata"]["labelled"] == 8
    assert "starting" in log  # the job's progress

    photos.put({"broken.jpg": b"no image"})
    told, log = on_cluster("--max-errors", 0)
    assert (told["run"], told["retries"]) == ("FAILURE", 0), log
    assert told["failure"] == "nightlabel: exit 3: 1 errors, over the 0 allowed"
    assert told["metadata"]["errors"] == {"not_an_image": 1}
    assert photos.codes() == {None: 12, "not_an_image": 1}
    assert sorted(job["exit_code"] for job in jobs(cluster, photos)) == [0, 3, 4]


def test_a_run_that_is_stopped_leaves_its_job_alone(
    dagster: Tool, photos: Archive, slow_model: Path, cluster: LocalCluster
) -> None:
    photos.put(archive(600))
    params = photos.params(slow_model, "--commit-seconds", 1, address=cluster.url)
    with dagster.start(*command(params)) as process:
        photos.wait_for_rows()
        process.send_signal(signal.SIGTERM)
        log, _ = process.communicate(timeout=60)
    told = events(dagster)
    assert (told["run"], told["retries"]) == ("FAILURE", 0), log
    assert told["failure"].startswith("nightlabel: exit 143")
    [job] = jobs(cluster, photos)
    assert job["status"] == "RUNNING"
    seen = nightlabel("logs", "-f", job["job"], "--address", cluster.url)
    assert seen.code == 0, seen.err
    assert photos.codes() == {None: 600}
