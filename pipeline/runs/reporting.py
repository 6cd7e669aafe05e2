"""Reporting: sends a run's progress to its events, its webhook, and Prometheus."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Final

from pipeline.errors import BusyError, Exit, NightlabelError, Terminated
from pipeline.events.kinds import (
    Committed,
    Event,
    Finished,
    GateBreached,
    Progressed,
    Started,
)
from pipeline.events.log import EventLog
from pipeline.events.webhook import notify, secret
from pipeline.graph.metrics import (
    COMMIT_LAG,
    COMMITS,
    IMAGES,
    LISTED,
    REMAINING,
    STORE_ROWS,
    Meters,
    named,
)
from pipeline.graph.progress import COUNTED, LABELLING, Progress
from pipeline.spec import LabelSpec
from pipeline.storage import redacted
from pipeline.tasks import words_of

if TYPE_CHECKING:
    from pipeline.graph.committer import Committer, Written
    from pipeline.graph.job import Job
    from pipeline.store.runs import Counts, RunSummary

PROGRESS_SECONDS: Final = 10.0

#: Seconds to write the last lines, and the same after a signal.
CLOSE_SECONDS: Final = 30.0
HURRIED_SECONDS: Final = 2.0

_SIGNALLED: Final = (Exit.INTERRUPTED, Exit.TERMINATED)


@contextmanager
def reporting(spec: LabelSpec, run_id: str) -> Iterator["Reporter"]:
    """Report on the run within the block; its end is reported however it ends.

    Raises SpecError if `spec` names an event log that cannot be written to. Later failures
    are warnings of Python's logger `nightlabel`.
    """
    reporter = Reporter(spec, run_id)
    try:
        yield reporter
    except BaseException as error:
        reporter.failed(error)
        raise
    finally:
        reporter.close()


class Reporter:
    """Receives what happens in a run. Only `close` blocks."""

    def __init__(self, spec: LabelSpec, run_id: str) -> None:
        self._run_id, self._notify, self._key = run_id, spec.notify, secret()
        self._src, self._dst = named(spec.src), named(spec.dst)
        self._log = EventLog.open(spec.events, run_id) if spec.events else None
        self._meters, self._done = Meters.of(spec.dst), words_of(spec).done
        self._began = time.monotonic()
        self._progress_at, self._stage = 0.0, ""
        self._counted = Progress(LABELLING)
        self._recipe: str | None = None
        self._end: Finished | None = None

    def started(self, job: "Job") -> None:
        self._recipe = job.recipe.id
        self._send(
            Started(
                run_id=self._run_id,
                dst=self._dst,
                src=self._src,
                model=_model(job.model),
                revision=job.revision,
                recipe=job.recipe.id,
            )
        )

    def progress(self, progress: Progress) -> None:
        """Call as often as you like; it is passed on every ten seconds."""
        if progress.stage in COUNTED:
            self._counted = progress
        else:
            progress = replace(self._counted, stage=progress.stage)
        now = time.monotonic()
        if progress.stage == self._stage and now - self._progress_at < PROGRESS_SECONDS:
            return
        self._progress_at, self._stage = now, progress.stage
        self._send(Progressed(run_id=self._run_id, dst=self._dst, **asdict(progress)))

    def measured(self, progress: Progress, committer: "Committer") -> None:
        """Update the gauges of a run whose Ray runs."""
        self._meters.set(LISTED, progress.listed)
        self._meters.set(REMAINING, max(0, progress.todo - progress.committed))
        self._meters.set(STORE_ROWS, committer.store_rows)
        self._meters.set(COMMIT_LAG, committer.waiting)

    def committed(self, written: "Written", committer: "Committer") -> None:
        part = written.part
        self._meters.add(COMMITS, 1)
        self._meters.add(IMAGES, part.num_rows - part.num_errors, "labelled")
        for code, rows in written.errors.items():
            self._meters.add(IMAGES, rows, code)
        self._meters.set(STORE_ROWS, committer.store_rows)
        self._send(
            Committed(
                run_id=self._run_id,
                dst=self._dst,
                version=committer.table.version,
                rows=part.num_rows,
                errors=part.num_errors,
                total=committer.rows,
            )
        )

    def finished(self, summary: "RunSummary") -> None:
        """Report the end of a run that has a summary."""
        if summary.status == "gate":
            gate = GateBreached(
                run_id=self._run_id,
                dst=self._dst,
                errors=summary.counts.failed,
                reason=summary.reason or "",
            )
            self._send(gate)
        self._finish(summary.status, summary.exit_code, summary.reason, summary.counts)

    def failed(self, error: BaseException) -> None:
        """Report the end of a run that raised; does nothing if the end was reported already."""
        if self._end is not None:
            return
        status, code = _how(error)
        reason = redacted(str(error)) if isinstance(error, NightlabelError) else None
        self._finish(status, code, reason or type(error).__name__, None)

    def close(self) -> None:
        """Write what is not written yet, and send the final message."""
        hurried = self._end is not None and self._end.exit_code in _SIGNALLED
        if self._log is not None:
            _warn(
                "could not write events",
                self._log.close(HURRIED_SECONDS if hurried else CLOSE_SECONDS),
            )
        if self._notify is not None and self._end is not None:
            _warn(
                "could not notify", notify(self._notify, self._end, self._key, patient=not hurried)
            )

    def _finish(self, status: str, code: int, reason: str | None, counts: "Counts | None") -> None:
        because = f" ({reason})" if reason else ""
        known = counts.model_dump() if counts else {}
        known |= {"left_out": sum(counts.left_out.values())} if counts else {}
        errors, before = known.pop("errors", {}), known.pop("failed_before_by_code", {})
        labelled, failed = known.get("labelled", 0), known.get("failed", 0)
        self._end = Finished(
            run_id=self._run_id,
            dst=self._dst,
            src=self._src,
            status=status,
            exit_code=code,
            reason=reason,
            recipe=self._recipe,
            counts=known,
            errors=errors,
            failed_before_by_code=before,
            seconds=round(time.monotonic() - self._began, 3),
            text=f"nightlabel: {self._dst}: {status}{because}, {labelled:,} {self._done}, "
            f"{failed:,} failed",
        )
        self._send(self._end)

    def _send(self, event: Event) -> None:
        if self._log is not None:
            self._log.add(event)


def _model(model: str | None) -> str | None:
    return named(model) if model is not None and "://" in model else model


def _how(error: BaseException) -> tuple[str, Exit]:
    if isinstance(error, BusyError):
        return "busy", error.exit_code
    if isinstance(error, NightlabelError):
        return "failed", error.exit_code
    if isinstance(error, Terminated):
        return "interrupted", Exit.TERMINATED
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", Exit.INTERRUPTED
    return "failed", Exit.FAILED


def _warn(what: str, problem: str | None) -> None:
    if problem is not None:
        logging.getLogger("nightlabel").warning("nightlabel: %s: %s", what, problem)
