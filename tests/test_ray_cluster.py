"""ray-cluster.yaml by Ray's own validator, and by the keys that a reader relies on."""

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
SIZES = {"CPU", "GPU"}
#: What AWS is asked for. `RunInstances` has far more; these are the ones that we mean.
NODE_KEYS = {"InstanceType", "ImageId", "IamInstanceProfile", "InstanceMarketOptions"}


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "ray-cluster.yaml").read_text())


@pytest.fixture(scope="module")
def kinds(cluster: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return cluster["available_node_types"]


def is_spot(kind: dict[str, Any]) -> bool:
    return kind["node_config"].get("InstanceMarketOptions") == {"MarketType": "spot"}


def test_ray_accepts_it(cluster: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(cluster))


def test_ray_does_not_accept_a_key_that_it_does_not_know(cluster: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    wrong = yaml.safe_load(yaml.safe_dump(cluster))
    wrong["available_node_types"]["decode"]["max_worker"] = 6
    with pytest.raises(Exception, match="max_worker"):
        validate_config(prepare_config(wrong))


def test_the_kinds_are_these(kinds: dict[str, dict[str, Any]]) -> None:
    assert list(kinds) == ["head", "decode", "decode-spot", "predict", "predict-spot"]
    for name, kind in kinds.items():
        assert kind["resources"].keys() <= SIZES, name
        assert kind["node_config"].keys() <= NODE_KEYS, name


def test_the_head_runs_no_tasks(cluster: dict[str, Any]) -> None:
    head = cluster["available_node_types"][cluster["head_node_type"]]
    assert head["resources"] == {"CPU": 0, "GPU": 0}


@pytest.mark.parametrize("name", ["decode", "predict"])
def test_spot_comes_first_and_on_demand_is_its_fallback(
    kinds: dict[str, dict[str, Any]], name: str
) -> None:
    spot, fallback = kinds[f"{name}-spot"], kinds[name]
    assert is_spot(spot)
    assert not is_spot(fallback)
    assert not is_spot(kinds["head"])
    assert spot["resources"] == fallback["resources"]
    assert spot["node_config"] == fallback["node_config"] | {
        "InstanceMarketOptions": {"MarketType": "spot"}
    }
    assert spot["priority"] > fallback.get("priority", 0)
    assert spot["labels"] == {"market": "spot"}
    assert fallback["labels"] == {"market": "on-demand"}


def held(kinds: dict[str, dict[str, Any]], names: list[str]) -> dict[str, float]:
    """What Ray counts where each of these kinds has its least nodes; a head is one, and so is a
    GPU node that a run has asked for."""
    total: dict[str, float] = {}
    for name in names:
        for resource, number in kinds[name]["resources"].items():
            nodes = max(1, kinds[name].get("min_workers", 1))
            total[resource] = total.get(resource, 0) + number * nodes
    return total


def test_the_nodes_hold_the_graph(kinds: dict[str, dict[str, Any]]) -> None:
    from pipeline.engine.placement import place

    placement = place(held(kinds, list(kinds)), None)
    assert placement.predictors == (2, 2)
    assert placement.predictor_gpus == 1.0


def test_a_night_needs_no_spot(kinds: dict[str, dict[str, Any]]) -> None:
    from pipeline.engine.placement import place

    reliable = [name for name, kind in kinds.items() if not is_spot(kind)]
    assert place(held(kinds, reliable), None).predictors == (1, 1)


def test_what_stays_is_no_more_than_what_may_be(cluster: dict[str, Any]) -> None:
    kinds = cluster["available_node_types"]
    workers = [kind for name, kind in kinds.items() if name != cluster["head_node_type"]]
    assert all(kind["min_workers"] <= kind["max_workers"] for kind in workers)
    assert sum(kind["min_workers"] for kind in workers) <= cluster["max_workers"]
    assert cluster["idle_timeout_minutes"] > 0
    assert cluster["provider"]["cache_stopped_nodes"] is False


def test_the_autoscaler_turns_to_the_fallback_as_the_file_says(cluster: dict[str, Any]) -> None:
    """Ray hears of nodes that never came up, and of none that was refused; else say so there."""
    from ray.autoscaler.v2.instance_manager.subscribers.cloud_resource_monitor import (
        CloudResourceMonitor,
    )
    from ray.core.generated.instance_manager_pb2 import Instance, InstanceUpdateEvent

    monitor = CloudResourceMonitor()

    def availability(status: Any) -> float:
        event = InstanceUpdateEvent(new_instance_status=status, instance_type="decode-spot")
        monitor.notify([event])
        return monitor.get_recoverable_resource_availabilities().get("decode-spot", 1.0)

    assert availability(Instance.ALLOCATION_FAILED) == 1.0
    assert availability(Instance.ALLOCATION_TIMEOUT) == 0.0
