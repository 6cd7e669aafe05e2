"""Job: what is sent to every task and actor of a run."""

from dataclasses import dataclass
from typing import Any

from pipeline.images import Preprocess
from pipeline.sources import Source
from pipeline.spec import SECRETS, LabelSpec
from pipeline.storage import Folder, recorded
from pipeline.tasks import Recipe, Task


class Sealed:
    """A job as an actor's argument, hidden from Ray Data's displays.

    Ray Data shows an actor's arguments in dashboards and exported event files: all their fields, or
    `str` of an argument that has none. Here it gets only a name.
    """

    __slots__ = ("job",)

    def __init__(self, job: "Job") -> None:
        self.job = job


@dataclass(frozen=True)
class Job:
    """One run, resolved and checked: small, picklable, the same everywhere.

    `weights` is the size of the model's weights in bytes; `model` is None if the task has none.
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
        """The specification as runs record it and plans show it: without credentials."""
        return {
            name: recorded(value) if isinstance(value, str) else value
            for name, value in self.spec.model_dump(mode="json", exclude=set(SECRETS)).items()
        }
