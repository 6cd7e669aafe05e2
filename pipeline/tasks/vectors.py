"""Vectors as a column, and how close two vectors must be to agree."""

from collections.abc import Mapping
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import BadModelError
from pipeline.tasks.base import Difference

Dtype = Literal["float16", "float32"]

#: Delta has no half floats and no lists of a fixed length.
COLUMN: Final = pa.field("embedding", pa.list_(pa.field("element", pa.float32())))

#: How far a stored vector may be from the reference's, by the precision it was computed in: 1 −
#: cosine, and the difference of the ratio of their lengths from 1. Pixels may be 1/255 off
#: (docs/parity.md).
NEAR: Final = {
    "fp32": (1e-3, 0.02),
    "fp16": (5e-3, 0.03),
    "bf16": (0.01, 0.05),
    "int8": (0.05, 0.1),
}
#: With --decode fast, whose pixels are a few 1/255 from the reference's.
NEAR_FAST: Final = (0.02, 0.1)


class VectorDifference(Difference):
    """One image whose stored vector differs from the reference.

    `cosine` of the two and the `ratio` of their lengths; None if they cannot be compared.
    """

    cosine: float | None
    ratio: float | None

    def words(self) -> str:
        if self.cosine is None or self.ratio is None:
            return f"{self.uri} has no vector that the reference's can be compared with"
        return (
            f"{self.uri}: its vector has cosine {self.cosine:.5f} to the reference's, "
            f"and {self.ratio:.3f} times its length"
        )


def vector_array(vectors: NDArray[np.float32], dtype: Dtype) -> pa.ListArray:
    """(n, dim) as n lists; for float16 only numbers that a half float can hold.

    Raises BadModelError for numbers that are not finite, or too large for a half float.
    """
    if not np.isfinite(vectors).all():
        raise BadModelError(
            "the model gives vectors that are not finite, in fp32 as well; its weights are broken: "
            "fetch or train them again"
        )
    if dtype == "float16":
        vectors = rounded(vectors)
        if not np.isfinite(vectors).all():
            raise BadModelError(
                "the model gives vectors with numbers over 65,504, which float16 does not hold: "
                "use --vector-dtype float32"
            )
    count, dim = vectors.shape
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * np.int32(dim))
    values = pa.array(np.ascontiguousarray(vectors).ravel(), pa.float32())
    return pa.ListArray.from_arrays(offsets, values, type=COLUMN.type)


def rounded(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each number rounded to the nearest half float; infinite beyond their range."""
    with np.errstate(over="ignore"):
        return vectors.astype(np.float16).astype(np.float32)


def halved(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of vectors, rounded to half floats; nulls stay.

    Raises BadModelError as `vector_array` does.
    """
    return pa.chunked_array([_halved(chunk) for chunk in column.chunks], COLUMN.type)


def _halved(chunk: pa.ListArray) -> pa.ListArray:
    vectors = matrix(chunk.drop_null())
    there = chunk.is_valid().to_numpy(zero_copy_only=False)
    place = pa.array(np.cumsum(there) - 1, mask=~there)
    return vector_array(vectors, "float16").take(place)


def matrix(column: pa.Array | pa.ChunkedArray) -> NDArray[np.float32]:
    """Vectors of one length, none of them null, as (n, dim) float32."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    flat: NDArray[np.float32] = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), -1) if len(column) else flat.reshape(0, 0)


def difference(
    stored: Mapping[str, Any], reference: NDArray[np.float32], decode: str
) -> VectorDifference | None:
    """None if the vector of a stored row agrees with `reference`, (dim,)."""
    off, longer = NEAR.get(stored.get("precision") or "fp32", NEAR["fp32"])
    if decode == "fast":
        off, longer = max(off, NEAR_FAST[0]), max(longer, NEAR_FAST[1])
    cosine, ratio = _compared(stored[COLUMN.name], reference)
    if cosine is None or ratio is None or not (1 - cosine <= off and abs(ratio - 1) <= longer):
        return VectorDifference(uri=stored["uri"], cosine=cosine, ratio=ratio)
    return None


def _compared(
    stored: list[float | None] | None, reference: NDArray[np.float32]
) -> tuple[float | None, float | None]:
    """(cosine, ratio of lengths); None if one of the two has length 0 or their dims differ."""
    if stored is None or len(stored) != len(reference) or None in stored:
        return None, None
    one, other = np.asarray(stored, np.float64), reference.astype(np.float64)
    lengths = np.linalg.norm(one), np.linalg.norm(other)
    if not np.isfinite(lengths).all():
        return None, None
    if not any(lengths):
        return 1.0, 1.0
    if not all(lengths):
        return None, None
    return float(one @ other / lengths[0] / lengths[1]), float(lengths[0] / lengths[1])


def summary(rows: pa.Table) -> str:
    """The dim and the mean length of some rows' vectors."""
    column = rows[COLUMN.name].drop_null()
    if not len(column):
        return "none"
    dims = pc.unique(pc.list_value_length(column)).to_pylist()
    if len(dims) > 1:
        return f"dims {', '.join(map(str, sorted(dims)))}"
    mean = float(np.linalg.norm(matrix(column), axis=1).mean())
    return f"dim {dims[0]:,}, mean norm {mean:.4g}"
