"""A store on local disk, and one on the real S3 server."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline import schema
from pipeline.storage import Folder
from pipeline.store.delta.table import Table
from pipeline.tasks.classify import Classify
from tests.parts.servers.s3 import S3Server

#: A row of `classify`, at rest and on its way to the writer.
LABELS = Classify().rows
LABELLED = schema.in_flight(LABELS)

RECIPE = "r00000001"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

Rows = Callable[..., pa.Table]


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.s3)])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "file":
        return Folder(str(tmp_path / "labels"))
    server: S3Server = request.getfixturevalue("s3")
    return Folder(f"{server.bucket()}/some/labels")


def new_table(folder: Folder) -> Table:
    """An empty store of labels."""
    return Table.create(folder, Classify.columns, Classify.kind)


def rows(
    names: Sequence[str | int], *, label: str = "cat", version: int = 1, error: str | None = None
) -> pa.Table:
    """LABELS rows, one a name."""
    uris = [f"s3://photos/{name}" for name in names]
    return pa.Table.from_pylist(
        [
            {
                "uri": uri,
                "object_id": schema.object_id(uri),
                "version": version,
                "label": None if error else label,
                "score": None if error else 0.5,
                "top_k": None if error else [{"label": label, "score": 0.5}],
                "error_code": error,
                "run_id": "run",
                "recipe_id": RECIPE,
                "labelled_at": NOW,
            }
            for uri in uris
        ],
        schema=LABELS,
    )
