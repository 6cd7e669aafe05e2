"""Placement: from a cluster's resources to the number, size and place of decoders and
predictors.

With GPUs, decoders are tasks on the cores and predictors are actors on the devices. Without, a
predictor is an actor that has a core, and decodes there too: pixels stay in one process.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pipeline.engine.batch_rows import (
    CPU_BATCH_ROWS,
    GPU_BATCH_ROWS,
    cpu_batch_rows,
    decoded_batch_rows,
    gpu_batch_rows,
    whole_passes,
)
from pipeline.errors import PlacementError

#: CPUs that a process requests which owns a core: a decoder, or a predictor without a GPU. A little
#: below one. Otherwise the listers, which wait in the middle of their work, would take what the
#: last such process needs, and everything would deadlock.
CORE_SHARE: Final = 0.98
#: Listing and writing wait for the store most of the time; they must never wait for a core. This is
#: the smallest share that Ray counts. Zero would let them run on a head node that runs no tasks.
IO_SHARE: Final = 0.0001

#: Batches at a predictor: one in work and the others queued, until Ray Data looks again. It looks
#: some six times a second, and hands out no more than is missing: with four of 512 images a device
#: of 10,000 a second was busy 89% of the time. Where predicting takes seconds, one more batch is
#: enough, whose images are read meanwhile, and the first predictor that is ready leaves some.
CPU_IN_FLIGHT: Final = 2
GPU_IN_FLIGHT: Final = 8

#: The listing stays at most this many refs, and batches, ahead: at most 15 MB of the driver's
#: memory, and work for a quarter of a minute or more while a store answers slowly.
ROWS_AHEAD: Final = 65_536
BATCHES_AHEAD: Final = 256

_NO_CPU: Final = "the cluster has no CPU: add a node, or leave --address out to use this machine"

#: Every Ray node has this label.
NODE_ID: Final = "ray.io/node-id"


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a cluster and its total resources: `store` in bytes, `gpu` by Ray's name."""

    id: str
    cpus: float
    gpus: float
    store: int = 0
    gpu: str = ""


