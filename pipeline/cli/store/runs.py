"""`nightlabel runs`"""

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from pipeline.cli import options
from pipeline.cli.console.output import duration, say_json, words_of
from pipeline.cli.console.tables import Column, Row, say_columns
from pipeline.errors import MissingError
from pipeline.words import LABELLING

if TYPE_CHECKING:
    from pipeline.storage import Folder
    from pipeline.store.runs import RunSummary

TABLE = (
    Column("run", whole=True),
    Column("started", least=16, whole=True, spare=True),
    Column("took", least=6, right=True),
    Column("labelled", least=11, right=True),
    Column("failed", least=9, right=True),
    Column("remaining", least=11, right=True),
    Column("exit", right=True),
    Column("status", status=True),
)
COLUMNS = tuple(column.name for column in TABLE)


@click.command()
@options.store
@click.option(
    "--run", "run_id", metavar="ID", help="Show this run's numbers, and what its GPUs did."
)
@click.option(
    "--last",
    type=click.IntRange(0),
    default=20,
    metavar="N",
    show_default=True,
    help="Show the newest N runs; 0: all.",
)
@options.output
def runs(
    dst: str,
    run_id: str | None,
    last: int,
    as_json: bool,
    debug: bool,  # noqa: ARG001
) -> int:
    """List the runs that have written to the label store at DST, the newest last.

    The status of a run that was killed is "died". The rows that it committed are valid.

    \b
    Examples:
      nightlabel runs s3://bucket/labels
      nightlabel runs s3://bucket/labels --run 20260131T020000Z-3f9c2a71
    """
    from pipeline.storage import Folder, canonical
    from pipeline.store.run_index import RunIndex
    from pipeline.store.runs import load_runs

    folder = Folder(canonical(dst))
    if run_id is not None:
        _say_one(folder, run_id, as_json=as_json)
        return 0
    found = load_runs(folder, RunIndex.read(folder))
    if not found:
        raise MissingError(f"{dst} has no runs; start one with `nightlabel label SRC {dst}`")
    found = found[-last:] if last else found
    alive = _alive(folder)
    if as_json:
        say_json([run.model_dump(mode="json") | {"status": _status(run, alive)} for run in found])
        return 0
    words = words_of(found[-1].spec)
    columns = [
        replace(one, name=words.done) if one.name == LABELLING.done else one for one in TABLE
    ]
    say_columns(columns, [Row(_row(run, alive)) for run in found])
    return 0


def _say_one(folder: "Folder", run_id: str, *, as_json: bool) -> None:
    """One run, as at its end."""
    from pipeline.cli.summary import say_summary
    from pipeline.storage import public
    from pipeline.store.runs import load_run

    run = load_run(folder, run_id)
    if run is None:
        raise MissingError(
            f"{public(folder.uri)} has no run {run_id}; `nightlabel runs` lists them"
        )
    status = _status(run, _alive(folder))
    if as_json:
        say_json(run.model_dump(mode="json") | {"status": status})
    else:
        say_summary(run.model_copy(update={"status": status}))


def _alive(folder: "Folder") -> str | None:
    """The id of the run that holds the store, unless it is certainly dead."""
    from pipeline.store.lease import read_holder

    try:
        holder = read_holder(folder)
    except MissingError:
        return None
    return None if holder is None or holder.surely_dead() else holder.run_id


def _status(run: "RunSummary", alive: str | None) -> str:
    return "died" if run.status == "running" and run.run_id != alive else run.status


def _row(run: "RunSummary", alive: str | None) -> tuple[str, ...]:
    status = _status(run, alive)
    started = f"{run.started.astimezone():%Y-%m-%d %H:%M}"
    if run.finished is None:
        return run.run_id, started, "-", "-", "-", "-", "-", status
    counts = run.counts
    return (
        run.run_id,
        started,
        duration(run.seconds.get("all", 0.0)),
        f"{counts.labelled:,}",
        f"{counts.failed:,}",
        f"{counts.remaining:,}",
        str(run.exit_code),
        f"{status}: {run.reason}" if run.reason else status,
    )
