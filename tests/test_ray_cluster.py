"""ray-cluster.yaml by Ray's own validator, and by the keys that a reader relies on."""

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "ray-cluster.yaml").read_text())


def test_ray_accepts_it(cluster: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(cluster))


def test_the_head_runs_no_tasks(cluster: dict[str, Any]) -> None:
    head = cluster["available_node_types"][cluster["head_node_type"]]
    assert head["resources"] == {"CPU": 0, "GPU": 0}


def test_the_nodes_hold_the_graph(cluster: dict[str, Any]) -> None:
    from pipeline.flow.placement import place

    total: dict[str, float] = {}
    for kind in cluster["available_node_types"].values():
        for name, number in kind["resources"].items():
            total[name] = total.get(name, 0) + number * kind.get("min_workers", 1)
    placement = place(total, None)
    assert placement.predictors == (1, 1)
    assert placement.predictor_gpus == 1.0
