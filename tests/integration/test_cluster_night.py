"""A night on a cluster as its people see it: placed, watched, hurt, and proved."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.util.state import list_actors, list_tasks
from ray.util.state.common import ActorState

from pipeline.graph.progress import STAGES
from tests.integration.conftest import Archive, command, nightlabel, uris_of
from tests.parts.clusters.cluster import LocalCluster, local_cluster
from tests.parts.clusters.metrics import Prometheus, scraping
from tests.parts.models.tiny import archive, make_model
from tests.parts.servers.s3 import S3Process

pytestmark = [pytest.mark.s3, pytest.mark.ray]

#: More than decoders may be ahead of predictors: some are still to decode when the first are
#: labelled.
IMAGES = 6000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Takes some 7 ms an image."""
    return make_model(tmp_path_factory.mktemp("model"), layers=8, width=384)


@pytest.fixture(scope="module")
def cluster(s3: S3Process) -> Iterator[LocalCluster]:
    with local_cluster() as found:
        yield found


def test_a_run_waits_for_nodes_that_are_to_come(
    cluster: LocalCluster, tiny_model: Path, s3: S3Process
) -> None:
    found = Archive(s3, archive(60))
    ends = ["label", found.src, found.dst, "--model", tiny_model, "--address", cluster.address]
    refused = nightlabel(*ends, "--wait-for-nodes", 2)
    assert refused.code == 1
    assert "the cluster has no CPU" in refused.err
    with subprocess.Popen(
        command(*ends, "--wait-for-nodes", 120), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert any(STAGES["waiting"] in line for line in process.stderr)
        time.sleep(5)
        assert process.poll() is None
        node = cluster.add(num_cpus=2)
        process.stderr.read()
    assert process.returncode == 0
    assert uris_of(found.delta()) == found.uris()
    found.put({"more.jpg": next(iter(archive(61).values()))})
    lacking = nightlabel(*ends, "--wait-for-nodes", 2, "--gpus-per-predictor", 1)
    assert lacking.code == 1
    assert "the cluster has no GPU" in lacking.err
    cluster.lose(node)


@pytest.mark.slow
def test_predictors_come_with_their_nodes(
    cluster: LocalCluster, model: Path, s3: S3Process
) -> None:
    nodes = [cluster.add(num_cpus=2), cluster.add(num_cpus=0, num_gpus=1)]
    found = Archive(s3, archive(IMAGES))
    ends = ["label", found.src, found.dst, "--model", model, "--address", cluster.address]
    with subprocess.Popen(
        command(*ends, "--predictors", "1:3", "--commit-seconds", 1, "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        _wait_for_rows(found)
        nodes.append(cluster.add(num_cpus=0, num_gpus=2))
        out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    assert json.loads(out)["hardware"]["predictors"] == [1, 3]
    assert uris_of(found.delta()) == found.uris()
    places = [actor.node_id for actor in _predictors(cluster)]
    assert sorted(places) == sorted([nodes[1].node_id, *[nodes[2].node_id] * 2])
    for node in nodes:
        cluster.lose(node)


@pytest.mark.slow
def test_a_night_that_loses_a_node(
    cluster: LocalCluster, model: Path, s3: S3Process, tmp_path: Path
) -> None:
    decoding, predicting = cluster.add(num_cpus=2), cluster.add(num_cpus=2, num_gpus=2)
    found = Archive(s3, archive(IMAGES))
    ends = [found.src, found.dst, "--model", model]
    log = tmp_path / "night.jsonl"
    with scraping(cluster, tmp_path) as prometheus:
        options = ["--commit-seconds", 1, "--events", log, "--json"]
        follower = subprocess.Popen(
            command("submit", *ends, "--address", cluster.url, *options),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        with follower:
            _wait_for_rows(found)
            cluster.lose(decoding)
            other = cluster.add(num_cpus=2)
            out, err = follower.communicate(timeout=400)
        assert follower.returncode == 0, err
        told = json.loads(out)
        assert told["summary"]["hardware"]["reserved_nodes"] == 1
        assert told["summary"]["counts"]["labelled"] == IMAGES

        assert uris_of(found.delta()) == uris_of(found.plain()) == found.uris()
        proof = nightlabel("verify", *ends, "--json")
        assert proof.code == 0, proof.out

        images = f'sum(ray_nightlabel_images_total{{dst="{found.dst}"}})'
        assert prometheus.comes_to(images, IMAGES) == found.delta().num_rows
        _look_at_the_others(prometheus, found.dst)

    _look_at_places(cluster, predicting.node_id, other.node_id)
    _look_at_events(log)


def _wait_for_rows(found: Archive) -> None:
    until = time.monotonic() + 120
    while not 0 < found.delta().num_rows < IMAGES:
        assert time.monotonic() < until
        time.sleep(0.1)


def _look_at_the_others(prometheus: Prometheus, dst: str) -> None:
    tag = f'{{dst="{dst}"}}'
    assert prometheus.comes_to(f"sum(ray_nightlabel_commits_total{tag})", 2) >= 2
    assert prometheus.comes_to(f"sum(ray_nightlabel_read_bytes_total{tag})", 1) > 1
    stages = f'sum(ray_nightlabel_stage_seconds_total{{dst="{dst}", stage="%s"}})'
    for stage in ("read", "decode", "predict", "write"):
        assert prometheus.comes_to(stages % stage, 1e-3) >= 1e-3, stage
    listed = f"max_over_time(max(ray_nightlabel_listed{tag})[5m:1s])"
    assert prometheus.comes_to(listed, IMAGES) == IMAGES


def _look_at_places(cluster: LocalCluster, predicting: str, came_later: str) -> None:
    """By Ray's own account: what decodes, lists and writes keeps off the node that predicts."""
    tasks = list_tasks(address=cluster.url, limit=10_000, raise_on_missing_output=False)
    latest = max(task.job_id for task in tasks)
    where: dict[str, set[str]] = {}
    for task in tasks:
        if task.job_id == latest and task.type == "NORMAL_TASK" and task.node_id:
            where.setdefault(task.name, set()).add(task.node_id)
    for stage in ("MapBatches(List)", "MapBatches(Decode)", "_write"):
        [nodes] = [nodes for name, nodes in where.items() if stage in name]
        assert predicting not in nodes, stage
    assert came_later in next(nodes for name, nodes in where.items() if "Decode" in name)
    places = [actor.node_id for actor in _predictors(cluster)]
    assert len(places) >= 2
    assert set(places) == {predicting}


def _predictors(cluster: LocalCluster) -> list[ActorState]:
    """Those of the latest run that had a node, by Ray's own account."""
    every = list_actors(
        address=cluster.url, filters=[("class_name", "=", "MapWorker(MapBatches(Predict))")]
    )
    latest = max(actor.job_id for actor in every)
    return [actor for actor in every if actor.job_id == latest and actor.node_id]


def _look_at_events(log: Path) -> None:
    events = [json.loads(line) for line in log.read_text().splitlines()]
    kinds = [one["event"] for one in events]
    assert kinds[-1] == "finished"
    assert kinds.count("started") == kinds.count("finished") == 1
    committed = [one for one in events if one["event"] == "committed"]
    assert sum(one["rows"] for one in committed) == committed[-1]["total"] == IMAGES
    assert [one["version"] for one in committed] == sorted({one["version"] for one in committed})
    assert events[-1]["counts"]["labelled"] == IMAGES
    assert events[-1]["exit_code"] == 0
