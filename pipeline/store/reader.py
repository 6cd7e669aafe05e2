"""Label store reader: exact results while a run is writing."""

from collections import Counter
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import MissingError, StoreError
from pipeline.storage import Folder, canonical, join, public
from pipeline.store.choice import load_current
from pipeline.store.delta.actions import LiveFile
from pipeline.store.delta.table import Table
from pipeline.store.parts import read_part
from pipeline.store.recipes import load_recipes
from pipeline.store.run_index import RunIndex
from pipeline.store.runs import RunSummary, load_runs


class LabelStore:
    """The labels in a folder, at one version of its table.

    `recipe` chooses whose labels: an id, or by default the one that was current just before that
    version was read. (One chosen later may not have been whole then.)
    """

    def __init__(self, uri: str) -> None:
        self.folder = Folder(canonical(uri))
        self._current = load_current(self.folder)
        table = Table.open(self.folder)
        if table is None:
            raise MissingError(f"{uri}: no label store; `nightlabel label SRC {uri}` makes one")
        self._table = table

    @property
    def version(self) -> int:
        return self._table.version

    @property
    def kind(self) -> str:
        """The kind of result that the rows hold, such as `labels` or `measures`."""
        return self._table.kind

    @property
    def schema(self) -> pa.Schema:
        """The columns of a row; files older than a column lack it."""
        return self._table.schema

    def refresh(self) -> Self:
        """Read what was committed and chosen since."""
        self._current = load_current(self.folder)
        self._table.refresh()
        return self

    def current(self) -> str | None:
        """The recipe that readers see."""
        return self._current

    def recipes(self) -> dict[str, str]:
        """How the labels were made: JSON documents by recipe id."""
        return load_recipes(self.folder)

    def runs(self) -> list[RunSummary]:
        """All runs, the oldest first."""
        return load_runs(self.folder, RunIndex.read(self.folder))

    def live(self, recipe: str | None = None) -> list[LiveFile]:
        chosen = recipe or self._current
        return [file for file in self._table.live() if file.recipe == chosen]

    def files(self, recipe: str | None = None) -> list[str]:
        """The uris of the live Parquet files, for readers that do not support Delta."""
        return [join(self.folder.uri, file.path) for file in self.live(recipe)]

    def count(self, recipe: str | None = None) -> int:
        """Number of rows, only from the table's log."""
        return sum(file.num_rows for file in self.live(recipe))

    def to_table(self, columns: list[str] | None = None, recipe: str | None = None) -> pa.Table:
        """All rows in memory, in the store's schema or only the named columns.

        Rows from before a column was added hold null there.
        """
        kept = self.schema if columns is None else pa.schema(map(self.schema.field, columns))
        whole = columns is None
        tables = [read_part(self.folder, file, kept, whole=whole) for file in self.live(recipe)]
        return pa.concat_tables([kept.empty_table(), *tables])

    def label_counts(self, recipe: str | None = None) -> list[tuple[str | None, int]]:
        """(label, rows), the most frequent first; None stands for images without a label.

        Raises StoreError if the store holds something else than labels.
        """
        if "label" not in self.schema.names:
            raise StoreError(f"{public(self.folder.uri)} holds {self.kind}, which have no labels")
        counts: Counter[str | None] = Counter()
        for file in self.live(recipe):
            fields = pa.schema([self.schema.field("label")])
            labels = read_part(self.folder, file, fields)["label"]
            for pair in pc.value_counts(labels.combine_chunks()).to_pylist():
                counts[pair["values"]] += pair["counts"]
        return counts.most_common()
