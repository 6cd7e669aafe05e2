"""Outcome of a run: status and exit code, from its counts."""

from typing import TYPE_CHECKING

from pipeline.errors import TRANSIENT_CODES, Exit
from pipeline.spec import LabelSpec
from pipeline.store.runs import Counts, Status

if TYPE_CHECKING:
    from pipeline.graph.result_queue import Reason

_STOPPED: dict["Reason", tuple[Status, Exit, str]] = {
    "interrupted": ("interrupted", Exit.INTERRUPTED, "interrupted"),
    "terminated": ("interrupted", Exit.TERMINATED, "terminated"),
    "deadline": ("incomplete", Exit.INCOMPLETE, "the deadline was reached"),
    "lease": ("failed", Exit.BUSY, "another run took over"),
}


def over_gate(spec: LabelSpec, counts: Counts) -> bool:
    """Did too many of the objects that this run processed fail?"""
    return counts.failed > spec.errors_allowed(counts.processed, counts.failed)


def conclude(
    spec: LabelSpec, counts: Counts, *, reason: "Reason | None", listing_complete: bool
) -> tuple[Status, Exit, str | None]:
    """Status, exit code and the reason in words.

    What ended the run from outside is reported first, then the error limit, then anything else.
    """
    if reason in _STOPPED and _STOPPED[reason][1] is not Exit.INCOMPLETE:
        return _STOPPED[reason]
    unreadable = (
        f"{counts.unreadable:,} folders or archives cannot be read" if counts.unreadable else None
    )
    if over_gate(spec, counts):
        return "gate", Exit.GATE, _gate_words(spec, counts)
    if spec.strict_listing and counts.unreadable:
        return "failed", Exit.FAILED, unreadable
    if reason in _STOPPED:
        status, code, words = _STOPPED[reason]
        return status, _softened(spec, code), words
    transient = sum(counts.errors.get(code, 0) for code in TRANSIENT_CODES)
    if counts.remaining or transient or not listing_complete:
        words = f"{counts.remaining + transient:,} objects are left for the next run"
        return "incomplete", _softened(spec, Exit.INCOMPLETE), words
    return "complete", Exit.OK, unreadable


def _gate_words(spec: LabelSpec, counts: Counts) -> str:
    processed = counts.processed
    allowed = spec.errors_allowed(processed, counts.failed)
    return (
        f"{counts.failed:,} errors, over the {allowed:,} allowed of {processed:,} processed "
        "(--max-errors)"
    )


def _softened(spec: LabelSpec, code: Exit) -> Exit:
    return Exit.OK if code is Exit.INCOMPLETE and spec.partial_ok else code
