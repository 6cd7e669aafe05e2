"""What is written of a job: nothing of its task, as long as that is classify."""

import json
from typing import Any

from pipeline.cluster.nights import job_id
from pipeline.engine.memory_budget import budget_here
from pipeline.spec import LabelSpec, make_spec, parse_spec

#: They say nothing of a job that only classifies.
UNTOLD = {"task", "pooling", "vector_dtype", "embed"}


def spec(**fields: Any) -> LabelSpec:
    return make_spec(src="s3://b/photos", dst="s3://b/labels", **fields)


def test_what_is_written_of_a_job_that_classifies_does_not_name_its_task() -> None:
    """Run summaries, shipped jobs and their ids stay what they were before there was another."""
    classify, other = spec(), spec(task="fingerprint")
    for dumped in (classify.model_dump(), json.loads(classify.model_dump_json())):
        assert "task" not in dumped
        assert set(dumped) == set(LabelSpec.model_fields) - UNTOLD
    assert other.model_dump(exclude={"src"})["task"] == "fingerprint"
    for one in (classify, other):
        assert parse_spec(one.model_dump_json()) == one
    assert job_id(classify, "n", 1) != job_id(other, "n", 1)


def test_no_memory_is_kept_for_predictors_that_a_task_does_not_have() -> None:
    kept, free = (budget_here(spec(), 2**30, network=network) for network in (True, False))
    assert free.node == kept.node
    assert (free.large, free.most) > (kept.large, kept.most)
