"""One run from start to end: list, subtract, label, commit, delete, merge, summarise."""

import time
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import ray

from pipeline.engine.address import cluster_address
from pipeline.engine.placement import Placement
from pipeline.engine.remote_tasks import in_tasks
from pipeline.engine.session import on_cpus_here, session, totals
from pipeline.errors import NightlabelError, StoreError
from pipeline.graph.committer import Committer, Written
from pipeline.graph.job import Job
from pipeline.graph.lazy import stream_class
from pipeline.graph.own_gpus import OwnGpus
from pipeline.graph.progress import LABELLING, LOADING, Listener, Progress
from pipeline.graph.result_queue import Stop
from pipeline.graph.scaling import wait_for_placement
from pipeline.isolation.background import in_background
from pipeline.isolation.model_process import ModelProcess
from pipeline.runs.derive import derive
from pipeline.runs.finalize import Runner, delete_gone, inline, merge
from pipeline.runs.network_graph import PendingGraph
from pipeline.runs.outcome import conclude
from pipeline.runs.prepare import check_recipe, open_or_create, prepare
from pipeline.runs.promotion import Promotion
from pipeline.runs.reporting import Reporter, reporting
from pipeline.scan.gone import confirmed, count_gone, without_hidden
from pipeline.scan.ledgers import LOCAL_ROWS, FileReader, ledger_shards, local_ledger, rows_of
from pipeline.scan.quick_scan import nothing_to_label
from pipeline.scan.survey import Survey
from pipeline.spec import LabelSpec, deadline_at
from pipeline.storage import redacted
from pipeline.store.delta.table import Table
from pipeline.store.lease import Lease
from pipeline.store.ledger import Ledger
from pipeline.store.recipes import save_recipe
from pipeline.store.run_index import RunIndex
from pipeline.store.runs import (
    Clipping,
    Counts,
    RunSummary,
    load_runs,
    named_unreadable,
    new_run_id,
    save_run,
)

if TYPE_CHECKING:
    from ray import ObjectRef

    from pipeline.graph.driver_loop import Stream


def label(spec: LabelSpec, on_progress: Listener | None = None) -> RunSummary:
    """Bring the labels at `spec.dst` up to date with the images at `spec.src`.

    Returns the summary that is also recorded in the store; its `exit_code` says how the
    run ended. Raises NightlabelError if it failed, and KeyboardInterrupt or Terminated for
    a signal before it began; committed rows stay.
    """
    began = time.monotonic()
    stop = Stop()
    run_id = new_run_id(datetime.now(UTC))
    with reporting(spec, run_id) as reporter, stop.on_signals(), ModelProcess() as process:
        listener = _both(on_progress, reporter)
        listener(Progress("checking"))
        job = prepare(spec, run_id, listener, process, meanwhile=stream_class)
        job.folder.ensure()
        with Lease(job.folder, job.run_id, take_over=spec.take_over) as lease:
            table = open_or_create(job)
            check_recipe(job, table)
            table.add_columns(job.task.columns)
            save_recipe(job.folder, job.recipe.id, job.recipe.to_json())
            reporter.started(job)
            derived = derive(job, table, _summary_of(job))
            graph, gpus = PendingGraph(job, process), OwnGpus(process)
            run = Run(job, table, lease, stop, reporter, listener, began, graph, gpus, derived)
            return run.execute()


def fingerprint(spec: LabelSpec, on_progress: Listener | None = None) -> RunSummary:
    """The same with perceptual hashes and measures instead of labels, and without a model."""
    return label(spec.model_copy(update={"task": "fingerprint"}), on_progress)


def embed(spec: LabelSpec, on_progress: Listener | None = None) -> RunSummary:
    """The same with a vector of each image instead of labels."""
    return label(spec.model_copy(update={"task": "embed"}), on_progress)


