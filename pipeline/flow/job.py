"""What travels to every task and actor of a run."""

from dataclasses import dataclass

from pipeline.images import Preprocess
from pipeline.models.recipe import Recipe
from pipeline.sources import Source
from pipeline.spec import LabelSpec
from pipeline.storage import Folder


@dataclass(frozen=True)
class Job:
    """One run, resolved and checked: small, picklable, the same everywhere."""

    run_id: str
    spec: LabelSpec
    source: Source
    folder: Folder
    model: str
    revision: str | None
    preprocess: Preprocess
    recipe: Recipe
