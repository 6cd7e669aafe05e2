"""Everything that can be refused before the first image is read."""

from datetime import UTC, datetime

from pipeline.errors import MissingError, SpecError
from pipeline.flow.gcs import check_cluster
from pipeline.flow.job import Job
from pipeline.flow.progress import Listener, Progress, nobody
from pipeline.flow.remembered import checked_preprocess
from pipeline.flow.usage import check_usage
from pipeline.models.fetch import fetch
from pipeline.models.recipe import Recipe, known_recipes
from pipeline.sources import open_source
from pipeline.spec import LabelSpec
from pipeline.storage import Folder, canonical
from pipeline.store.choice import load_current
from pipeline.store.recipes import load_recipes
from pipeline.store.runs import new_run_id
from pipeline.store.table import Table


def prepare(spec: LabelSpec, run_id: str | None = None, listener: Listener = nobody) -> Job:
    """Resolve and check cluster, source, model and recipe, of a run with this id or a new one.

    Raises SpecError, ClusterError, ModelError, MissingError or DeniedError, each naming the mend.
    """
    check_usage(spec)
    check_cluster(spec.address)
    source = open_source(spec)
    source.check(spec.dst)
    listener(Progress("model"))
    model = fetch(spec.model, spec.revision)
    preprocess = checked_preprocess(model)
    return Job(
        run_id=run_id or new_run_id(datetime.now(UTC)),
        spec=spec,
        source=source,
        folder=Folder(canonical(spec.dst)),
        model=model.id,  # absolute: a worker's working folder is another
        revision=model.revision,
        weights=model.weights_bytes,
        preprocess=preprocess,
        recipe=Recipe.of(spec, model, preprocess.as_dict()),
    )


def open_table(folder: Folder) -> Table | None:
    """The store's table, or None where there is no store yet."""
    try:
        return Table.open(folder)
    except MissingError:
        return None


def check_recipe(job: Job, table: Table) -> None:
    """Refuse a recipe that is new to a store with rows, unless it was asked for."""
    used = {file.recipe for file in table.live()}
    if not used or job.recipe.id in used or job.spec.new_recipe:
        return
    current = load_current(job.folder)
    documents = load_recipes(job.folder, only=[current] if current else None)
    known = known_recipes(documents)
    before = known.get(current or "") or next(iter(known.values()), None)
    changes = before.differences(job.recipe) if before else []
    raise SpecError(
        "model",
        job.spec.model,
        f"this store was labelled by another recipe ({current}); what changed: "
        f"{'; '.join(changes) or 'unknown'}. Labels of another recipe go beside the old ones "
        "with --new-recipe",
    )
