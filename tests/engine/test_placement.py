"""From resources to the graph's numbers."""

from dataclasses import replace

import pytest

from pipeline.engine.batch_rows import GPU_BATCH_ROWS
from pipeline.engine.placement import (
    IO_SHARE,
    ROWS_AHEAD,
    Node,
    io_tasks,
    place,
    place_decoders,
)
from pipeline.errors import PlacementError


@pytest.mark.parametrize("cores", [1, 2, 4, 64])
def test_without_gpus_every_core_has_a_process_that_predicts_and_decodes(cores: int) -> None:
    placement = place({"CPU": cores}, None)
    assert placement.predictors == (cores, cores)
    assert placement.predictors_decode
    assert (placement.decode_slots, placement.decoder_cpus) == (0, 0.0)
    assert 0.9 < placement.predictor_cpus < 1


def test_with_gpus_predictors_do_not_decode() -> None:
    assert not place({"CPU": 32.0, "GPU": 4.0}, None).predictors_decode
    assert not place_decoders({"CPU": 32.0}).predictors_decode


def test_every_gpu_gets_a_predictor_that_takes_no_cpu() -> None:
    placement = place({"CPU": 32.0, "GPU": 4.0}, None)
    assert placement.predictors == (4, 4)
    assert (placement.predictor_cpus, placement.predictor_gpus) == (0.0, 1.0)
    assert placement.decode_slots == 32


@pytest.mark.parametrize(("share", "predictors"), [(1.0, 3), (0.5, 6), (1 / 3, 9), (0.4, 6)])
def test_predictors_share_a_gpu_as_far_as_they_fit(share: float, predictors: int) -> None:
    placement = place({"CPU": 8.0, "GPU": 3.0}, None, gpus_each=share)
    assert placement.predictors == (predictors, predictors)
    assert placement.predictor_gpus == share
    with pytest.raises(PlacementError, match="ask for fewer"):
        place({"CPU": 8.0, "GPU": 3.0}, (predictors + 1, predictors + 1), gpus_each=share)


def test_a_share_of_a_gpu_wants_gpus() -> None:
    with pytest.raises(PlacementError, match="has no GPU"):
        place({"CPU": 8.0}, None, gpus_each=1.0)


HEAD, DECODING, PREDICTING = Node("h", 0, 0), Node("d", 32, 0), Node("p", 4, 1)


def test_where_others_decode_nodes_with_gpus_only_predict() -> None:
    cluster = [HEAD, DECODING, PREDICTING, replace(PREDICTING, id="q")]
    placement = place({"CPU": 40.0, "GPU": 2.0}, None, nodes=cluster)
    assert placement.reserved == ("p", "q")
    assert placement.elsewhere == {"label_selector": {"ray.io/node-id": "!in(p,q)"}}
    assert placement.decode_slots == 32
    assert placement.lacking({"CPU": 32.0, "GPU": 2.0}) == ""
    assert placement.lacking({"CPU": 0.0, "GPU": 2.0}) == "0.98 CPUs are needed and 0 are there"


@pytest.mark.parametrize(
    "cluster",
    [
        [HEAD, PREDICTING],
        [Node("d", 3, 0), PREDICTING],
        [DECODING, Node("p", 192, 8)],
        [DECODING, Node("p", 0, 8)],
    ],
)
def test_where_most_cores_are_beside_gpus_all_decode(cluster: list[Node]) -> None:
    cpus = sum(node.cpus for node in cluster)
    placement = place({"CPU": cpus, "GPU": 1.0}, None, nodes=cluster)
    assert (placement.reserved, placement.elsewhere) == ((), {})
    assert placement.decode_slots == cpus


def test_a_process_that_does_both_does_one_after_the_other() -> None:
    assert place({"CPU": 4.0}, None).rate(1000.0, 250.0) == pytest.approx(4 * 200.0)
    assert place({"CPU": 4.0}, (1, 2)).rate(1000.0, 250.0) == pytest.approx(2 * 200.0)


