"""What a run asks an autoscaler for while the cluster is too small."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.graph.job import Job
from pipeline.graph.scaling import _least
from pipeline.spec import make_spec
from pipeline.tasks import task_named

pytestmark = pytest.mark.ray


def asked(task: str = "classify", **fields: Any) -> list[dict[str, float]]:
    spec = make_spec(src="a", dst="b", task=task, **fields)
    return _least(cast("Job", SimpleNamespace(spec=spec, task=task_named(task))))


def test_a_predictor_without_a_gpu_asks_for_a_core_on_which_it_decodes_too() -> None:
    assert asked() == [{"CPU": 1.0}]
    assert asked(predictors="3:8") == [{"CPU": 1.0}] * 3


def test_predictors_on_gpus_ask_for_a_core_to_decode_on_beside() -> None:
    wanted = asked(predictors="2", gpus_per_predictor=0.5)
    assert wanted == [{"CPU": 1.0}, {"GPU": 0.5}, {"GPU": 0.5}]


def test_a_task_without_a_network_asks_for_a_core() -> None:
    assert asked("fingerprint") == [{"CPU": 1.0}]
