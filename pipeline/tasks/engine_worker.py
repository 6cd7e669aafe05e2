"""What tasks with a network have in common on a device: finite results, and their precision."""

from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pipeline.models.backends.base import Engine


class EngineWorker:
    """Runs an engine on batches of images; a subclass makes columns of the results."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._loading = Lock()  # several threads may be the first to need it

    @property
    def device(self) -> str:
        return self._engine.device

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self._engine.image_shape

    def predict(self, images: NDArray[np.uint8]) -> tuple[tuple[NDArray[Any], ...], pa.Array]:
        """The engine's results, each row finite or recomputed in fp32, and the
        precision of each."""
        results = self._engine.predict(images)
        precision = np.full(len(images), self._engine.precision, object)
        numbers = [result for result in results if result.dtype.kind == "f"]
        broken = ~np.isfinite(np.concatenate(numbers, axis=1)).all(axis=1)
        if broken.any():
            with self._loading:
                exact = self._engine.exact
            for result, better in zip(results, exact.predict(images[broken]), strict=True):
                result[broken] = better
            precision[broken] = exact.precision
        return results, pa.array(precision, pa.string())
