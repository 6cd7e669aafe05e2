"""Failed rows of a recipe: how many by code, and the newest of each."""

from collections import Counter
from collections.abc import Collection
from datetime import datetime
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from pipeline.errors import ADVICE, MEANINGS, ErrorCode
from pipeline.store.parts import read_part
from pipeline.store.reader import LabelStore

_COLUMNS: Final = ["error_code", "uri", "member", "error_message", "labelled_at"]
_NEWEST_FIRST: Final = [("labelled_at", "descending"), ("uri", "ascending")]


class FailedRow(BaseModel):
    """One object that has no label."""

    model_config = ConfigDict(frozen=True)

    uri: str
    member: str | None = None
    message: str | None
    at: datetime


class FailedRows(BaseModel):
    """All rows with one error code; `newest` holds some of them."""

    model_config = ConfigDict(frozen=True)

    code: str
    rows: int
    meaning: str
    advice: str
    newest: list[FailedRow]


def failed_rows(
    store: LabelStore, recipe: str | None, codes: Collection[str], newest: int
) -> list[FailedRows]:
    """Failures under `recipe` (the current one if None), the most frequent code first.

    `codes` selects codes; empty means all. Reads file by file and keeps the
    `newest` rows of each code, so memory does not grow with the store.
    """
    counts: Counter[str] = Counter()
    kept: dict[str, pa.Table] = {}
    for file in store.live(recipe):
        rows = read_part(store.folder, file, _COLUMNS)
        rows = rows.filter(pc.is_valid(rows["error_code"]))
        for pair in pc.value_counts(rows["error_code"].combine_chunks()).to_pylist():
            code = pair["values"]
            if codes and code not in codes:
                continue
            counts[code] += pair["counts"]
            found = rows.filter(pc.equal(rows["error_code"], code))
            before = [kept[code]] if code in kept else []
            together = pa.concat_tables([*before, found])
            kept[code] = together.take(pc.select_k_unstable(together, newest, _NEWEST_FIRST))
    return [_described(code, rows, kept[code]) for code, rows in counts.most_common()]


def _described(code: str, rows: int, newest: pa.Table) -> FailedRows:
    known = ErrorCode(code) if code in {*ErrorCode} else None
    return FailedRows(
        code=code,
        rows=rows,
        meaning=MEANINGS[known] if known else "a newer version of nightlabel wrote it",
        advice=ADVICE[known] if known else "Update nightlabel.",
        newest=[
            FailedRow(
                uri=row["uri"],
                member=row["member"],
                message=row["error_message"],
                at=row["labelled_at"],
            )
            for row in newest.to_pylist()
        ],
    )
