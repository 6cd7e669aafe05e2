"""Sample check: recomputes a few rows from the objects' bytes, with the reference of their task.

It uses nothing that made the rows: for labels, not our decoding, preprocessing, layers or scores.
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
    """The result of recomputing a sample."""

    model_config = ConfigDict(frozen=True)

    images: int
    agree: int
    unreadable: int
    differences: list[SerializeAsAny[Difference]]
    #: The word for processing an image, for people: labelled, …
    done: str = Field("labelled", exclude=True)

    def problems(self) -> list[str]:
        return [difference.words() for difference in self.differences]


def check_sample(task: Task, spec: LabelSpec, recipe: Recipe, rows: pa.Table) -> Sample:
    """Recompute `rows` and compare. They have uri, member, etag, size, modified, address, place
    and data as of REFS, and the task's columns.

    Raises BadModelError if the recipe's model no longer matches the one that made the rows.
    """
    reference = task.reference(spec, recipe, NodeRoom(budget_here(spec)))
    found: list[Difference | None] = []
    reads = read_many(
        wants_of(rows), max_bytes=spec.max_bytes, rules=rules_of(spec), in_flight=READS
    )
    for index, outcome in reads:
        if isinstance(outcome, ImageError | TransientError):
            continue  # it was readable once, and is now gone or out of reach
        with suppress(ImageError):  # counted as unreadable; today's limits may differ
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
