"""Task: the one protocol through which the pipeline knows what is asked of an image.

A task without a network runs where images are decoded. A task with a network runs in an actor
that loads it once. A task has no state: it is sent to every worker with the job.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from pipeline import schema
from pipeline.errors import SpecError
from pipeline.images import Preprocess, Room
from pipeline.job_options import OF_A_NETWORK, OF_VECTORS
from pipeline.spec import LabelSpec
from pipeline.tasks.recipe import Recipe
from pipeline.words import Words

if TYPE_CHECKING:
    from pipeline.models.backends.graph import Graph
    from pipeline.models.purpose import Purpose


@dataclass(frozen=True, slots=True)
class Prepared:
    """A task resolved and checked: what a run sends to its workers.

    `model` is its id or absolute path, None for a task without a network. `weights` is the size of
    the model's weights in bytes. `preprocess` is the size that each image is resized to.
    """

    model: str | None
    revision: str | None
    weights: int
    preprocess: Preprocess
    recipe: Recipe


class Setting(Protocol):
    """What a worker is told about its run: the job, as far as a task needs it.

    `graph` is the network for OpenVINO on CPUs; None if it runs in torch.
    """

    @property
    def run_id(self) -> str: ...
    @property
    def spec(self) -> LabelSpec: ...
    @property
    def model(self) -> str | None: ...
    @property
    def revision(self) -> str | None: ...
    @property
    def preprocess(self) -> Preprocess: ...
    @property
    def recipe(self) -> Recipe: ...
    @property
    def graph(self) -> "Graph | None": ...


class Worker(Protocol):
    """PIXELS → rows of the task in flight, one for each row, in the same order.

    Rows with an error pass through. `device` is where it runs: `cpu`, or `cuda:` and a name.
    """

    @property
    def device(self) -> str: ...
    def __call__(self, pixels: pa.Table, /) -> pa.Table: ...


class Difference(BaseModel):
    """One image whose stored row differs from the reference."""

    model_config = ConfigDict(frozen=True)

    uri: str

    def words(self) -> str:
        """A description in one line, for people."""
        return f"{self.uri} differs from the reference"


class Task(ABC):
    """A task. To add one: write a subclass, and a line in the registry."""

    #: The task's name, as in `--task`.
    name: ClassVar[str]
    #: The kind of its results (labels, vectors, measures, …). A store holds one kind.
    kind: ClassVar[str]
    #: The columns that it adds to those that all rows have; they must be nullable.
    columns: ClassVar[Sequence[pa.Field]]
    words: ClassVar[Words]
    #: Whether it loads a network, in actors of its own.
    network: ClassVar[bool] = True
    recipe: ClassVar[type[Recipe]]
    #: Options that do not apply to it, beyond those of a network that it does not have.
    refused: ClassVar[Sequence[str]] = OF_VECTORS

    @property
    def rows(self) -> pa.Schema:
        """The Arrow schema of one row in the store."""
        return schema.rows_of(self.columns)

    def variant(self, spec: LabelSpec) -> str:  # noqa: ARG002
        """The name of the task to use: another one if an option asks for more columns."""
        return self.name

    def check(self, spec: LabelSpec) -> None:
        """Refuse options that do not apply to it. Raises SpecError."""
        for name in () if self.network else OF_A_NETWORK:
            self._refuse(name, spec, f"{self.name} has no model; leave this option out")
        for name in self.refused:
            self._refuse(name, spec, f"means nothing to {self.name}; leave this option out")

    def _refuse(self, name: str, spec: LabelSpec, problem: str) -> None:
        if getattr(spec, name) != LabelSpec.model_fields[name].default:
            raise SpecError(name, getattr(spec, name), problem)

    @abstractmethod
    def prepare(self, spec: LabelSpec) -> Prepared:
        """Resolve and check everything that can be refused before an image is read.

        No weights are loaded, and torch is not imported if that can be avoided. Raises
        SpecError or ModelError.
        """

    def purpose(self, recipe: Recipe) -> "Purpose | None":  # noqa: ARG002
        """What is read of its network, so that a graph of it can be made; None: it has no graph."""
        return None

    @abstractmethod
    def load(self, setting: Setting) -> Worker:
        """Load the worker in this process, ready for its first batch. Raises ModelError."""

    @abstractmethod
    def reference(
        self, spec: LabelSpec, recipe: Recipe, room: Room | None = None
    ) -> Callable[[bytes], Any]:
        """Bytes of an image → the value that `agree` compares with its row, computed independently.

        A large image is processed within `room`. The callable raises ImageError for bytes that
        give no image.
        """

    @abstractmethod
    def agree(self, stored: Mapping[str, Any], reference: Any, recipe: Recipe) -> Difference | None:
        """None if a stored row (`uri` and the task's columns) agrees with the reference."""

    @abstractmethod
    def summary(self, rows: pa.Table) -> str:
        """A line for people on some rows, which hold the task's columns."""

    def describe_model(self, spec: LabelSpec) -> str:
        """Describe what `spec.model` gives this task, loaded as in a run. Raises
        NightlabelError."""
        raise SpecError("model", spec.model, f"{self.name} has no model; leave this option out")

    def derives_from(self, recipe: Recipe, documents: Mapping[str, str]) -> list[str]:  # noqa: ARG002
        """Recipes whose rows can be turned into those of `recipe` without reading an image.

        `documents` are recipes as JSON, by id; the best one comes first.
        """
        return []

    def derived(self, rows: pa.Table, recipe: Recipe) -> pa.Table:  # noqa: ARG002
        """Rows of such a recipe, as `recipe` would give them."""
        return rows
