"""Driver loop: takes blocks from the graph, commits them, watches the clock and signals."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import ray
from ray.data.exceptions import ExecutionTimeoutError

from pipeline.engine.capacity import Capacity
from pipeline.engine.placement import Placement, resources_of
from pipeline.engine.session import nodes, ray_error
from pipeline.errors import NightlabelError, PlacementError
from pipeline.graph.backpressure import Live
from pipeline.graph.committer import Committer
from pipeline.graph.coordinator import CoordinatorClient
from pipeline.graph.dataset import Stages, labelled_blocks
from pipeline.graph.job import Job
from pipeline.graph.progress import COMPILING, LABELLING, LOADING, Listener, Progress
from pipeline.graph.result_queue import ResultQueue, Stop
from pipeline.scan.survey import Survey
from pipeline.store.lease import Lease

if TYPE_CHECKING:
    from ray import ObjectRef

TICK_SECONDS = 0.2
#: Seconds to commit what is buffered after a signal, or after the graph failed.
SIGNAL_FLUSH_SECONDS = 4.0
DEATH_FLUSH_SECONDS = 60.0
#: Seconds for Ray Data to end its graph; after that the process exits anyway.
LEAVE_SECONDS = 2.0


class Stream:
    """Runs the graph to its end or to the first reason to stop."""

    def __init__(
        self,
        job: Job,
        committer: Committer,
        stop: Stop,
        lease: Lease,
        listener: Listener,
        deadline: datetime | None,
    ) -> None:
        self._job, self._committer, self._stop, self._lease = job, committer, stop, lease
        self._listener, self._deadline = listener, deadline
        self._loading = _first_stage(job)

    def run(
        self,
        placement: Placement,
        ledgers: "Sequence[ObjectRef]",
        graph: "ObjectRef | None" = None,
    ) -> tuple[Survey, bool]:
        """Label and commit; returns what was listed, and whether the listing was complete.

        `graph` is the job's network, if it has one that OpenVINO runs.
        Raises the error that ended the graph; blocks that arrived before it are committed.
        """
        board = CoordinatorClient(self._job.spec.max_images)
        capacity = Capacity(placement, lambda: resources_of(nodes(), placement.reserved))
        shards = list(self._job.source.shards())
        stages = Stages.of(self._job, placement, ledgers, board.actor, graph)
        live = Live(placement.bounds)
        blocks = labelled_blocks(stages, placement, shards, live)

        def look(taken: int) -> None:
            if (there := capacity.check(taken)) is not None:
                live.bounds = placement.bounds_now(there)

        try:
            self._consume(ResultQueue(blocks, self._stop), board, len(shards), look)
            listed, survey = board.survey()
        except (ray.exceptions.RayError, ExecutionTimeoutError) as error:
            raise self._reason(error, board) from error
        return survey, listed == len(shards)

    def _reason(self, error: Exception, board: CoordinatorClient) -> NightlabelError:
        """The error that ended the graph. If a model does not load, only the
        coordinator knows why."""
        return board.failure() or ray_error(error)

    def _consume(
        self,
        feed: "ResultQueue[tuple[ObjectRef, int]]",
        board: CoordinatorClient,
        shards: int,
        look_at_cluster: Callable[[int], object],
    ) -> None:
        self._stop.graph_runs = True
        taken = 0
        try:
            while not feed.ended and not self._stop:
                if (block := feed.take(TICK_SECONDS)) is not None:
                    self._committer.hold(*block)
                    taken += 1
                self._committer.step()
                self._tell(board, shards)
                self._look_around()
                look_at_cluster(taken)
            if self._stop.reason != "lease":
                self._committer.flush(SIGNAL_FLUSH_SECONDS if self._stop.signalled else math.inf)
        except (NightlabelError, ray.exceptions.RayError, ExecutionTimeoutError) as error:
            if feed.broken or isinstance(error, PlacementError):
                self._save_what_came()
            raise
        finally:
            self._stop.graph_runs = not feed.leave(LEAVE_SECONDS)

    def _save_what_came(self) -> None:
        """Commit the rows that arrived before the graph failed; the caller still raises the
        graph's error."""
        with suppress(NightlabelError, ray.exceptions.RayError):
            self._committer.flush(DEATH_FLUSH_SECONDS)

    def _tell(self, board: CoordinatorClient, shards: int) -> None:
        done, counts = board.progress()
        committed = self._committer.rows
        progress = Progress(
            LABELLING if counts.get("predictors_ready") or committed else self._loading,
            listed=counts.get("listed", 0),
            listing_complete=done == shards,
            done_before=counts.get("done", 0) + counts.get("failed_before", 0),
            todo=sum(counts.get(name, 0) for name in ("new", "changed", "retried")),
            labelled=max(counts.get("labelled", 0), committed),
            committed=committed,
            errors=self._committer.failed,
        )
        self._listener(progress)
        # All unlabelled images may still succeed: stop only if even that would leave too large a
        # share of errors.
        total = progress.todo if progress.listing_complete else None
        if progress.errors > self._job.spec.errors_allowed(total, progress.errors):
            self._stop.now("gate")

    def _look_around(self) -> None:
        if self._lease.lost.is_set():
            if self._lease.failure is not None:
                raise self._lease.failure
            self._stop.now("lease")
        if self._deadline is not None and datetime.now(UTC) >= self._deadline:
            self._stop.now("deadline")


def _first_stage(job: Job) -> str:
    """The stage before the first row: loading a network, if there is one."""
    if not job.task.network:
        return LABELLING
    return COMPILING if job.spec.compile else LOADING
