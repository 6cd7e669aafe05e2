"""`nightlabel plan`"""

from typing import TYPE_CHECKING, Any

import click

from pipeline.cli import options
from pipeline.cli.output import (
    duration,
    left_out_rows,
    say,
    say_json,
    say_table,
    say_unreadable,
    size,
)
from pipeline.cli.quiet import quiet_libraries
from pipeline.errors import Exit

if TYPE_CHECKING:
    from pipeline.flow.plan import Plan


@click.command()
@options.job
@click.option("--no-probe", is_flag=True, help="Do not label a few images to tell the time.")
@options.config
@options.output
def plan(no_probe: bool, as_json: bool, debug: bool, **given: Any) -> int:
    """Say what `label` would do: counts, bytes, what is done, the time it may take.

    \b
    Example:
      nightlabel plan s3://bucket/photos s3://bucket/labels

    Exit: 0 if label would start, 2 if it would refuse.
    """
    spec = options.spec_of_run(given)
    from pipeline.flow.plan import plan as run

    with quiet_libraries(debug=debug):
        found = run(spec, probe=not no_probe)
    if as_json:
        say_json(found.model_dump(mode="json"))
    else:
        _say(found)
    say_unreadable(found.unreadable, found.counts.unreadable)
    return Exit.USAGE if found.refused else Exit.OK


def _say(found: "Plan") -> None:
    counts = found.counts
    rows: list[tuple[str, object]] = [
        ("listed", counts.listed),
        ("left out", counts.excluded),
        ("labelled already", counts.done),
        ("failed before", counts.failed_before),
        ("to label", f"{counts.todo:,} ({counts.new:,} new, {counts.changed:,} changed)"),
        ("to read", size(counts.bytes)),
        ("gone", counts.gone),
        ("recipe", found.recipe),
        *left_out_rows(counts.left_out),
    ]
    if found.current not in (None, found.recipe):
        rows.append(("current", f"{found.current}; label would write {found.recipe}"))
    if counts.unreadable:
        rows.append(("cannot be read", counts.unreadable))
    if found.probe:
        rows += [
            ("speed here", f"{found.probe.images_per_second} img/s on {found.probe.device}"),
            ("time here", duration(found.probe.expected_seconds)),
        ]
    say_table(rows, f"{found.src} → {found.dst}")
    if found.refused:
        say(f"label would refuse: {found.refused}", err=True)