@pytest.mark.parametrize(("wanted", "cores"), [(None, 4), ((1, 1), 1), ((2, 3), 3)])
def test_cores_that_decode(wanted: tuple[int, int] | None, cores: int) -> None:
    assert place({"CPU": 4.0}, wanted).cores == cores
    assert place({"CPU": 8.0, "GPU": 2.0}, wanted and (1, 1)).cores == 8


def test_on_gpus_the_slower_kind_is_the_limit() -> None:
    placement = place({"CPU": 8.0, "GPU": 2.0}, None)
    assert placement.rate(1000.0, 3000.0) == 6000.0
    assert placement.rate(500.0, 3000.0) == 4000.0


@pytest.mark.parametrize(("cpus", "tasks"), [(1.0, 2), (3.0, 3), (64.0, 64)])
def test_a_slot_lists_one_shard_at_a_time(cpus: float, tasks: int) -> None:
    assert io_tasks(cpus) == tasks
    assert place({"CPU": cpus, "GPU": 1.0}, None).listers == tasks


@pytest.mark.parametrize("gpus", [0.0, 1.0, 8.0])
@pytest.mark.parametrize("cpus", [1.0, 2.0, 3.0, 4.0, 48.0, 192.0])
def test_listers_that_wait_leave_every_decoder_and_predictor_its_core(
    cpus: float, gpus: float
) -> None:
    """Else a run stood still: the listers for the decoders, the last decoder for a lister."""
    placement = place({"CPU": cpus, "GPU": gpus}, None)
    owned = placement.predictors[1] * placement.predictor_cpus
    owned += placement.decode_slots * placement.decoder_cpus
    assert owned + (placement.listers + 1) * IO_SHARE <= cpus


@pytest.mark.parametrize(
    ("weights", "cores", "rows"),
    [
        (0, 4.0, 256),
        (9_000_000, 4.0, 128),
        (23_000_000, 4.0, 64),
        (88_000_000, 32.0, 16),
        (88_000_000, 64.0, 32),
        (88_000_000, 1024.0, 256),
        (2**40, 4.0, 16),
    ],
)
def test_on_cpus_a_batch_is_as_much_as_a_model_predicts_soon(
    weights: int, cores: float, rows: int
) -> None:
    on_cpus = place({"CPU": cores}, None)
    small = on_cpus.for_model(weights, None)
    assert small.batch_rows == rows
    assert small.bounds.listed >= 15 * 16  # seconds, of as many batches as there ever are


VIT_TI, VIT_B, VIT_L = 23_000_000, 346_000_000, 1_217_000_000


@pytest.mark.parametrize(
    ("weights", "size", "gpus", "rows"),
    [
        (VIT_B, 224, ("",), 1024),  # an unknown GPU is a fast one
        (VIT_B, 224, ("H200",), 1024),
        (VIT_L, 224, ("H200",), 512),
        (VIT_B, 224, ("L4",), 512),
        (VIT_B, 224, ("L4", "H100"), 1024),  # the fastest would wait
        (VIT_TI, 224, ("L4",), 1024),
        (VIT_TI, 32, ("H200",), 2048),
        (VIT_TI, 224, ("H200",), 1024),  # 147 MiB
        (VIT_B, 384, ("H200",), 512),  # 216 MiB
        (VIT_B, 518, ("H200",), 256),  # 197 MiB
        (0, 224, ("",), 1024),
    ],
)
def test_on_gpus_a_batch_is_as_much_as_a_device_predicts_in_a_moment(
    weights: int, size: int, gpus: tuple[str, ...], rows: int
) -> None:
    nodes = [Node(str(n), 16, 1, gpu=gpu) for n, gpu in enumerate(gpus)]
    placement = place({"CPU": 16.0, "GPU": 1.0}, None, nodes=nodes)
    found = placement.for_model(weights, None, pixels=size * size, nodes=nodes)
    assert found.batch_rows == rows
    assert found == replace(placement, batch_rows=rows)


