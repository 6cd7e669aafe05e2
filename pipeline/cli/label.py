"""`nightlabel label`"""

from typing import TYPE_CHECKING, Any

import click

from pipeline.cli import options
from pipeline.cli.output import duration, say, say_json, say_table
from pipeline.cli.progress import listener
from pipeline.cli.quiet import quiet_libraries

if TYPE_CHECKING:
    from pipeline.store.runs import RunSummary


@click.command()
@options.job
@click.option("--dry-run", is_flag=True, help="Say what would be done: the same as plan.")
@options.config
@options.progress
@options.output
@click.pass_context
def label(
    ctx: click.Context,
    /,
    dry_run: bool,
    no_progress: bool,
    as_json: bool,
    debug: bool,
    **given: Any,
) -> int:
    """Bring the labels at DST up to date with the images at SRC.

    Lists SRC (a folder, a glob or a manifest), subtracts what DST holds, labels the rest.
    Run it every night; run it again after a crash. Every image gets exactly one row.

    \b
    Examples:
      nightlabel label s3://bucket/photos s3://bucket/labels
      nightlabel label ./photos ./labels --model ./my-vit --deadline 06:30
      nightlabel label urls.csv gs://bucket/labels --config night.toml

    Exit: 0 done, 1 failed, 2 usage, 3 gate, 4 incomplete, 5 busy.
    """
    if dry_run:
        from pipeline.cli.plan import plan

        result: int = ctx.invoke(plan, no_probe=True, as_json=as_json, debug=debug, **given)
        return result
    from pipeline.flow.driver import label as run

    spec = options.spec_from(given)
    with quiet_libraries(debug=debug), listener(silent=no_progress) as listen:
        summary = run(spec, listen)
    if as_json:
        say_json(summary.model_dump(mode="json"))
    else:
        say_summary(summary)
    if summary.not_promoted:
        say(f"nightlabel: {summary.not_promoted}", err=True)
    return summary.exit_code


def say_summary(summary: "RunSummary") -> None:
    """The end of a run, for people."""
    counts = summary.counts
    failed = ", ".join(f"{code} {n:,}" for code, n in sorted(counts.errors.items()))
    rows: list[tuple[str, object]] = [
        ("listed", counts.listed),
        ("already done", counts.done + counts.failed_before),
        ("labelled", counts.labelled),
        ("errors", f"{counts.failed:,} ({failed})" if failed else counts.failed),
        ("remaining", counts.remaining),
    ]
    optional = (
        ("left out", counts.excluded),
        ("derived", counts.derived),
        ("changed", counts.changed),
        ("gone", counts.gone),
        ("deleted", counts.deleted),
    )
    rows += [(name, number) for name, number in optional if number]
    if summary.current not in (None, summary.recipe):
        rows.append(("current", f"{summary.current}; this run wrote {summary.recipe}"))
    reason = f" ({summary.reason})" if summary.reason else ""
    title = f"{summary.status}{reason} in {duration(summary.seconds['all'])}"
    say_table(rows, f"run {summary.run_id}: {title}")
