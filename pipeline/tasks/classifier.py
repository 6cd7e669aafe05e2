"""Image classifier on a device: images → label, score, top_k."""

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import BadModelError
from pipeline.tasks.engine_worker import EngineWorker
from pipeline.tasks.rows import Answers

if TYPE_CHECKING:
    from pipeline.models.backends.base import Engine

TOP_K: Final = pa.list_(
    pa.field("element", pa.struct([("label", pa.string()), ("score", pa.float32())]))
)
COLUMNS: Final = (
    pa.field("label", pa.string()),
    pa.field("score", pa.float32()),
    pa.field("top_k", TOP_K),
)


class Classifier(EngineWorker):
    """Turns an engine's scores into labels, with the names of its classes."""

    def __init__(self, engine: "Engine") -> None:
        super().__init__(engine)
        self._names = pa.array(engine.labels, pa.string())

    def __call__(self, images: NDArray[np.uint8], seen: pa.Table) -> Answers:  # noqa: ARG002
        """The k best labels of each image.

        If an image's scores overflow in half precision, it is labelled again in fp32, which its
        `precision` shows. Raises BadModelError if even fp32 gives no finite scores.
        """
        (indices, scores, *_), precision = self.predict(images)
        return Answers(self.label_columns(indices, scores), precision)

    def label_columns(
        self, indices: NDArray[np.int64], scores: NDArray[np.float32]
    ) -> dict[str, pa.Array]:
        return {
            "label": self._names.take(pa.array(indices[:, 0])),
            "score": pa.array(scores[:, 0]),
            "top_k": self._top_k(indices, scores),
        }

    def predict(self, images: NDArray[np.uint8]) -> tuple[tuple[NDArray[Any], ...], pa.Array]:
        """As in `EngineWorker`. Raises BadModelError if even fp32 gives no finite scores."""
        results, precision = super().predict(images)
        if np.isnan(results[1]).any():
            raise BadModelError(
                "the model gives scores that are not finite, in fp32 as well; "
                "its weights are broken: fetch or train them again"
            )
        return results, precision

    def _top_k(self, indices: NDArray[np.int64], scores: NDArray[np.float32]) -> pa.ListArray:
        count, k = indices.shape
        pairs = pa.StructArray.from_arrays(
            [self._names.take(pa.array(indices.ravel())), pa.array(scores.ravel())],
            fields=list(TOP_K.value_type),
        )
        offsets = pa.array(np.arange(0, (count + 1) * k, k, dtype=np.int32))
        return pa.ListArray.from_arrays(offsets, pairs, type=TOP_K)
