"""Gone rows: rows in scope whose object was not listed and is not below an unreadable folder."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.scan.ledgers import FileReader
from pipeline.scan.survey import Survey
from pipeline.spec import LabelSpec
from pipeline.storage import Folder
from pipeline.store.delta.actions import LiveFile
from pipeline.store.parts import Part, read_part
from pipeline.store.runs import load_run


def count_gone(
    spec: LabelSpec, survey: Survey, reader: FileReader, files: Sequence[LiveFile], in_scope: int
) -> int:
    """How many of the `in_scope` rows in `files` have no object any more.

    With --modified-since this is unknown: an object that was not listed may just be older.
    """
    if spec.modified_since is not None:
        return 0
    hidden = sum(_hidden_in(reader, file, survey.unreadable) for file in files)
    # A folder that only one of two listings could read counts both as seen and as hidden.
    return max(0, in_scope - survey.counts.get("matched", 0) - hidden)


def _hidden_in(reader: FileReader, file: LiveFile, unreadable: Mapping[str, str]) -> int:
    if not unreadable:
        return 0
    uris = reader.read(file, ["uri"])["uri"]
    below = np.array(_below(uris, unreadable).to_numpy(zero_copy_only=False), dtype=bool)
    return int(np.count_nonzero(below & reader.in_scope(file)))


def without_hidden(
    folder: Folder,
    files: Sequence[LiveFile | Part | None],
    gone: Mapping[int, Sequence[bytes]],
    unreadable: Mapping[str, str],
) -> dict[int, list[bytes]]:
    """`gone` (object ids by their file's ordinal), less the rows below what could not be read."""
    if not unreadable:
        return {ordinal: list(ids) for ordinal, ids in gone.items()}
    left = {}
    for ordinal, ids in gone.items():
        file = files[ordinal]
        if file is not None:
            rows = read_part(folder, file, ["object_id", "uri"])
            rows = rows.filter(pc.is_in(rows["object_id"], value_set=pa.array(ids, pa.binary())))
            rows = rows.filter(pc.invert(_below(rows["uri"], unreadable)))
            left[ordinal] = rows["object_id"].to_pylist()
    return {ordinal: ids for ordinal, ids in left.items() if ids}


def confirmed(
    reader: FileReader,
    files: Sequence[LiveFile | Part | None],
    gone: Mapping[int, Sequence[bytes]],
) -> dict[int, list[bytes]]:
    """`gone`, less the rows that only the index of runs puts in this scope.

    The index is a cache, and these rows get deleted: so their runs are read from the run documents.
    """
    scope, known, left = reader.source.scope, dict[str, bool](), dict[int, list[bytes]]()
    for ordinal, ids in gone.items():
        if (file := files[ordinal]) is None:
            continue
        rows = reader.read(file, ["object_id", "run_id"])
        ours = pc.is_in(rows["object_id"], value_set=pa.array(ids, pa.binary()))
        for run in reader.runs.intersection(rows["run_id"].filter(ours).unique().to_pylist()):
            if run not in known:
                found = load_run(reader.folder, run)
                known[run] = found is not None and found.scope == scope
        true = replace(reader, runs=reader.runs - {run for run in known if not known[run]})
        if true.runs != reader.runs:
            ours = pc.and_(ours, pa.array(true.in_scope_of(file, rows["run_id"])))
        left[ordinal] = rows["object_id"].filter(ours).to_pylist()
    return {ordinal: ids for ordinal, ids in left.items() if ids}


def _below(uris: pa.ChunkedArray, unreadable: Mapping[str, str]) -> pa.Array:
    """A flag for each of `uris`: is it one of `unreadable`, or below one?"""
    tops: list[str] = []
    for top in sorted(uri if uri.endswith("/") else f"{uri}/" for uri in unreadable):
        if not tops or not top.startswith(tops[-1]):
            tops.append(top)
    # No top is below another, so only the last top that sorts at or before a name can contain it.
    names = (f"{uri}/" for uri in uris.to_pylist())
    places = ((bisect_right(tops, name) - 1, name) for name in names)
    return pa.array([at >= 0 and name.startswith(tops[at]) for at, name in places], pa.bool_())
