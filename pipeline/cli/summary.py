"""Runs a task from the command line, and prints the result."""

import shlex
from typing import TYPE_CHECKING, Any

from pipeline.cli.console.devices import gpu_rows
from pipeline.cli.console.output import (
    duration,
    left_out_rows,
    say,
    say_json,
    say_table,
    say_unreadable,
    words_of,
)
from pipeline.cli.console.progress import listener
from pipeline.cli.console.quiet import quiet_libraries
from pipeline.graph.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.spec import LabelSpec
    from pipeline.store.runs import RunSummary


def run_and_say(spec: "LabelSpec", *, silent: bool, as_json: bool, debug: bool) -> "RunSummary":
    """Run any task; print progress on stderr and the result on stdout."""
    words = words_of(spec)
    with quiet_libraries(debug=debug), listener(silent=silent, words=words) as listen:
        if listen is not None:
            listen(Progress("importing"))
        from pipeline.runs.label import label as run

        summary = run(spec, listen)
    if as_json:
        say_json(summary.model_dump(mode="json"))
    else:
        say_summary(summary)
        say_next(summary)
    if summary.not_promoted:
        say(f"nightlabel: {summary.not_promoted}", err=True)
    say_unreadable(summary.unreadable, summary.counts.unreadable)
    return summary


def say_summary(summary: "RunSummary") -> None:
    """Print the result of a run for people, in the words of docs/labels.md."""
    from pipeline.store.runs import word

    counts = summary.counts
    rows: list[tuple[str, object]] = [
        (word("listed"), counts.listed),
        (word("done"), counts.done),
        (word("failed_before"), with_codes(counts.failed_before, counts.failed_before_by_code)),
        (words_of(summary.spec).done, counts.labelled),
        (word("failed"), with_codes(counts.failed, counts.errors)),
        ("remaining", counts.remaining),
    ]
    optional = ("excluded", "derived", "changed", "retried", "gone", "deleted", "unreadable")
    rows += [(word(name), getattr(counts, name)) for name in optional if getattr(counts, name)]
    if summary.current not in (None, summary.recipe):
        rows.append(("current", f"{summary.current}; this run wrote {summary.recipe}"))
    rows += left_out_rows(counts.left_out)
    if summary.images_per_second is not None:
        rows.append(("speed", f"{summary.images_per_second:,.1f} img/s"))
    rows += gpu_rows(summary.device_seconds)
    reason = f" ({summary.reason})" if summary.reason else ""
    title = f"{summary.status}{reason} in {duration(summary.seconds.get('all', 0.0))}"
    say_table(rows, f"run {summary.run_id}: {title}")
    for warning in _warnings(summary):
        say(f"  warning: {warning}")


def with_codes(number: int, by_code: dict[str, int]) -> str:
    """`32 (denied 30, truncated 2)`."""
    most_first = sorted(by_code.items(), key=lambda pair: (-pair[1], pair[0]))
    codes = ", ".join(f"{code} {count:,}" for code, count in most_first)
    return f"{number:,} ({codes})" if codes else f"{number:,}"


def say_next(summary: "RunSummary") -> None:
    """Print where the labels are, how to read them, and what to do next."""
    dst = summary.spec["dst"]
    rows = [
        (words_of(summary.spec).results, dst),
        ("read them", f"{dst}/recipe={summary.recipe}/*.parquet"),
    ]
    rows += [("next", command) for command in _next(summary)]
    say_table(rows)


def _next(summary: "RunSummary") -> list[str]:
    spec, counts = summary.spec, summary.counts
    ends = [spec["src"], spec["dst"]]
    found = []
    if counts.failed or counts.failed_before:
        found.append(["errors", spec["dst"]])
    if summary.status == "complete":
        found.append(["verify", *ends, *_scope_options(spec)])
    elif summary.status == "incomplete":
        found.append(["runs", spec["dst"]])
    return [shlex.join(["nightlabel", *words]) for words in found]


def _scope_options(spec: dict[str, Any]) -> list[str]:
    """The options that chose the images of this run; the next command needs them too."""
    found = [f"--{name}={glob}" for name in ("include", "exclude") for glob in spec.get(name) or ()]
    if spec.get("limit"):
        found.append(f"--limit={spec['limit']}")
    if spec.get("modified_since"):
        found.append(f"--modified-since={spec['modified_since']}")
    if spec.get("default_excludes") is False:
        found.append("--no-default-excludes")
    if spec.get("manifest") is not None:
        found.append("--manifest" if spec["manifest"] else "--no-manifest")
    flags = ("check_changes", "allow_private")
    return found + [f"--{name.replace('_', '-')}" for name in flags if spec.get(name)]


def _warnings(summary: "RunSummary") -> "Iterable[str]":
    if not summary.clipping:
        return ()
    from pipeline.images import Depth, clipping_warnings

    depths = {mode: Depth(**counts.model_dump()) for mode, counts in summary.clipping.items()}
    return clipping_warnings(depths)
