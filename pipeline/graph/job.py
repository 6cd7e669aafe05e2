"""Job: what is sent to every task and actor of a run."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import ray

from pipeline.images import Preprocess
from pipeline.models.backends.graph import Graph
from pipeline.sources import Source
from pipeline.spec import SECRETS, LabelSpec
from pipeline.storage import Folder, recorded
from pipeline.tasks import Recipe, Task

if TYPE_CHECKING:
    from ray import ObjectRef


class Sealed:
    """A job as an actor's argument, hidden from Ray Data's displays.

    Ray Data shows an actor's arguments in dashboards and exported event files: all their fields, or
    `str` of an argument that has none. Here it gets only a name.
    """

    __slots__ = ("job",)

    def __init__(self, job: "Job") -> None:
        self.job = job


def with_graph(job: "Job", graph: "ObjectRef | None") -> "Job":
    """The job for a worker that predicts, with its network if that is in Ray's object store."""
    return job if graph is None else replace(job, graph=ray.get(graph))


@dataclass(frozen=True)
class Job:
    """One run, resolved and checked: small, picklable, the same everywhere.

    `weights` is the size of the model's weights in bytes; `model` is None if the task has none.
    `graph` is the network for OpenVINO; only workers have it.
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
    graph: Graph | None = None

    @property
    def recorded_spec(self) -> dict[str, Any]:
        """The specification as runs record it and plans show it: without credentials."""
        return {
            name: recorded(value) if isinstance(value, str) else value
            for name, value in self.spec.model_dump(mode="json", exclude=set(SECRETS)).items()
        }
