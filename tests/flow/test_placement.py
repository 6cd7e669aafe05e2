"""From resources to the graph's numbers."""

import pytest

from pipeline.errors import PlacementError
from pipeline.flow.placement import DECODE_SHARE, IO_SHARE, io_tasks, local_slots, place


@pytest.mark.parametrize(
    ("cores", "predictors", "decode"), [(1, 1, 1), (2, 2, 1), (4, 4, 2), (8, 8, 4), (64, 64, 32)]
)
def test_a_machine_without_gpus_predicts_on_every_core(
    cores: int, predictors: int, decode: int
) -> None:
    placement = place({"CPU": local_slots(cores)}, None)
    assert placement.predictors == (predictors, predictors)
    assert placement.decode_slots == decode
    assert placement.predictor_cpus < 1  # else Ray fuses it with decoding
    needed = predictors * placement.predictor_cpus + placement.decode_slots
    assert needed <= local_slots(cores)


def test_every_gpu_gets_a_predictor_that_takes_no_cpu() -> None:
    placement = place({"CPU": 32.0, "GPU": 4.0}, None)
    assert placement.predictors == (4, 4)
    assert (placement.predictor_cpus, placement.predictor_gpus) == (0.0, 1.0)
    assert placement.decode_slots == 32


@pytest.mark.parametrize(("cpus", "tasks"), [(1.0, 2), (3.0, 3), (64.0, 64)])
def test_a_slot_lists_one_shard_at_a_time(cpus: float, tasks: int) -> None:
    assert io_tasks(cpus) == tasks
    assert place({"CPU": cpus, "GPU": 1.0}, None).listers == tasks


@pytest.mark.parametrize("gpus", [0.0, 1.0, 8.0])
@pytest.mark.parametrize("cpus", [2.0, 3.0, 4.0, 48.0, 192.0])
def test_listers_that_wait_leave_every_decoder_and_predictor_its_core(
    cpus: float, gpus: float
) -> None:
    """Else a run stood still: the listers for the decoders, the last decoder for a lister."""
    placement = place({"CPU": cpus, "GPU": gpus}, None)
    owned = placement.predictors[1] * placement.predictor_cpus
    owned += placement.decode_slots * DECODE_SHARE
    assert owned + (placement.listers + 1) * IO_SHARE <= cpus


def test_a_range_is_kept_within_what_there_is() -> None:
    assert place({"CPU": 8, "GPU": 4}, (1, 16)).predictors == (1, 4)
    assert place({"CPU": 6}, (1, 16)).predictors == (1, 5)
    assert place({"CPU": 6}, (2, 2)).decode_slots == 4


@pytest.mark.parametrize(
    ("resources", "wanted", "missing"),
    [
        ({"CPU": 8, "GPU": 2}, (4, 4), "needs 4 GPUs and the cluster has 2"),
        ({"GPU": 2}, None, "no CPU to decode"),
        ({"CPU": 1}, None, "needs 2"),
        ({}, None, "0 CPU slots"),
        ({"CPU": 4}, (4, 4), "ask for 3 at most"),
    ],
)
def test_what_cannot_be_placed_is_refused_with_what_is_missing(
    resources: dict[str, float], wanted: tuple[int, int] | None, missing: str
) -> None:
    with pytest.raises(PlacementError, match=missing):
        place(resources, wanted)


def test_a_cluster_that_has_shrunk_lacks_what_the_graph_needs() -> None:
    on_cpus = place({"CPU": 4}, None)
    assert on_cpus.predictors == (3, 3)
    assert on_cpus.lacking({"CPU": 4}) == ""
    assert on_cpus.lacking({"CPU": 2}) == "3.89 CPUs are needed and 2 are there"
    on_gpus = place({"CPU": 8, "GPU": 2}, None)
    assert on_gpus.lacking({"CPU": 1, "GPU": 2}) == ""
    assert on_gpus.lacking({"CPU": 8, "GPU": 1}) == "2 GPUs are needed and 1 are there"
    assert on_gpus.lacking({}).count("needed") == 2
    assert place({"CPU": 8, "GPU": 4}, (1, 4)).lacking({"CPU": 8, "GPU": 1}) == ""
