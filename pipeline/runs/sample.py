"""Working on a few rows again, from the object's bytes, by the reference of their task.

Nothing that made the rows is used: for labels not our decoding, preprocessing, layers or scores.
"""

from contextlib import suppress
from typing import Final

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny

from pipeline.engine.memory_budget import budget_here
from pipeline.errors import ImageError, TransientError
from pipeline.isolation.node_room import NodeRoom
from pipeline.sources import rules_of, wants_of
from pipeline.spec import LabelSpec
from pipeline.storage import member_name, read_many
from pipeline.tasks import Difference, Recipe, Task

READS: Final = 8


class Sample(BaseModel):
    """What working on a sample again came to."""

    model_config = ConfigDict(frozen=True)

    images: int
    agree: int
    unreadable: int
    differences: list[SerializeAsAny[Difference]]
    #: What people call working on an image: labelled, …
    done: str = Field("labelled", exclude=True)

    def problems(self) -> list[str]:
        return [difference.words() for difference in self.differences]


def check_sample(task: Task, spec: LabelSpec, recipe: Recipe, rows: pa.Table) -> Sample:
    """Work on `rows` again and compare. They have uri, member, etag, size, modified, address, place
    and data as of REFS, and the task's columns.

    Raises BadModelError if the recipe's model is no longer what made the rows.
    """
    reference = task.reference(spec, recipe, NodeRoom(budget_here(spec)))
    found: list[Difference | None] = []
    reads = read_many(
        wants_of(rows), max_bytes=spec.max_bytes, rules=rules_of(spec), in_flight=READS
    )
    for index, outcome in reads:
        if isinstance(outcome, ImageError | TransientError):
            continue  # it was well once, and is gone or out of reach now
        with suppress(ImageError):  # counted as unreadable; other limits may hold today
            truth = reference(outcome)
            row = rows.slice(index, 1).to_pylist()[0]
            row["uri"] = member_name(row["uri"], row["member"])
            found.append(task.agree(row, truth, recipe))
    differences = [difference for difference in found if difference is not None]
    return Sample(
        images=len(found),
        agree=len(found) - len(differences),
        unreadable=rows.num_rows - len(found),
        differences=differences,
        done=task.words.done,
    )
