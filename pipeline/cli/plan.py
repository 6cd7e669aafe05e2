"""`nightlabel plan`"""

from typing import TYPE_CHECKING, Any

import click

from pipeline.cli import options
from pipeline.cli.console.output import (
    duration,
    left_out_rows,
    say,
    say_json,
    say_table,
    say_unreadable,
    size,
    words_of,
)
from pipeline.cli.console.progress import listener
from pipeline.cli.console.quiet import quiet_libraries
from pipeline.errors import Exit
from pipeline.graph.progress import nobody
from pipeline.job_options import Group
from pipeline.words import LABELLING, Words

if TYPE_CHECKING:
    from pipeline.runs.plan import Plan


#: "left out by default", the longest name of a row.
LONGEST = 19


@click.command(cls=options.JobCommand)
@options.job
@options.task
@options.option(
    "--no-probe",
    is_flag=True,
    group=Group.RUN,
    help="Do not label a few images to estimate the time.",
)
@options.config
@options.output
def plan(no_probe: bool, as_json: bool, debug: bool, **given: Any) -> int:
    """Show what `label` would do: how many images, how many bytes, about how long.

    \b
    Example:
      nightlabel plan s3://bucket/photos s3://bucket/labels

    Exit: 0 if label would start, 2 if it would refuse to.
    """
    spec = options.spec_of_run(given)
    from pipeline.runs.plan import plan as run

    words = words_of(spec)
    with quiet_libraries(debug=debug), listener(silent=False, words=words) as listen:
        found = run(spec, probe=not no_probe, listener=listen or nobody)
    if as_json:
        say_json(found.model_dump(mode="json"))
    else:
        _say(found, words)
    say_unreadable(found.unreadable, found.counts.unreadable)
    return Exit.USAGE if found.refused else Exit.OK


def _say(found: "Plan", words: Words = LABELLING) -> None:
    from pipeline.cli.summary import with_codes
    from pipeline.store.runs import word

    counts = found.counts
    failed = with_codes(counts.failed_before, counts.failed_before_by_code)
    kinds = ", ".join(f"{getattr(counts, n):,} {word(n)}" for n in ("new", "changed", "retried"))
    rows: list[tuple[str, object]] = [
        (word("listed"), counts.listed),
        (word("excluded"), counts.excluded),
        (word("done"), counts.done),
        (word("failed_before"), failed),
        (f"to {words.verb}", f"{counts.todo:,} ({kinds})"),
        (word("bytes"), size(counts.bytes)),
        (word("gone"), counts.gone),
        ("recipe", found.recipe),
        *left_out_rows(counts.left_out),
    ]
    if found.current not in (None, found.recipe):
        rows.append(("current", f"{found.current}; {words.verb} would write {found.recipe}"))
    if counts.unreadable:
        rows.append((word("unreadable"), counts.unreadable))
    if found.memory:
        rows.append(("memory here", found.memory))
    if probe := found.probe:
        loads = " and load the model" if words.loads_model else ""
        by = f", by {probe.runtime}" if probe.runtime else ""
        start = f"including {duration(probe.start_seconds)} to start Ray{loads}"
        rows += [
            ("speed here", f"{probe.images_per_second} img/s on {probe.device}{by}"),
            ("time here", f"{duration(probe.expected_seconds)}, {start}"),
        ]
        if probe.summary:
            rows.append((f"of {probe.images} images", probe.summary))
    say_table(rows, f"{found.src} → {found.dst}", least=LONGEST)
    if found.refused:
        say(f"{words.verb} would refuse: {found.refused}", err=True)
