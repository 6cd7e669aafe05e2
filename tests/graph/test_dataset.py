"""Which stages a graph has, by what the cluster has and what the task needs."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.engine.placement import Placement, place, place_decoders
from pipeline.graph.dataset import Stages, _scaling
from pipeline.graph.job import Job
from pipeline.graph.stages.decode import Decode
from pipeline.graph.stages.label import Label
from pipeline.graph.stages.predict import Predict
from pipeline.tasks import task_named

pytestmark = pytest.mark.ray

ON_CPUS, ON_GPUS = place({"CPU": 4.0}, None), place({"CPU": 4.0, "GPU": 1.0}, None)


def _stages(task: str, placement: Placement) -> tuple[type | None, type | None]:
    job = cast("Job", SimpleNamespace(run_id="run", task=task_named(task)))
    stages = Stages.of(job, placement, [], cast("Any", None))
    return stages.decode and type(stages.decode), stages.predict


def test_without_gpus_one_kind_of_process_decodes_and_predicts() -> None:
    assert _stages("classify", ON_CPUS) == (None, Label)


def test_with_gpus_tasks_decode_and_actors_predict() -> None:
    assert _stages("classify", ON_GPUS) == (Decode, Predict)


def test_a_task_without_a_network_has_decoders_alone() -> None:
    assert _stages("fingerprint", place_decoders({"CPU": 4.0, "GPU": 1.0})) == (Decode, None)


def test_another_predictor_of_a_range_can_start() -> None:
    """Ray Data starts one at this share of the calls that run at once: more than may ever be in
    flight would mean never."""
    for placement, calls in ((ON_CPUS, 2), (ON_GPUS, 1)):
        most = placement.in_flight / calls
        assert _scaling(placement).actor_pool_util_upscaling_threshold <= most