def resources_of(nodes: Sequence[Node], reserved: Collection[str] = ()) -> dict[str, float]:
    """The sum of these nodes' resources, less the CPUs of reserved nodes."""
    return {
        "CPU": sum(node.cpus for node in nodes if node.id not in reserved),
        "GPU": sum(node.gpus for node in nodes),
    }


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much the graph may hold: shards that are listed at the same time, and batches.

    `listed` batches wait for a decoder, `decoding` are at decoders, `decoded` are there or further
    on.
    """

    listing: int
    listed: int
    decoding: int
    decoded: int


@dataclass(frozen=True, slots=True)
class Placement:
    """The graph's numbers. `predictors` is (min, max) actors that there is room for now.

    There may be up to `most` as nodes join; none for a task without a network. `reserved`
    are the ids of nodes that only predict.
    """

    predictors: tuple[int, int]
    predictor_cpus: float
    predictor_gpus: float
    decoder_cpus: float
    decode_slots: int
    batch_rows: int
    listers: int
    most: int
    reserved: tuple[str, ...] = ()

    def growing(self, wanted: tuple[int, int] | None) -> "Placement":
        """The same on a cluster that nodes may join: as many predictors as are wanted.

        Predictors without room yet request it from an autoscaler.
        """
        if not self.most or wanted is None:
            return self
        return replace(self, most=max(wanted[1], self.most))

    def for_model(
        self,
        weights: int,
        batch_size: int | None,
        *,
        pixels: int = 224 * 224,
        nodes: Sequence[Node] = (),
    ) -> "Placement":
        """The same, with a batch size for a model with this many bytes of weights, which takes
        images of so many `pixels`.

        A batch is a whole number of forward passes of `batch_size` images.
        """
        if self.predictor_gpus:
            kinds = frozenset(node.gpu for node in nodes if node.gpus)
            rows = gpu_batch_rows(weights, pixels, kinds, self._room(nodes))
        else:
            rows = cpu_batch_rows(weights, self.predictors[1])
        return replace(self, batch_rows=whole_passes(rows, batch_size))

    def _room(self, nodes: Sequence[Node]) -> float:
        """Bytes of an object store for each batch of pixels that one of these nodes may have."""
        rooms = [math.inf]
        for node in nodes:
            decoded = 0 if node.id in self.reserved else 2 * int(node.cpus)
            at_predictors = GPU_IN_FLIGHT * _fitting(int(node.gpus), self.predictor_gpus)
            if node.store and (batches := decoded + at_predictors):
                rooms.append(node.store / batches)
        return min(rooms)

    @property
    def elsewhere(self) -> dict[str, Any]:
        """Ray options for everything but predictors: keep off reserved nodes."""
        if not self.reserved:
            return {}
        return {"label_selector": {NODE_ID: f"!in({','.join(self.reserved)})"}}

    @property
    def predictors_decode(self) -> bool:
        """Whether predictors read and decode their images themselves, and there are no decoders."""
        return bool(self.most) and not self.predictor_gpus

    @property
    def in_flight(self) -> int:
        """Batches at one predictor."""
        return CPU_IN_FLIGHT if self.predictors_decode else GPU_IN_FLIGHT

    @property
    def bounds(self) -> Bounds:
        """The graph's bounds, on the cores that it was placed on."""
        return self._bounds(self.decode_slots, self.predictors[1])

    def bounds_now(self, resources: Mapping[str, float]) -> Bounds:
        """The graph's bounds on a cluster's current totals, less the CPUs of reserved nodes."""
        cpus = int(resources.get("CPU", 0.0))
        if not self.most:
            return self._bounds(max(1, cpus), 0)
        if self.predictors_decode:
            return self._bounds(0, max(1, min(self.most, cpus)))
        fit = _fitting(int(resources.get("GPU", 0.0)), self.predictor_gpus)
        return self._bounds(max(1, cpus), max(1, min(self.most, fit)))

    def _bounds(self, decode_slots: int, predictors: int) -> Bounds:
        """Bounds for this many decoder slots and predictors.

        A decoder that finishes needs another batch at hand, since Ray Data looks for work only
        ten times a second; so does a predictor. Without decoder slots, predictors decode.
        """
        decoding = 2 * (decode_slots or predictors)
        return Bounds(
            listing=self.listers,
            listed=max(min(ROWS_AHEAD // self.batch_rows, BATCHES_AHEAD), 2 * decoding),
            decoding=decoding,
            decoded=decoding + (2 * predictors if decode_slots else 0),
        )

    @property
    def cores(self) -> int:
        """Cores that decode: those of decoders, or of predictors that decode themselves."""
        return self.predictors[1] if self.predictors_decode else self.decode_slots

    def rate(self, decoded: float, predicted: float) -> float:
        """Best possible images a second, from the rates of one decoder and one predictor alone.

        With GPUs the slower stage is the limit. On CPUs a process does both, so each image takes
        the sum of both times. Without predictors there is one decoder a core and no other work.
        """
        if not self.most:
            return self.cores * decoded
        if self.predictors_decode:
            return self.cores / (1 / decoded + 1 / predicted)
        return min(self.cores * decoded, predicted * self.predictors[1])

    def as_dict(self) -> dict[str, object]:
        return {
            "predictors": [self.predictors[0], self.most],
            "gpus_per_predictor": self.predictor_gpus,
            "decode_slots": self.decode_slots,
            "batch_rows": self.batch_rows,
            "listers": self.listers,
            "reserved_nodes": len(self.reserved),
        }

    def lacking(self, resources: Mapping[str, float]) -> str:
        """What the graph needs and `resources` lack; "" if nothing.

        `resources` are a cluster's totals, less the CPUs of reserved nodes.
        """
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
    """How many shards are listed, or files written, at the same time: one a CPU slot.

    Each takes a worker process. Without this bound the small CPU share lets Ray start one for every
    shard at once: 64 on two cores, which leaves no time for other work.
    """
    return max(2, int(cpus))


def place(
    resources: Mapping[str, float],
    wanted: tuple[int, int] | None,
    *,
    gpus_each: float | None = None,
    nodes: Sequence[Node] = (),
) -> Placement:
    """Choose the graph's numbers for a cluster's total `resources` ("CPU", "GPU").

    With GPUs: as many predictors as fit, which take no CPU, and a decoder on each core of
    the unreserved `nodes`. Without: a predictor on every core, which also decodes and has one
    thread. Giving `gpus_each` requires GPUs. Raises PlacementError, which names what is missing,
    if the graph cannot run on these resources.
    """
    cpus, gpus = resources.get("CPU", 0.0), int(resources.get("GPU", 0))
    if gpus_each is not None and not gpus:
        raise PlacementError(
            "the cluster has no GPU, and --gpus-per-predictor asks for some: add a GPU node, "
            "wait longer for one with --wait-for-nodes, or predict on CPUs without that option"
        )
    if not gpus:
        return _on_cpus(int(cpus), wanted)
    reserved = reserve(nodes)
    cpus -= sum(node.cpus for node in reserved)
    ids = tuple(node.id for node in reserved)
    return _on_gpus(cpus, gpus, wanted, gpus_each or 1.0, ids)


def place_decoders(resources: Mapping[str, float]) -> Placement:
    """The numbers for a task without a network: a decoder on each core, and nothing else.

    GPUs are not requested, and no node is reserved. Raises PlacementError without a CPU.
    """
    cpus = int(resources.get("CPU", 0.0))
    if cpus < 1:
        raise PlacementError(_NO_CPU)
    return Placement(
        predictors=(0, 0),
        most=0,
        predictor_cpus=0.0,
        predictor_gpus=0.0,
        decoder_cpus=CORE_SHARE,
        decode_slots=cpus,
        batch_rows=decoded_batch_rows(cpus),
        listers=io_tasks(cpus),
    )


def reserve(nodes: Sequence[Node]) -> list[Node]:
    """The nodes with GPUs, if the nodes without have as many cores and so can do the decoding.

    A decoder beside a predictor takes the core that feeds the device. If most cores are on
    nodes with GPUs, sharing them costs less than leaving them idle.
    """
    predicting = [node for node in nodes if node.gpus]
    beside = sum(node.cpus for node in nodes if not node.gpus)
    return predicting if 0 < sum(node.cpus for node in predicting) <= beside else []


def _on_gpus(
    cpus: float,
    gpus: int,
    wanted: tuple[int, int] | None,
    gpus_each: float,
    reserved: tuple[str, ...],
) -> Placement:
    most = _fitting(gpus, gpus_each)
    low, high = wanted or (most, most)
    if low > most:
        raise PlacementError(
            f"--predictors {low} needs {low * gpus_each:g} GPUs and the cluster has {gpus}: ask "
            "for fewer, or for less of --gpus-per-predictor"
        )
    if cpus < 1:
        raise PlacementError("the cluster has no CPU to decode images on: add a CPU node")
    high = min(high, most)
    return Placement(
        predictors=(low, high),
        most=high,
        predictor_cpus=0.0,
        predictor_gpus=gpus_each,
        decoder_cpus=CORE_SHARE,
        decode_slots=int(cpus),
        batch_rows=GPU_BATCH_ROWS,
        listers=io_tasks(cpus),
        reserved=reserved,
    )


def _on_cpus(cpus: int, wanted: tuple[int, int] | None) -> Placement:
    if cpus < 1:
        raise PlacementError(_NO_CPU)
    low, high = wanted or (cpus, cpus)
    if low > cpus:
        raise PlacementError(f"--predictors {low} is more than {cpus} CPUs: ask for fewer")
    high = min(high, cpus)
    return Placement(
        predictors=(low, high),
        most=high,
        predictor_cpus=CORE_SHARE,
        predictor_gpus=0.0,
        decoder_cpus=0.0,
        decode_slots=0,
        batch_rows=CPU_BATCH_ROWS,
        listers=io_tasks(cpus),
    )


def _fitting(gpus: int, each: float) -> int:
    """How many predictors fit if each takes this share of one GPU."""
    return gpus * int(1 / each + 1e-9)
