"""Waits for nodes and asks the autoscaler for them until the graph fits on the cluster."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from ray.util.placement_group import placement_group, remove_placement_group

from pipeline.engine.address import cluster_address
from pipeline.engine.placement import Placement, place, place_decoders, resources_of
from pipeline.engine.session import nodes
from pipeline.errors import PlacementError
from pipeline.graph.job import Job
from pipeline.graph.progress import Listener, Progress
from pipeline.graph.result_queue import Stop

LOOK_SECONDS: Final = 1.0

Bundles = list[dict[str, float]]


def wait_for_placement(job: Job, stop: Stop, listener: Listener) -> Placement | None:
    """Place a graph as soon as there is room; None if `stop` comes first.

    On a cluster this waits for nodes that are just joining, and asks an autoscaler for what is
    missing. An embedded Ray does not change. Raises PlacementError at the time limit.
    """
    alone = cluster_address(job.spec.address) is None
    until = time.monotonic() + (0.0 if alone else job.spec.wait_for_nodes)
    with _asking() as ask:
        while not stop:
            try:
                return placed(job)
            except PlacementError:
                if time.monotonic() >= until:
                    raise
            listener(Progress("waiting"))
            ask(_least(job))
            time.sleep(LOOK_SECONDS)
    return None


def placed(job: Job) -> Placement:
    """The job's graph, placed on what the cluster has now. Raises PlacementError."""
    spec, there = job.spec, nodes()
    if not job.task.network:
        return place_decoders(resources_of(there))
    wanted = spec.predictor_range
    found = place(resources_of(there), wanted, gpus_each=spec.gpus_per_predictor, nodes=there)
    pixels = job.preprocess.height * job.preprocess.width
    found = found.for_model(job.weights, spec.batch_size, pixels=pixels, nodes=there)
    return found if cluster_address(spec.address) is None else found.growing(wanted)


def _least(job: Job) -> Bundles:
    """The minimum that a graph needs."""
    if not job.task.network:
        return [{"CPU": 1.0}]
    spec = job.spec
    predictors = spec.predictor_range[0] if spec.predictor_range else 1
    each = spec.gpus_per_predictor
    if each is None:
        return [{"CPU": 1.0}] * predictors
    return [{"CPU": 1.0}, *[{"GPU": each}] * predictors]


@contextmanager
def _asking() -> Iterator[Callable[[Bundles], None]]:
    """Ask the autoscaler once. The request ends with this process, however it ends."""
    asked: list[Any] = []

    def ask(bundles: Bundles) -> None:
        if not asked:
            asked.append(placement_group(bundles))

    try:
        yield ask
    finally:
        for group in asked:
            remove_placement_group(group)