@pytest.mark.parametrize(("store", "rows"), [(0, 1024), (40, 1024), (10, 512), (4, 256), (1, 256)])
def test_pixels_leave_half_of_an_object_store(store: int, rows: int) -> None:
    """On 16 cores and a GPU there are up to 40 batches."""
    nodes = [Node("h", 0, 0, 2**20), Node("p", 16, 1, store * 2**30)]
    placement = place({"CPU": 16.0, "GPU": 1.0}, None, nodes=nodes)
    found = placement.for_model(VIT_B, None, nodes=nodes)
    assert found.batch_rows == rows
    if store > 1:  # there a batch is one forward pass, and Ray writes to the disk
        taken = 40 * rows * 224 * 224 * 3
        assert not store or taken <= store * 2**29


def test_nodes_that_only_predict_hold_what_is_at_their_predictors() -> None:
    nodes = [Node("d", 32, 0, 40 * 2**30), Node("p", 16, 1, 4 * 2**30)]
    placement = place({"CPU": 48.0, "GPU": 1.0}, None, nodes=nodes)
    assert placement.reserved == ("p",)
    assert placement.for_model(VIT_B, None, nodes=nodes).batch_rows == 1024


@pytest.mark.parametrize("resources", [{"CPU": 4.0}, {"CPU": 4.0, "GPU": 1.0}])
@pytest.mark.parametrize("forward", [4, 48, 300, 1000, 1500])
def test_a_batch_is_a_whole_number_of_forward_passes(
    resources: dict[str, float], forward: int
) -> None:
    placement = place(resources, None)
    for weights in (1, VIT_B, 10**10):
        least = placement.for_model(weights, None).batch_rows
        rows = placement.for_model(weights, forward).batch_rows
        assert rows % forward == 0
        assert least <= rows < least + forward


def test_a_range_is_kept_within_what_there_is() -> None:
    assert place({"CPU": 8, "GPU": 4}, (1, 16)).predictors == (1, 4)
    assert place({"CPU": 6}, (1, 16)).predictors == (1, 6)
    assert place({"CPU": 6}, (2, 2)).predictors == (2, 2)


def test_decoders_and_predictors_have_a_batch_at_hand_and_hold_no_more() -> None:
    bounds = place({"CPU": 16, "GPU": 2}, None).bounds
    assert (bounds.decoding, bounds.decoded) == (32, 36)
    assert bounds.listed * GPU_BATCH_ROWS == ROWS_AHEAD
    assert place({"CPU": 192, "GPU": 8}, None).bounds.listed == 768  # two for each decoder's two


def test_processes_that_do_both_have_a_batch_at_hand_and_hold_no_more() -> None:
    placement = place({"CPU": 16}, None)
    assert (placement.bounds.decoding, placement.bounds.decoded) == (32, 32)
    assert placement.in_flight == 2  # one on the core, and one that is being read
    assert place({"CPU": 16, "GPU": 2}, None).in_flight == 8


def test_the_graph_holds_as_much_as_nodes_that_come_and_go_can_work_on() -> None:
    resources = {"CPU": 4.0, "GPU": 2.0}
    placement = place(resources, (1, 2))
    assert placement.bounds_now(resources) == placement.bounds
    more = placement.bounds_now(resources | {"CPU": 64.0})
    assert more.decoding > 10 * placement.bounds.decoding
    assert placement.bounds_now({}).decoding == 2


