"""How many of what, and where: from a cluster's resources to the numbers of the graph."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pipeline.errors import PlacementError

#: What a decoder and a predictor ask of a CPU. Beside GPUs a decoder owns a core. Without, a core
#: has one of each, and works for whichever is not waiting for the other. All ask for a little
#: less than there is: else the listers, which wait in the midst of their work, would take what the
#: last decoder lacks, and all would stand still. Decoders and predictors never ask for the same,
#: or Ray would fuse them and they would run in lockstep.
DECODE_SHARE: Final = 0.98
SHARED_DECODE_SHARE: Final = 0.48
SHARED_PREDICTOR_SHARE: Final = 0.49
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
class Bounds:
    """How much the graph may hold: shards that are listed side by side, and batches.

    `listed` wait for a decoder, `decoding` are at decoders, `decoded` there or behind them.
    """

    listing: int
    listed: int
    decoding: int
    decoded: int


@dataclass(frozen=True, slots=True)
class Placement:
    """The graph's numbers. `predictors` is (min, max) actors in the pool."""

    predictors: tuple[int, int]
    predictor_cpus: float
    predictor_gpus: float
    decoder_cpus: float
    decode_slots: int
    batch_rows: int
    listers: int

    @property
    def bounds(self) -> Bounds:
        """How much the graph may hold.

        A decoder that is done must have another batch at hand, since Ray Data looks for work only
        ten times a second; so must a predictor.
        """
        decoding = 2 * self.decode_slots
        return Bounds(
            listing=self.listers,
            listed=max(ROWS_AHEAD // self.batch_rows, 2 * decoding),
            decoding=decoding,
            decoded=decoding + 2 * self.predictors[1],
        )

    @property
    def cores(self) -> int:
        """How many there are to decode on; without GPUs, to predict on too."""
        if self.predictor_gpus:
            return self.decode_slots
        return (self.decode_slots + self.predictors[1]) // 2

    def rate(self, decoded: float, predicted: float) -> float:
        """Images a second at best, of what one decoder and one predictor make alone.

        On GPUs the slower kind is the limit. On CPUs both work on the same cores, so that each
        image takes the time of both; predictors, which may be fewer than cores, do no more than
        they can.
        """
        most = predicted * self.predictors[1]
        if self.predictor_gpus:
            return min(self.cores * decoded, most)
        return min(self.cores / (1 / decoded + 1 / predicted), most)

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
            "CPU": predictors * self.predictor_cpus + self.decoder_cpus,
            "GPU": predictors * self.predictor_gpus,
        }
        short = [
            f"{need:g} {name}s are needed and {resources.get(name, 0.0):g} are there"
            for name, need in needs.items()
            if resources.get(name, 0.0) < need
        ]
        return ", ".join(short)


def io_tasks(cpus: float) -> int:
    """How many shards are listed, or files written, side by side: one a CPU slot.

    Each takes a worker process. Unbounded, so small a share lets Ray start one for every
    shard at once: 64 on two cores, which then have no time left for anything else.
    """
    return max(2, int(cpus))


def place(resources: Mapping[str, float], wanted: tuple[int, int] | None) -> Placement:
    """Choose the graph's numbers for a cluster's total `resources` ("CPU", "GPU").

    With GPUs: one predictor each, which takes no CPU, and a decoder on each core. Without: one
    of each on every core, with a thread each. Raises PlacementError, which names what is
    missing, where the graph could never run.
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
    return Placement(
        predictors=(low, min(high, gpus)),
        predictor_cpus=0.0,
        predictor_gpus=1.0,
        decoder_cpus=DECODE_SHARE,
        decode_slots=int(cpus),
        batch_rows=GPU_BATCH_ROWS,
        listers=io_tasks(cpus),
    )


def _on_cpus(cpus: int, wanted: tuple[int, int] | None) -> Placement:
    if cpus < 1:
        raise PlacementError(
            "the cluster has no CPU: add a node, or leave --address out to use this machine"
        )
    low, high = wanted or (cpus, cpus)
    if low > cpus:
        raise PlacementError(f"--predictors {low} is more than {cpus} CPUs: ask for fewer")
    high = min(high, cpus)
    return Placement(
        predictors=(low, high),
        predictor_cpus=SHARED_PREDICTOR_SHARE,
        predictor_gpus=0.0,
        decoder_cpus=SHARED_DECODE_SHARE,
        decode_slots=2 * cpus - high,
        batch_rows=CPU_BATCH_ROWS,
        listers=io_tasks(cpus),
    )
