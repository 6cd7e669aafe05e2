"""Labelling a few rows again, from the object's bytes, by transformers alone.

Nothing that made the labels is used: not our decoding, preprocessing, layers or scores.
"""

from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from pipeline.errors import BadModelError, ImageError, TransientError
from pipeline.flow.memory_budget import budget_here
from pipeline.flow.node_room import NodeRoom
from pipeline.images.reference import reference_values
from pipeline.models.fetch import fetch
from pipeline.models.recipe import Recipe
from pipeline.models.reference import ReferenceModel
from pipeline.sources import rules_of, wants_of
from pipeline.spec import LabelSpec
from pipeline.storage import read_many

#: Two labels are as good as one if the reference scores them this close: a GPU in half
#: precision may be that far from it.
NEAR = 0.02
#: With --precision int8, scores up to 0.06 off were seen (docs/performance.md).
NEAR_INT8 = 0.12
READS = 8


class Difference(BaseModel):
    """One image whose stored label the reference would not give."""

    model_config = ConfigDict(frozen=True)

    uri: str
    stored: str
    stored_score: float
    reference: str
    reference_score: float


class Sample(BaseModel):
    """What labelling a sample again came to."""

    model_config = ConfigDict(frozen=True)

    images: int
    agree: int
    unreadable: int
    differences: list[Difference]

    def problems(self) -> list[str]:
        return [
            f"{d.uri} is labelled {d.stored!r} ({d.stored_score:.3f}), the reference says "
            f"{d.reference!r} ({d.reference_score:.3f})"
            for d in self.differences
        ]


def check_sample(spec: LabelSpec, recipe: Recipe, rows: pa.Table) -> Sample:
    """Label `rows` (uri, etag, size, modified, address, label, score) again and compare.

    The model is the recipe's own, in fp32. Raises BadModelError if it is not what made the
    labels: the weights behind a name may have changed since.
    """
    folder = fetch(recipe.model, recipe.revision)
    if folder.weights_sha256 != recipe.weights_sha256:
        raise BadModelError(
            f"{recipe.model} no longer holds the weights that made these labels: name the "
            "folder that does with --model, or leave the sample out with --sample 0"
        )
    reference = ReferenceModel(folder.path)
    room = NodeRoom(budget_here(spec))
    near = NEAR_INT8 if recipe.precision == "int8" else NEAR
    found: list[Difference | None] = []
    reads = read_many(
        wants_of(rows), max_bytes=spec.max_bytes, rules=rules_of(spec), in_flight=READS
    )
    for index, outcome in reads:
        if isinstance(outcome, ImageError | TransientError):
            continue  # it was labelled once, and is gone or out of reach now
        with suppress(ImageError):  # counted as unreadable; other limits may hold today
            values = reference_values(
                outcome, folder.path, recipe.exif, max_pixels=spec.max_pixels, room=room
            )
            row = rows.slice(index, 1).to_pylist()[0]
            found.append(_compare(row, reference.labels, reference.scores(values), near))
    differences = [difference for difference in found if difference is not None]
    return Sample(
        images=len(found),
        agree=len(found) - len(differences),
        unreadable=rows.num_rows - len(found),
        differences=differences,
    )


def _compare(
    row: dict[str, Any], names: list[str], scores: NDArray[np.float32], near: float
) -> Difference | None:
    best = int(scores.argmax())
    stored = max(
        (float(scores[n]) for n, name in enumerate(names) if name == row["label"]), default=0.0
    )
    if names[best] == row["label"] or float(scores[best]) - stored <= near:
        return None
    return Difference(
        uri=row["uri"],
        stored=row["label"],
        stored_score=row["score"],
        reference=names[best],
        reference_score=float(scores[best]),
    )
