"""What travels to every task and actor of a run."""

from dataclasses import dataclass
from typing import Any

from pipeline.images import Preprocess
from pipeline.sources import Source
from pipeline.spec import SECRETS, LabelSpec
from pipeline.storage import Folder, recorded
from pipeline.tasks import Recipe, Task


class Sealed:
    """A job on its way into an actor.

    Ray Data tells dashboards, and files where it exports events, what an actor is made with: all
    fields of it, or `str` of what has none. Of this it tells the name.
    """

    __slots__ = ("job",)

    def __init__(self, job: "Job") -> None:
        self.job = job


@dataclass(frozen=True)
class Job:
    """One run, resolved and checked: small, picklable, the same everywhere.

    `weights` are the bytes of the model's; `model` is None where the task has none.
    """

    run_id: str
    spec: LabelSpec
    source: Source
    folder: Folder
    task: Task
    model: str | None
    revision: str | None
    weights: int
    preprocess: Preprocess
    recipe: Recipe

    @property
    def recorded_spec(self) -> dict[str, Any]:
        """The specification as a run records and a plan tells it: without credentials."""
        return {
            name: recorded(value) if isinstance(value, str) else value
            for name, value in self.spec.model_dump(mode="json", exclude=set(SECRETS)).items()
        }
