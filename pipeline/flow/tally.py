"""What tasks tell the driver beside the rows: counts of the listing, and fatal errors."""

from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.errors import NightlabelError
from pipeline.flow.survey import Survey
from pipeline.storage import Want

if TYPE_CHECKING:
    from ray.actor import ActorHandle


class Tally:
    """An actor without a core of its own. What is told twice under a number counts once."""

    def __init__(self) -> None:
        self._shards: dict[int, Survey] = {}
        self._failure: NightlabelError | None = None
        self._good: dict[str, Want] = {}
        self._starts: Counter[str] = Counter()
        self._retries: Counter[str] = Counter()
        self._pages: dict[int, list[bytes]] = {}

    def starting(self, predictor: str) -> int:
        """How often in a row this predictor has been started without getting ready."""
        self._starts[predictor] += 1
        return self._starts[predictor]

    def ready(self, predictor: str) -> None:
        del self._starts[predictor]

    def retried(self, block: str) -> int:
        """How often a predictor has begun this block anew."""
        self._retries[block] += 1
        return self._retries[block]

    def page(self, shard: int, number: int, digest: bytes) -> bool:
        """Whether this page of a shard is what it was when it was first listed."""
        pages = self._pages.setdefault(shard, [])
        if number == len(pages):
            pages.append(digest)
        return pages[number] == digest

    def read_well(self, store: str, want: Want) -> None:
        self._good[store] = want

    def good(self) -> dict[str, Want]:
        """What some worker read well of each store: canaries for those that read none yet."""
        return self._good

    def add(self, shard: int, survey: Survey, pages: int) -> bool:
        """A shard listed to its end; whether it has all the pages that it ever had."""
        self._shards[shard] = survey
        return pages == len(self._pages.get(shard, []))

    def fail(self, error: NightlabelError) -> None:
        self._failure = self._failure or error

    def failure(self) -> NightlabelError | None:
        return self._failure

    def progress(self) -> tuple[int, dict[str, int]]:
        """How many shards have been listed to their end, and what they held."""
        total = Survey(keep_seen=False)
        for survey in self._shards.values():
            total.count(survey.counts)
        return len(self._shards), total.counts

    def survey(self) -> Survey:
        """Everything told so far."""
        total = Survey(keep_seen=True)
        for survey in self._shards.values():
            total.merge(survey)
        return total


class TallyBoard:
    """The driver's side: asks for progress without ever waiting for it."""

    def __init__(self) -> None:
        # On the driver's own node: any other may go while the run goes on.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        tally = ray.remote(num_cpus=0, scheduling_strategy=here)(Tally)
        self.actor: ActorHandle = tally.remote()
        self._asked: Any = None
        self._known: tuple[int, dict[str, int]] = (0, {})

    def progress(self) -> tuple[int, dict[str, int]]:
        """The last known answer, at most a call old."""
        if self._asked is not None and ray.wait([self._asked], timeout=0)[0]:
            self._known = ray.get(self._asked)
            self._asked = None
        if self._asked is None:
            self._asked = self.actor.progress.remote()
        return self._known

    def failure(self) -> NightlabelError | None:
        """What a task told before it died; None too where Ray itself is gone."""
        with suppress(ray.exceptions.RayError):
            failure: NightlabelError | None = ray.get(self.actor.failure.remote())
            return failure
        return None

    def survey(self) -> tuple[int, Survey]:
        """(shards listed to their end, everything they held)."""
        done, survey = ray.get([self.actor.progress.remote(), self.actor.survey.remote()])
        return done[0], survey