class Run:
    """The state of one run; `execute` lists its steps."""

    def __init__(
        self,
        job: Job,
        table: Table,
        lease: Lease,
        stop: Stop,
        reporter: Reporter,
        listener: Listener,
        began: float,
        graph: PendingGraph,
        gpus: OwnGpus,
        derived: int = 0,
    ) -> None:
        self._job, self._table, self._lease = job, table, lease
        self._stop, self._reporter, self._listener, self._began = stop, reporter, listener, began
        self._derived, self._graph, self._gpus = derived, graph, gpus
        self._files = [f for f in table.live() if f.recipe == job.recipe.id]
        self._ledgers: list[Ledger] = []
        self._listed = False
        self._committer = Committer(
            table,
            job.folder,
            job.run_id,
            job.recipe.id,
            self._files,
            job.spec.commit_seconds,
            self._committed,
        )
        self._summary = _summary_of(job)
        self._promotion = Promotion.of(job, table)
        self._promotion.note(self._summary)

    def execute(self) -> RunSummary:
        self._took("check")
        try:
            self._reader = FileReader.for_scope(
                self._job.folder,
                self._job.source,
                self._past_runs(),
                allow_private=self._job.spec.allow_private,
            )
            save_run(self._job.folder, self._summary)
            if (survey := self._nothing_to_label()) is not None:
                self._finish(survey, complete=True, run=inline)
            else:
                self._label()
        except NightlabelError as error:
            self._failed(error)
            raise
        except KeyboardInterrupt:
            if not self._stop:
                raise
        return self._ended()

    def _past_runs(self) -> list[RunSummary]:
        index = RunIndex.read(self._job.folder)
        runs = load_runs(self._job.folder, index)
        with suppress(StoreError):  # without it, the next run reads every document
            index.save()
        return runs

    def _nothing_to_label(self) -> Survey | None:
        """The whole survey of a run with nothing new, which then starts no Ray; else None."""
        self._listener(Progress("listing"))
        if not self._files or rows_of(self._files) > LOCAL_ROWS:
            return None
        self._ledgers = [local_ledger(self._reader, self._files)]
        spec = self._job.spec
        return nothing_to_label(
            self._job.source,
            self._ledgers,
            keep_seen=spec.delete,
            retry_errors=spec.retry_errors,
        )

    def _label(self) -> None:
        self._listener(Progress("starting"))
        spec = self._job.spec
        stream = in_background(stream_class)  # takes as long as the start of Ray
        with ExitStack() as stack:
            with self._stop.gently():
                if self._job.task.network and on_cpus_here(spec.address):
                    self._graph.begin()  # while Ray starts
                elif self._job.task.network and cluster_address(spec.address) is None:
                    self._gpus.begin()
                stack.enter_context(session(spec.address, in_use=lambda: self._stop.graph_runs))
                if self._stop:
                    return
                placement = wait_for_placement(self._job, self._stop, self._listener)
                if placement is None:
                    return
                self._gpus.check(placement, self._stop)
                self._committer.options = placement.elsewhere
                self._summary.hardware = {"slots": totals(), **placement.as_dict()}
                self._took("start")
                ledgers = self._ledger_references(placement)
                graph = self._network(placement)
                survey, complete = self._stream(stream.result(), placement, ledgers, graph)
            self._took("label")
            self._ledgers = ray.get(ledgers)  # mapped, not copied
            run = partial(in_tasks, options=placement.elsewhere)
            self._finish(survey, complete=complete, run=run)

    def _network(self, placement: Placement) -> "ObjectRef | None":
        """The network for workers on CPUs, if OpenVINO runs it."""
        if not self._job.task.network:
            return None
        self._listener(Progress(LOADING))
        graph, self._summary.hardware["runtime"] = self._graph.shared(placement, self._stop)
        return graph

    def _stream(
        self,
        stream: "type[Stream]",
        placement: Placement,
        ledgers: "list[ObjectRef]",
        graph: "ObjectRef | None",
    ) -> tuple[Survey, bool]:
        ago = timedelta(seconds=time.monotonic() - self._began)
        text, began = self._job.spec.deadline, datetime.now().astimezone() - ago
        deadline = deadline_at(text, began) if text is not None else None
        begun = stream(
            self._job, self._committer, self._stop, self._lease, self._labelling, deadline
        )
        try:
            return begun.run(placement, ledgers, graph)
        finally:
            self._count_labels()

    def _ledger_references(self, placement: Placement) -> "list[ObjectRef]":
        if not self._files or rows_of(self._files) > LOCAL_ROWS:
            return ledger_shards(self._reader, self._files, placement.elsewhere)
        return [ray.put(ledger) for ledger in self._ledgers]

    def _finish(self, survey: Survey, *, complete: bool, run: Runner) -> None:
        """The steps after the last label: count, delete gone rows, merge."""
        counts = self._summary.counts = Counts.of(survey.counts)
        self._summary.clipping = {
            mode: Clipping(**depth._asdict()) for mode, depth in survey.depths.items()
        }
        self._summary.device_seconds = {
            activity: round(seconds, 3) for activity, seconds in survey.device_seconds.items()
        }
        self._count_labels()
        self._count_unreadable(survey, complete=complete)
        if self._stop:
            return
        spec = self._job.spec
        in_scope = sum(ledger.count_in_scope() for ledger in self._ledgers)
        if complete and self._ledgers:
            counts.gone = count_gone(spec, survey, self._reader, self._files, in_scope)
        if complete and spec.delete and not (spec.strict_listing and counts.unreadable):
            self._delete(survey, in_scope, run)
        self._listener(Progress("merging"))
        merge(self._job.folder, self._table, self._job.run_id, run)
        self._took("merge")

    def _delete(self, survey: Survey, in_scope: int, run: Runner) -> None:
        self._listener(Progress("deleting"))
        job, counts = self._job, self._summary.counts
        files = self._committer.present_files()
        unseen = survey.unseen(self._ledgers)
        gone = without_hidden(job.folder, files, unseen, survey.unreadable)
        gone = confirmed(self._reader, files, gone)
        counts.deleted = delete_gone(
            job.folder, self._table, files, gone, in_scope, job.run_id, run
        )

    def _count_unreadable(self, survey: Survey, *, complete: bool) -> None:
        summary = self._summary
        summary.counts.unreadable = len(survey.unreadable)
        summary.unreadable = named_unreadable(survey.unreadable)
        # A run that could not list everything does not prove that an object has no row.
        self._listed, summary.listing_complete = complete, complete and not survey.unreadable

    def _labelling(self, progress: Progress) -> None:
        self._listener(progress)
        if progress.stage == LABELLING and "load" not in self._summary.seconds:
            self._took("load")
        self._reporter.measured(progress, self._committer)

    def _committed(self, written: Written) -> None:
        self._reporter.committed(written, self._committer)

    def _count_labels(self) -> None:
        counts = self._summary.counts
        counts.labelled = self._committer.labelled
        counts.errors = dict(self._committer.errors)
        counts.failed = self._committer.failed
        counts.derived = self._derived

    def _ended(self) -> RunSummary:
        summary = self._summary
        status, code, reason = conclude(
            self._job.spec,
            summary.counts,
            reason=self._stop.reason,
            listing_complete=self._listed,
        )
        summary.status, summary.exit_code, summary.reason = status, int(code), reason
        self._promotion.end(summary)
        self._reporter.finished(self._saved())
        return summary

    def _failed(self, error: NightlabelError) -> None:
        summary = self._summary
        summary.status, summary.exit_code = "failed", int(error.exit_code)
        summary.reason = redacted(str(error))
        with suppress(StoreError):  # this may be the part that failed; the error says more
            self._saved()
        self._reporter.finished(summary)

    def _saved(self) -> RunSummary:
        self._summary.finished = datetime.now(UTC)
        self._took("all")
        self._summary.images_per_second = self._summary.rate()
        save_run(self._job.folder, self._summary)
        return self._summary

    def _took(self, stage: str) -> None:
        self._summary.seconds[stage] = round(time.monotonic() - self._began, 3)


def _summary_of(job: Job) -> RunSummary:
    return RunSummary(
        run_id=job.run_id,
        started=datetime.now(UTC),
        recipe=job.recipe.id,
        scope=job.source.scope,
        spec=job.recorded_spec,
    )


def _both(listener: Listener | None, reporter: Reporter) -> Listener:
    def listen(progress: Progress) -> None:
        if listener is not None:
            listener(progress)
        reporter.progress(progress)

    return listen
