"""How many of what, and where: from a cluster's resources to the numbers of the graph."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pipeline.errors import PlacementError

#: A decoder and a predictor own a core, but ask for a little less: else the listers, which wait
#: in the midst of their work, would take what the last decoder lacks, and all would stand still.
#: Not the same for both, or Ray would fuse them and they would run in lockstep.
DECODE_SHARE: Final = 0.98
CPU_PREDICTOR_SHARE: Final = 0.97
#: Listing and writing wait for the store most of the time; they must never wait for a core. Ray
#: counts no less than this. Nothing at all would let them run on a head node that runs no tasks.
IO_SHARE: Final = 0.0001

#: Small batches where predicting takes seconds, large ones where a GPU eats them: the first
#: label should come soon, and a large batch's way to a GPU is cheaper a row.
CPU_BATCH_ROWS: Final = 64
GPU_BATCH_ROWS: Final = 512

#: The listing stays so many refs ahead: some 15 MB of the driver's memory, and work enough
#: for while a store answers slowly.
ROWS_AHEAD: Final = 65_536


@dataclass(frozen=True, slots=True)
class Placement:
    """The graph's numbers. `predictors` is (min, max) actors in the pool."""

    predictors: tuple[int, int]
    predictor_cpus: float
    predictor_gpus: float
    decode_slots: int
    batch_rows: int
    listers: int

    @property
    def batches_ahead(self) -> int:
        """How many listed batches may wait for a decoder; two each at least."""
        return max(ROWS_AHEAD // self.batch_rows, 2 * self.decode_slots)

    def as_dict(self) -> dict[str, object]:
        return {
            "predictors": list(self.predictors),
            "gpus_per_predictor": self.predictor_gpus,
            "decode_slots": self.decode_slots,
            "batch_rows": self.batch_rows,
            "listers": self.listers,
        }

    def lacking(self, resources: Mapping[str, float]) -> str:
        """What a cluster's total `resources` lack for the graph to go on; "" if nothing."""
        predictors = self.predictors[0]
        needs = {
            "CPU": predictors * self.predictor_cpus + DECODE_SHARE,
            "GPU": predictors * self.predictor_gpus,
        }
        short = [
            f"{need:g} {name}s are needed and {resources.get(name, 0.0):g} are there"
            for name, need in needs.items()
            if resources.get(name, 0.0) < need
        ]
        return ", ".join(short)


def local_slots(cores: int) -> int:
    """CPU slots to tell an embedded Ray of: half as many again as there are cores.

    Decoding waits for the store and predictors wait for decoding, so slots idle.
    """
    return cores + math.ceil(cores / 2)


def io_tasks(cpus: float) -> int:
    """How many shards are listed, or files written, side by side: one a CPU slot.

    Each takes a worker process. Unbounded, a share of 0.01 lets Ray start one for every shard
    at once: 64 on two cores, which then have no time left for anything else.
    """
    return max(2, int(cpus))


def place(resources: Mapping[str, float], wanted: tuple[int, int] | None) -> Placement:
    """Choose the graph's numbers for a cluster's total `resources` ("CPU", "GPU").

    With GPUs: one predictor each, which takes no CPU. Without: two thirds of the slots
    predict with a thread each, one third decodes. Raises PlacementError, which names what
    is missing, where the graph could never run.
    """
    cpus, gpus = resources.get("CPU", 0.0), int(resources.get("GPU", 0))
    if gpus:
        return _on_gpus(cpus, gpus, wanted)
    return _on_cpus(int(cpus), wanted)


def _on_gpus(cpus: float, gpus: int, wanted: tuple[int, int] | None) -> Placement:
    low, high = wanted or (gpus, gpus)
    if low > gpus:
        raise PlacementError(
            f"--predictors {low} needs {low} GPUs and the cluster has {gpus}: ask for fewer"
        )
    if cpus < 1:
        raise PlacementError("the cluster has no CPU to decode images on: add a CPU node")
    return Placement((low, min(high, gpus)), 0.0, 1.0, int(cpus), GPU_BATCH_ROWS, io_tasks(cpus))


def _on_cpus(cpus: int, wanted: tuple[int, int] | None) -> Placement:
    if cpus < 2:
        raise PlacementError(
            f"the cluster has {cpus} CPU slots; labelling needs 2, one to decode and one to "
            "predict: add a node, or leave --address out to use this machine"
        )
    decode = max(1, cpus // 3)
    low, high = wanted or (cpus - decode, cpus - decode)
    if low > cpus - 1:
        raise PlacementError(
            f"--predictors {low} leaves none of {cpus} CPU slots to decode on: "
            f"ask for {cpus - 1} at most"
        )
    high = min(high, cpus - 1)
    return Placement(
        (low, high), CPU_PREDICTOR_SHARE, 0.0, cpus - high, CPU_BATCH_ROWS, io_tasks(cpus)
    )