def test_predictors_on_gpus_come_with_their_nodes() -> None:
    placement = place({"CPU": 4.0, "GPU": 1.0}, (1, 8), gpus_each=0.5)
    growing = placement.growing((1, 8))
    assert (placement.predictors, placement.most) == ((1, 2), 2)
    assert (growing.predictors, growing.most) == ((1, 2), 8)
    # What is decoded lies in memory: no more than those that are there have use for.
    assert growing.bounds == placement.bounds
    decoded = [growing.bounds_now({"CPU": 4.0, "GPU": gpus}).decoded for gpus in (0, 1, 3, 4, 99)]
    assert decoded == [8 + 2 * predictors for predictors in (1, 2, 6, 8, 8)]
    assert placement.bounds_now({"CPU": 4.0, "GPU": 99.0}) == placement.bounds
    assert growing.lacking({"CPU": 1.0, "GPU": 1.0}) == ""


def test_predictors_on_cpus_come_with_their_nodes() -> None:
    placement = place({"CPU": 4.0}, (1, 8))
    growing = placement.growing((1, 8))
    assert (placement.predictors, placement.most) == ((1, 4), 4)
    assert (growing.predictors, growing.most) == ((1, 4), 8)
    assert growing.bounds == placement.bounds
    decoded = [growing.bounds_now({"CPU": cpus}).decoded for cpus in (0.0, 1.0, 6.0, 99.0)]
    assert decoded == [2 * predictors for predictors in (1, 1, 6, 8)]
    assert growing.lacking({"CPU": 1.0}) == ""
    assert place({"CPU": 4.0}, None).growing(None).most == 4


@pytest.mark.parametrize(
    ("resources", "wanted", "missing"),
    [
        ({"CPU": 8, "GPU": 2}, (4, 4), "needs 4 GPUs and the cluster has 2"),
        ({"GPU": 2}, None, "no CPU to decode"),
        ({}, None, "no CPU: add a node"),
        ({"CPU": 4}, (5, 5), "more than 4 CPUs"),
    ],
)
def test_what_cannot_be_placed_is_refused_with_what_is_missing(
    resources: dict[str, float], wanted: tuple[int, int] | None, missing: str
) -> None:
    with pytest.raises(PlacementError, match=missing):
        place(resources, wanted)


def test_a_cluster_that_has_shrunk_lacks_what_the_graph_needs() -> None:
    on_cpus = place({"CPU": 4}, None)
    assert on_cpus.lacking({"CPU": 4}) == ""
    assert on_cpus.lacking({"CPU": 2}) == "3.92 CPUs are needed and 2 are there"
    on_gpus = place({"CPU": 8, "GPU": 2}, None)
    assert on_gpus.lacking({"CPU": 1, "GPU": 2}) == ""
    assert on_gpus.lacking({"CPU": 8, "GPU": 1}) == "2 GPUs are needed and 1 are there"
    assert on_gpus.lacking({}).count("needed") == 2
    assert place({"CPU": 8, "GPU": 4}, (1, 4)).lacking({"CPU": 8, "GPU": 1}) == ""


def test_a_task_without_a_network_gets_a_decoder_a_core_and_nothing_else() -> None:
    for gpus in (0.0, 8.0):
        found = place_decoders({"CPU": 6.0, "GPU": gpus})
        assert (found.predictors, found.most, found.predictor_gpus) == ((0, 0), 0, 0.0)
        assert (found.decode_slots, found.cores, found.batch_rows) == (6, 6, 128)
        assert found.decoder_cpus <= 1
        assert found.elsewhere == {}
        assert found.growing((2, 9)).most == 0
        assert found.bounds.decoding == found.bounds.decoded == 12
        assert found.bounds_now({"CPU": 10.0, "GPU": gpus}).decoding == 20
        assert found.rate(50.0, 0.0) == 300.0
        assert found.lacking({"CPU": 1.0}) == ""
        assert found.lacking({}) == "0.98 CPUs are needed and 0 are there"
    assert place_decoders({"CPU": 64.0}).batch_rows == 256
    assert place_decoders({"CPU": 4096.0}).batch_rows == 512
    with pytest.raises(PlacementError, match="the cluster has no CPU"):
        place_decoders({"GPU": 8.0})
