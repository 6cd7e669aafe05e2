"""Coordinator actor: counts, retries, first fatal error.

Its process starts beside those that load the network, so it imports what only the end of a run
needs when it is needed.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any, Final

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.errors import NightlabelError

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from pipeline.images import Depths
    from pipeline.scan.survey import Survey
    from pipeline.storage import Want


#: A predictor that holds batches and cannot label them waits for others till they have labelled
#: nothing for so long: they have none left, or are as it is.
IDLE_SECONDS: Final = 60.0


class Coordinator:
    """An actor without a CPU of its own. A report that is repeated under the same number counts
    once."""

    def __init__(self, max_images: int | None = None) -> None:
        self._left = max_images
        self._labelled = 0
        self._device_seconds: defaultdict[str, float] = defaultdict(float)
        self._ready: set[str] = set()
        self._worked: set[str] = set()  # ready once, so batches may wait at them
        self._progress = time.monotonic()
        self._shards: dict[int, Survey] = {}
        self._counts: dict[int, dict[str, int]] = {}
        self._failure: NightlabelError | None = None
        self._canaries: dict[str, Want] = {}
        self._starts: dict[str, float] = defaultdict(int)
        self._faults: dict[str, str] = {}
        self._retries: Counter[str] = Counter()
        self._batches: dict[int, list[tuple[bytes, int]]] = {}
        self._depths: dict[bytes, Depths] = {}

    def starting(self, predictor: str) -> float:
        """How many times in a row this predictor has started without getting ready."""
        self._ready.discard(predictor)
        self._starts[predictor] += 1
        return self._starts[predictor]

    def cannot_load(self, predictor: str) -> None:
        """This predictor does not try again."""
        self._starts[predictor] = inf

    def lost_device(self, predictor: str, words: str) -> None:
        """The process of this predictor ends, since its device failed."""
        self._faults[predictor] = words

    def device_fault(self, predictor: str) -> str:
        """How its device failed last; "" if it never did."""
        return self._faults.get(predictor, "")

    def ready(self, predictor: str) -> None:
        del self._starts[predictor]
        self._ready.add(predictor)
        self._worked.add(predictor)
        self._progress = time.monotonic()

    def others(self, predictor: str, tries: int) -> bool:
        """Whether another predictor is ready, or may become so: it has started `tries` times at
        most.

        No other one gets the batches that wait at one that was ready before. So it need not wait
        for others that do nothing: they wait for it.
        """
        starting = (name for name, count in self._starts.items() if count <= tries)
        if any(name != predictor for name in starting):
            return True
        if predictor in self._worked and time.monotonic() - self._progress > IDLE_SECONDS:
            return False
        return any(name != predictor for name in self._ready)

    def retried(self, block: str) -> int:
        """How many times a predictor has restarted this block."""
        self._retries[block] += 1
        return self._retries[block]

    def batch(
        self, shard: int, number: int, digest: bytes, rows: int, counts: dict[str, int]
    ) -> int | None:
        """How many rows of this batch of a shard the run may label; repeated calls get the same
        answer. None if it differs from the batch that was listed first. `counts`: of the shard so
        far."""
        self._count(shard, counts)
        batches = self._batches.setdefault(shard, [])
        if number == len(batches):
            batches.append((digest, self._grant(rows)))
        first, granted = batches[number]
        return granted if first == digest else None

    def _count(self, shard: int, counts: dict[str, int]) -> None:
        # A shard that is listed again had already got further.
        before = self._counts.get(shard, {}).get("listed", 0)
        if counts.get("listed", 0) >= before:
            self._counts[shard] = counts

    def _grant(self, rows: int) -> int:
        if self._left is None:
            return rows
        granted = min(rows, self._left)
        self._left -= granted
        return granted

    def labelled(self, rows: int, device: Mapping[str, float] | None = None) -> None:
        """Rows that a predictor has produced, and the seconds of its `device` by
        activity since the last."""
        self._labelled += rows
        for activity, seconds in (device or {}).items():
            self._device_seconds[activity] += seconds
        self._progress = time.monotonic()

    def decoded(self, batch: bytes, depths: "Depths") -> None:
        """Which images of a batch, by its digest, have more than 8 bits a channel."""
        self._depths[batch] = depths

    def record_canary(self, store: str, want: "Want") -> None:
        self._canaries[store] = want

    def canaries(self) -> "dict[str, Want]":
        """One object of each store that some worker has read: canaries for workers that have read
        none yet."""
        return self._canaries

    def add(self, shard: int, survey: "Survey", batches: int) -> bool:
        """Report a shard that is listed to its end; returns whether it has all batches
        it ever had."""
        self._shards[shard] = survey
        self._count(shard, survey.counts)
        return batches == len(self._batches.get(shard, []))

    def fail(self, error: NightlabelError) -> None:
        self._failure = self._failure or error

    def failure(self) -> NightlabelError | None:
        return self._failure

    def progress(self) -> tuple[int, dict[str, int]]:
        """How many shards have been listed to their end, and the counts of all listings so far."""
        total: Counter[str] = Counter()
        for counts in self._counts.values():
            total.update(counts)
        told = {"labelled": self._labelled, "predictors_ready": len(self._ready)}
        return len(self._shards), dict(total) | told

    def survey(self) -> "Survey":
        """Everything reported so far; seen entries only of shards that were listed to their end."""
        from pipeline.images import added
        from pipeline.scan.survey import Survey

        total = Survey(keep_seen=True)
        total.depths = added(self._depths.values())
        total.device_seconds = dict(self._device_seconds)
        for shard, counts in self._counts.items():
            total.count(counts)
            if shard in self._shards:
                total.see(self._shards[shard].seen)
                total.unreadable.update(self._shards[shard].unreadable)
        return total


class CoordinatorClient:
    """The driver's client: asks for progress without ever blocking."""

    def __init__(self, max_images: int | None = None) -> None:
        # On the driver's own node: any other node may go away during the run.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        coordinator = ray.remote(num_cpus=0, scheduling_strategy=here)(Coordinator)
        self.actor: ActorHandle = coordinator.remote(max_images)
        self._asked: Any = None
        self._known: tuple[int, dict[str, int]] = (0, {})

    def progress(self) -> tuple[int, dict[str, int]]:
        """The last known answer, at most one call old."""
        if self._asked is not None and ray.wait([self._asked], timeout=0)[0]:
            self._known = ray.get(self._asked)
            self._asked = None
        if self._asked is None:
            self._asked = self.actor.progress.remote()
        return self._known

    def failure(self) -> NightlabelError | None:
        """The fatal error that a task reported; None too if Ray itself is gone."""
        with suppress(ray.exceptions.RayError):
            failure: NightlabelError | None = ray.get(self.actor.failure.remote())
            return failure
        return None

    def survey(self) -> "tuple[int, Survey]":
        """(shards listed to their end, the survey of all of them)."""
        done, survey = ray.get([self.actor.progress.remote(), self.actor.survey.remote()])
        return done[0], survey
