"""`nightlabel verify`"""

from typing import TYPE_CHECKING, Any

import click

from pipeline.cli import options
from pipeline.cli.console.output import left_out_rows, say, say_json, say_table, say_unreadable
from pipeline.cli.console.progress import listener
from pipeline.cli.console.quiet import quiet_libraries
from pipeline.graph.progress import nobody
from pipeline.job_options import Group

if TYPE_CHECKING:
    from pipeline.runs.verify import Verification


@click.command(cls=options.JobCommand)
@options.both_ends
@options.source
@options.option(
    "--model",
    "where",
    metavar="FOLDER",
    group=Group.MODEL,
    help="Folder of the recipe's model, if it has moved.",
    shell_complete=options.paths,
)
@options.option(
    "--sample",
    type=click.IntRange(0),
    default=16,
    metavar="N",
    show_default=True,
    group=Group.RUN,
    help="Number of images to label again; 0: none.",
)
@options.option(
    "--seed",
    default=0,
    metavar="N",
    show_default=True,
    group=Group.RUN,
    help="Seed of the random sample.",
)
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
    """Check that every image has exactly one correct row.

    Compares SRC, the table and its files: listed = done + failed before + remaining, and no row
    is there twice. Labels a sample again with the reference preprocessing, and compares.

    \b
    Example:
      nightlabel verify s3://bucket/photos s3://bucket/labels

    Exit: 0 OK; 3 problems found; 4 OK, but images remain to be labelled.
    """
    from pipeline.engine.address import check_address
    from pipeline.runs.usage import check_paths

    spec = options.spec_from(given)
    check_paths(spec.src, where)
    if spec.address:
        check_address(spec.address)
    from pipeline.runs.verify import verify as run

    with quiet_libraries(debug=debug), listener(silent=False) as listen:
        found = run(spec, sample=sample, seed=seed, model=where, listener=listen or nobody)
    if as_json:
        say_json(found.model_dump(mode="json") | {"exit_code": found.exit_code})
    else:
        _say(found)
    say_unreadable(found.unreadable, found.counts.unreadable)
    return found.exit_code


def _say(found: "Verification") -> None:
    from pipeline.cli.summary import with_codes
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
        rows.append(("files not merged yet", found.unmerged_parts))
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
        say(f"problem: {problem}")
    say(_verdict(len(found.problems)))


def _verdict(problems: int) -> str:
    if not problems:
        return "OK"
    return f"FAILED: {problems:,} problem{'s' if problems > 1 else ''}"
