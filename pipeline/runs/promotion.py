"""Promotion: when a run changes the recipe that readers see, and when it must not."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from pipeline.graph.job import Job
from pipeline.runs.scopes import Scope, uncovered, widest, words
from pipeline.storage import Folder
from pipeline.store.choice import Choice, choose, clear_dead_drop, load_current
from pipeline.store.delta.table import Table
from pipeline.store.run_index import RunIndex
from pipeline.store.runs import RunSummary, read_runs
from pipeline.store.skipped import warn_of_skipped


@dataclass(frozen=True, slots=True)
class Promotion:
    """What one run does to the choice of recipe. `seen` is the choice when the run began.

    A choice made during the run, by a person or by a run that took over, is kept.
    """

    folder: Folder
    recipe: str
    asked: bool
    seen: Choice

    @classmethod
    def begin(cls, folder: Folder, table: Table, recipe: str, *, asked: bool) -> Self:
        """Called under the lease. If readers saw no rows, they see this run's from now on."""
        clear_dead_drop(folder, table)
        seen = Choice.read(folder)
        if not rows_of(table, seen.recipe) and seen.recipe != recipe:
            choose(folder, recipe, seen)
            seen = Choice.read(folder)
        return cls(folder, recipe, asked, seen)

    @classmethod
    def of(cls, job: Job, table: Table) -> Self:
        """The promotion for a job; it reports if readers will not see the run's labels yet."""
        promotion = cls.begin(job.folder, table, job.recipe.id, asked=job.spec.promote)
        if promotion.seen.recipe not in (None, job.recipe.id):
            note = f"current: {promotion.seen.recipe}; this run writes {job.recipe.id}"
            logging.getLogger("nightlabel").warning("nightlabel: %s", note)
        return promotion

    def note(self, run: RunSummary) -> None:
        """The text about promotion that `run` records until it ends."""
        run.current = self.seen.recipe
        run.promoted = False if self.asked else None

    def end(self, run: RunSummary) -> None:
        """Let readers see a whole run's recipe, if that was asked for; `run` records the result.

        Raises StoreError if the choice cannot be determined.
        """
        if not self.asked:
            run.current = Choice.read(self.folder).recipe
            return
        moves = self.seen.recipe not in (None, self.recipe)
        # A change of what readers see is based on the run documents, not on their index.
        runs = read_runs(self.folder, None if moves else RunIndex.read(self.folder))
        warn_of_skipped(runs.unread)
        why = why_not(run, self.seen.recipe, runs.found)
        if why is None and runs.unread and moves:
            why = f"it is not known what {self.seen.recipe} covers: {runs.unread[0]}"
        if why is None and not choose(self.folder, self.recipe, self.seen):
            why = "somebody chose another recipe while it ran"
        run.current = Choice.read(self.folder).recipe
        run.promoted = why is None
        if why is not None:
            run.not_promoted = (
                f"not promoted: {why}; readers see {run.current}. To choose it anyway: "
                f"nightlabel use {run.spec.get('dst', 'DST')} {self.recipe}"
            )


def current_of(folder: Folder, table: Table) -> str | None:
    """The recipe that readers see; None if it has no rows: the next run takes its place."""
    recipe = load_current(folder)
    return recipe if rows_of(table, recipe) else None


def rows_of(table: Table, recipe: str | None) -> int:
    return sum(file.num_rows for file in table.live() if file.recipe == recipe)


def why_not(run: RunSummary, current: str | None, runs: Iterable[RunSummary]) -> str | None:
    """Why readers must not see the recipe of `run`, which has ended, instead of `current`; else
    None.

    It must have a row for every object that the whole runs of `current` listed, and `run` itself
    must list everything that one of them did.
    """
    if run.exit_code or not run.whole:
        return f"the run ended {run.status}, with exit {run.exit_code}"
    for option in ("limit", "max_images"):
        if run.spec.get(option):
            return f"a run with --{option.replace('_', '-')} covers only a part of the archive"
    runs = list(runs)
    mine = [run.scope, *(past.scope for past in runs if past.recipe == run.recipe and past.whole)]
    theirs = widest(_scopes(runs, current))
    left = uncovered(theirs, mine)
    if theirs and len(uncovered(theirs, [run.scope])) == len(theirs):
        left = theirs  # past runs may have been wide, but this one is narrower than any of them
    return f"{current} also covers {words(left[0])}" if left else None


def _scopes(runs: list[RunSummary], recipe: str | None) -> list[Scope]:
    """The scopes that a recipe's labels cover: those of its whole runs, else of all its runs.

    This includes the scopes that rows moved to: whole runs at the old place no longer count.
    """
    its = [run for run in runs if run.recipe == recipe and not run.dropped]
    return [run.scope for run in its if run.whole or (run.moved_from and run.finished)] or [
        run.scope for run in its
    ]
