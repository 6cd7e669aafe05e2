"""Registry of tasks: what can be asked of an image; one file a task, one line here.

Another package adds a task by an entry point of the group `nightlabel.tasks`, which
names its class: `sky = "my_package.sky:Sky"`. `base.Task` says what the class needs.
"""

import json
import logging
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Final

from pipeline.errors import SpecError, StoreError, printable
from pipeline.spec import LabelSpec
from pipeline.tasks.base import Difference, Prepared, Setting, Task, Worker
from pipeline.tasks.recipe import OtherRecipe, Recipe
from pipeline.words import DEFAULT_TASK, LABELLING, Words

__all__ = [
    "REGISTRY",
    "Difference",
    "Prepared",
    "Recipe",
    "Setting",
    "Task",
    "Words",
    "Worker",
    "known_recipes",
    "recipe_of",
    "task_for",
    "task_named",
    "task_of",
    "words_of",
]

GROUP: Final = "nightlabel.tasks"


def _lazy(module: str, name: str) -> Callable[[], Task]:
    def make() -> Task:
        task: Task = getattr(import_module(f"pipeline.tasks.{module}"), name)()
        return task

    return make


REGISTRY: Final[dict[str, Callable[[], Task]]] = {
    "classify": _lazy("classify", "Classify"),
    "classify-embed": _lazy("classify_embed", "ClassifyEmbed"),
    "embed": _lazy("embed", "Embed"),
    "fingerprint": _lazy("fingerprint", "Fingerprint"),
}


@cache
def task_named(name: str) -> Task:
    """The task of this name, ours or an installed package's. Raises SpecError."""
    if name in REGISTRY:
        return REGISTRY[name]()
    others = {found.name: found for found in entry_points(group=GROUP)}
    if name not in others:
        known = ", ".join(sorted({*REGISTRY, *others}))
        raise SpecError("task", name, f"no such task; there are {known}")
    try:
        task = others[name].load()()
    except (ImportError, AttributeError, TypeError) as error:
        raise SpecError("task", name, f"its package cannot be loaded: {error}") from error
    if not isinstance(task, Task) or task.name != name:
        raise SpecError("task", name, f"{others[name].value} is no task of that name")
    return task


def task_for(spec: LabelSpec) -> Task:
    """The task for a job's task name and options. Raises SpecError."""
    return task_named(task_named(spec.task).variant(spec))


def recipe_of(document: str) -> Recipe:
    """A recipe from a store's document, read by its task.

    If its task is not installed here, the recipe can only be compared with others. Raises
    StoreError for a document that is no recipe.
    """
    task = _known(_task_in(document))
    return (task.recipe if task else OtherRecipe).from_json(document)


def known_recipes(documents: Mapping[str, str]) -> dict[str, Recipe]:
    """Recipes by id, from the documents that this version can read; the others are reported."""
    known = {}
    for name, text in documents.items():
        try:
            known[name] = recipe_of(text)
        except StoreError as error:
            logging.getLogger("nightlabel").warning(
                "nightlabel: the document of recipe %s is skipped: %s", printable(name), error
            )
    return known


def task_of(document: str) -> Task:
    """The task that a recipe's document names. Raises SpecError if it is not installed."""
    return task_named(_task_in(document))


def words_of(spec: LabelSpec | Mapping[str, Any]) -> Words:
    """The words for what a run does, for people, from its specification or its recorded one."""
    name = spec.task if isinstance(spec, LabelSpec) else spec.get("task", DEFAULT_TASK)
    task = _known(name)
    return task.words if task else LABELLING


def _task_in(document: str) -> str:
    """The task's name. Documents from before there were other tasks lack it; they mean
    `classify`."""
    try:
        fields = json.loads(document)
    except (ValueError, RecursionError):
        return DEFAULT_TASK  # its reader reports what is wrong
    named = fields.get("task", DEFAULT_TASK) if isinstance(fields, dict) else DEFAULT_TASK
    return named if isinstance(named, str) else DEFAULT_TASK


def _known(name: object) -> Task | None:
    try:
        return task_named(name) if isinstance(name, str) else None
    except SpecError:
        return None
