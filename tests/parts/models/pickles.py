"""Pickles that leave a mark when they are loaded, alone and inside of a Parquet file."""

import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


class _Marks:
    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._mark,)


def marking(mark: Path) -> bytes:
    """A pickle that makes the file `mark`; it was tried."""
    data = pickle.dumps({"classifier.weight": _Marks(mark)})
    pickle.loads(data)
    assert mark.exists(), "this pickle does what it says"
    mark.unlink()
    return data


def forged(path: Path, column: str, mark: Path) -> Path:
    """A Parquet file whose `column` holds pickles, of the type that Ray unpickles."""
    from ray.data._internal.object_extensions.arrow import ArrowPythonObjectType

    pickles = pa.array([marking(mark)], pa.large_binary())
    values = pa.ExtensionArray.from_storage(ArrowPythonObjectType(), pickles)
    pq.write_table(pa.table({column: values}), path)
    pq.read_table(path)[column].to_pylist()
    assert mark.exists(), "the type is known here, so asking for its values runs them"
    mark.unlink()
    return path
