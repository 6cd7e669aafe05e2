"""The DAG in a real Airflow, which labels for real."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from pipeline.storage import Folder
from pipeline.store.lease import Lease
from tests.orchestrators.conftest import JOBS, NIGHTLABEL, Archive, Tool, jobs, tool, until
from tests.parts.clusters.cluster import LocalCluster
from tests.parts.models.tiny import archive

DAG = JOBS / "airflow" / "nightlabel_dag.py"

#: Runs with Airflow's Python: the pure part of the DAG.
PURE = """
import json
import nightlabel_dag as ours

def end(code):
    try:
        ours.counts_of(code, {"error": "BusyError", "message": "because"})
    except Exception as error:
        return [type(error).__name__, str(error)]

params = {"src": "s3://a", "dst": "s3://b", "address": "http://head:8265", "options": ["--top-k=1"]}
job = {"job": "j", "status": "SUCCEEDED", "exit_code": 0, "summary": {"counts": {"listed": 1}}}
print(json.dumps({
    "command": ours.command(params, "20260131T220000"),
    "ends": {code: end(code) for code in (1, 2, 3, 4, 5, 130, 137, 143)},
    "counts": [ours.counts_of(0, job), ours.counts_of(0, {**job, "summary": None})],
}))
"""


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Tool:
    made = tool(
        "airflow",
        AIRFLOW_HOME=tmp_path_factory.mktemp("airflow"),
        AIRFLOW__CORE__DAGS_FOLDER=DAG.parent,
        AIRFLOW__CORE__LOAD_EXAMPLES=False,
    )
    made.run("airflow", "db", "migrate")
    return made


def command(params: dict[str, Any], *date: str) -> list[str]:
    return ["airflow", "dags", "test", "nightlabel", *date, "--conf", json.dumps(params)]


def night(airflow: Tool, params: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """How a run of the DAG stands when it is over, and its log."""
    log = airflow.run(*command(params))
    return states(airflow), log


def states(airflow: Tool) -> dict[str, Any]:
    told: dict[str, Any] = airflow.json(Path(__file__).with_name("airflow_states.py"))
    return told


def test_a_whole_night_succeeds(airflow: Tool, photos: Archive, tiny_model: Path) -> None:
    photos.put({"broken.jpg": b"no image"})
    told, log = night(airflow, photos.params(tiny_model))
    assert (told["run"], told["task"]) == ("success", "success"), log
    assert told["returned"]["listed"] == 13
    assert told["returned"]["labelled"] == 12
    assert told["returned"]["errors"] == {"not_an_image": 1}
    assert photos.codes() == {None: 12, "not_an_image": 1}
    assert "starting" in log  # progress


def test_a_night_that_is_over_is_skipped(airflow: Tool, photos: Archive, tiny_model: Path) -> None:
    told, log = night(airflow, photos.params(tiny_model, "--max-images", 4))
    assert told == {"run": "success", "task": "skipped", "returned": None}, log
    assert "exit 4: 8 objects are left for the next run" in log
    assert photos.codes() == {None: 4}


def test_a_deadline_ends_the_night_with_what_is_done(
    airflow: Tool, photos: Archive, slow_model: Path
) -> None:
    photos.put(archive(8000))
    told, log = night(airflow, photos.params(slow_model, "--deadline", "60s"))
    assert told == {"run": "success", "task": "skipped", "returned": None}, log
    assert "exit 4: the deadline was reached" in log
    assert 0 < photos.codes()[None] == photos.last_run().counts.labelled < 8000


def test_the_gate_fails_and_is_not_tried_again(
    airflow: Tool, photos: Archive, tiny_model: Path
) -> None:
    photos.put({"broken.jpg": b"no image"})
    told, log = night(airflow, photos.params(tiny_model, "--max-errors", 0))
    assert told == {"run": "failed", "task": "failed", "returned": None}, log
    assert "exit 3: 1 errors, over the 0 allowed" in log
    assert photos.codes()["not_an_image"] == 1


def test_bad_usage_fails_and_is_not_tried_again(
    airflow: Tool, photos: Archive, tiny_model: Path
) -> None:
    told, log = night(airflow, photos.params(tiny_model, "--top-k", 0))
    assert told == {"run": "failed", "task": "failed", "returned": None}, log
    assert "exit 2: top_k" in log


def test_a_busy_store_is_tried_again(airflow: Tool, photos: Archive, tiny_model: Path) -> None:
    with (
        Lease(Folder(str(photos.dst)), "another"),
        airflow.start(*command(photos.params(tiny_model))) as process,
    ):
        log = until("No tasks to run", process)
    assert states(airflow) == {"run": "running", "task": "up_for_retry", "returned": None}
    assert "exit 5: " in log
    assert photos.rows() == 0


def test_a_task_that_is_killed_commits_first(
    airflow: Tool, photos: Archive, slow_model: Path
) -> None:
    photos.put(archive(2000))
    with airflow.start(*command(photos.params(slow_model, "--commit-seconds", 2))) as process:
        photos.wait_for_rows()
        process.send_signal(signal.SIGTERM)
        log, _ = process.communicate(timeout=60)
    told = states(airflow)
    assert told == {"run": "failed", "task": "failed", "returned": None}, log
    assert "exit 143: terminated" in log
    assert photos.codes() == {None: photos.last_run().counts.labelled}
    assert photos.rows() < 2000


def test_what_is_run_on_a_cluster_and_what_each_end_means(airflow: Tool) -> None:
    told = airflow.json("-c", PURE, cwd=DAG.parent)
    assert told["command"] == [
        *(NIGHTLABEL, "submit", "--address", "http://head:8265", "--night", "20260131T220000"),
        *("--json", "--top-k=1", "--", "s3://a", "s3://b"),
    ]
    assert {code: end[0] for code, end in told["ends"].items()} == {
        "1": "AirflowException",
        "2": "AirflowFailException",
        "3": "AirflowFailException",
        "4": "AirflowSkipException",
        "5": "AirflowException",
        "130": "AirflowFailException",
        "137": "AirflowException",
        "143": "AirflowFailException",
    }
    assert told["ends"]["5"][1] == "nightlabel: exit 5: because"
    assert told["counts"] == [{"listed": 1}, {}]


def test_a_night_on_a_cluster_ends_as_its_job_does(
    airflow: Tool, photos: Archive, tiny_model: Path, cluster: LocalCluster
) -> None:
    def on_cluster(*options: object) -> tuple[dict[str, Any], str]:
        return night(airflow, photos.params(tiny_model, *options, address=cluster.url))

    told, log = on_cluster("--max-images", 4)
    assert told == {"run": "success", "task": "skipped", "returned": None}, log
    assert "exit 4: 8 objects are left for the next run" in log

    told, log = on_cluster()
    assert (told["run"], told["task"]) == ("success", "success"), log
    assert told["returned"]["labelled"] == 8
    assert "starting" in log  # the job's progress

    photos.put({"broken.jpg": b"no image"})
    told, log = on_cluster("--max-errors", 0)
    assert told == {"run": "failed", "task": "failed", "returned": None}, log
    assert "exit 3: 1 errors, over the 0 allowed" in log
    assert photos.codes() == {None: 12, "not_an_image": 1}
    assert sorted(job["exit_code"] for job in jobs(cluster, photos)) == [0, 3, 4]


def test_a_killed_task_leaves_its_job_alone_and_the_next_try_finds_it(
    airflow: Tool, photos: Archive, slow_model: Path, cluster: LocalCluster
) -> None:
    photos.put(archive(600))
    params = photos.params(slow_model, "--commit-seconds", 1, address=cluster.url)
    once = command(params, "2026-01-31T22:00:00+00:00")
    with airflow.start(*once) as process:
        photos.wait_for_rows()
        process.send_signal(signal.SIGTERM)
        log, _ = process.communicate(timeout=60)
    assert states(airflow)["task"] == "failed", log
    [job] = jobs(cluster, photos)
    assert job["status"] == "RUNNING"
    log = airflow.run(*once)
    told = states(airflow)
    assert (told["run"], told["task"]) == ("success", "success"), log
    assert [found["job"] for found in jobs(cluster, photos)] == [job["job"]]
    assert photos.codes() == {None: told["returned"]["labelled"]} == {None: 600}
