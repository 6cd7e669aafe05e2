"""Preparation: every check that can refuse a run before the first image is read."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from pipeline.engine.gcs import check_cluster
from pipeline.errors import MissingError, ModelError, SpecError, StoreError
from pipeline.graph.job import Job
from pipeline.graph.progress import Listener, Progress, nobody
from pipeline.isolation.child_process import EndedError
from pipeline.isolation.model_process import ModelProcess
from pipeline.runs.usage import check_usage
from pipeline.sources import open_source
from pipeline.spec import LabelSpec
from pipeline.storage import Folder, canonical, public
from pipeline.store.choice import load_current
from pipeline.store.delta.table import Table
from pipeline.store.recipes import load_recipes
from pipeline.store.runs import new_run_id
from pipeline.tasks import Task, known_recipes, task_for
from pipeline.tasks.base import Prepared
from pipeline.tasks.preprocess_cache import elsewhere


def prepare(
    spec: LabelSpec,
    run_id: str | None = None,
    listener: Listener = nobody,
    process: ModelProcess | None = None,
    meanwhile: Callable[[], object] | None = None,
) -> Job:
    """Resolve and check the cluster, source, model and recipe of a run with this id or a new one.

    A model that this machine does not know yet is checked in `process`, if one is given,
    and `meanwhile` is called while that imports transformers.
    Raises SpecError, ClusterError, ModelError, MissingError or DeniedError; each says how to fix
    it.
    """
    check_usage(spec)
    task = task_for(spec)
    task.check(spec)
    check_cluster(spec.address)
    source = open_source(spec)
    source.check(spec.dst)
    if task.network:
        listener(Progress("model"))
    found = _prepared(task, spec, process, meanwhile)
    return Job(
        run_id=run_id or new_run_id(datetime.now(UTC)),
        spec=spec,
        source=source,
        folder=Folder(canonical(spec.dst)),
        task=task,
        model=found.model,
        revision=found.revision,
        weights=found.weights,
        preprocess=found.preprocess,
        recipe=found.recipe,
    )


def _prepared(
    task: Task,
    spec: LabelSpec,
    process: ModelProcess | None,
    meanwhile: Callable[[], object] | None,
) -> Prepared:
    if process is None or "torch" in sys.modules:  # it would import what is here already
        return task.prepare(spec)
    with elsewhere(partial(process, meanwhile=meanwhile)):
        try:
            return task.prepare(spec)
        except EndedError as ended:
            raise ModelError(
                f"checking {spec.model} {ended}: look for a broken torch, or too little memory; "
                "`nightlabel doctor` shows what is installed"
            ) from None


def open_table(folder: Folder) -> Table | None:
    """The store's table, or None if there is no store yet."""
    try:
        return Table.open(folder)
    except MissingError:
        return None


def open_or_create(job: Job) -> Table:
    """The job's table, which this creates in an empty store."""
    table = open_table(job.folder)
    if table is None:
        job.folder.probe_conditional_put()
        try:
            table = Table.create(job.folder, job.task.columns, job.task.kind)
        except StoreError:
            # The first commit may have succeeded although its answer was lost.
            table = open_table(job.folder)
            if table is None:
                raise
    return table


def check_recipe(job: Job, table: Table) -> None:
    """Refuse rows that the store cannot take: results of another kind, and a recipe that is new to
    the store, unless that was asked for."""
    if table.kind != job.task.kind:
        raise SpecError(
            "dst",
            public(job.spec.dst),
            f"holds {table.kind}, and {job.task.name} makes {job.task.kind}; a label store holds "
            "one kind of result: give another folder",
        )
    used = {file.recipe for file in table.live()}
    if not used or job.recipe.id in used or job.spec.new_recipe:
        return
    current = load_current(job.folder)
    documents = load_recipes(job.folder, only=[current] if current else None)
    known = known_recipes(documents)
    before = known.get(current or "") or next(iter(known.values()), None)
    changes = before.differences(job.recipe) if before else []
    words = job.task.words
    raise SpecError(
        *(("model", job.spec.model) if job.task.network else ("task", job.task.name)),
        f"this store was {words.done} by another recipe ({current}); what changed: "
        f"{'; '.join(changes) or 'unknown'}. {words.results.capitalize()} of another recipe go "
        "beside the old ones with --new-recipe",
    )
