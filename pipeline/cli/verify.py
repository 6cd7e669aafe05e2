"""`nightlabel verify`"""

from typing import TYPE_CHECKING, Any

import click

from pipeline.cli import options
from pipeline.cli.output import left_out_rows, say, say_json, say_table, say_unreadable
from pipeline.cli.progress import listener
from pipeline.cli.quiet import quiet_libraries
from pipeline.flow.progress import nobody

if TYPE_CHECKING:
    from pipeline.flow.verify import Verification


@click.command()
@options.both_ends
@options.source
@click.option(
    "--model",
    "where",
    metavar="FOLDER",
    help="Where the recipe's model is now.",
    shell_complete=options.paths,
)
@click.option(
    "--sample",
    type=click.IntRange(0),
    default=16,
    show_default=True,
    help="Images to label again; 0 for none.",
)
@click.option("--seed", default=0, show_default=True, help="Which images those are.")
@options.address
@options.config
@options.output
def verify(
    where: str | None,
    sample: int,
    seed: int,
    as_json: bool,
    debug: bool,
    **given: Any,
) -> int:
    """Prove that listed = done + failed before + remaining, and that no row is there twice.

    Holds SRC, the table and its files against each other, and labels a sample again with
    the reference processor.

    \b
    Example:
      nightlabel verify s3://bucket/photos s3://bucket/labels

    Exit: 0 all true, 3 something is wrong, 4 true but objects remain to be labelled.
    """
    from pipeline.flow.address import check_address
    from pipeline.flow.usage import check_paths

    spec = options.spec_from(given)
    check_paths(spec.src, where)
    if spec.address:
        check_address(spec.address)
    from pipeline.flow.verify import verify as run

    with quiet_libraries(debug=debug), listener(silent=False) as listen:
        found = run(spec, sample=sample, seed=seed, model=where, listener=listen or nobody)
    if as_json:
        say_json(found.model_dump(mode="json") | {"exit_code": found.exit_code})
    else:
        _say(found)
    say_unreadable(found.unreadable, found.counts.unreadable)
    return found.exit_code


def _say(found: "Verification") -> None:
    from pipeline.cli.label import with_codes
    from pipeline.store.runs import word

    counts = found.counts
    failed = with_codes(counts.failed_before, counts.failed_before_by_code)
    rows: list[tuple[str, object]] = [
        (word("listed"), counts.listed),
        (word("done"), counts.done),
        (word("failed_before"), failed),
        ("remaining", f"{counts.todo:,} ({found.newer:,} newer than the last whole run)"),
        (word("gone"), counts.gone),
        ("rows", found.rows),
        ("rows twice", found.doubled),
    ]
    rows += left_out_rows(counts.left_out)
    if counts.unreadable:
        rows.append(("cannot be read", counts.unreadable))
    if found.unmerged_parts:
        rows.append(("parts not merged yet", found.unmerged_parts))
    if found.sample:
        again = f"{found.sample.agree} of {found.sample.images} agree"
        unreadable = found.sample.unreadable
        rows.append(
            (
                f"{found.sample.done} again",
                f"{again}, {unreadable} unreadable" if unreadable else again,
            )
        )
    say_table(rows, f"recipe {found.recipe}, version {found.version}")
    for problem in found.problems:
        say(f"WRONG: {problem}")
    say("not true" if found.problems else "true")
