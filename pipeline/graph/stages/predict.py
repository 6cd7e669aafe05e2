"""Predict: an actor on a GPU, from pixels to rows."""

from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.graph.batches import pack, unpack
from pipeline.graph.job import Sealed
from pipeline.graph.metrics import Meters, Watch
from pipeline.graph.stages.failures import reporting_errors
from pipeline.graph.stages.network import Network

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle


class Predict:
    """Pixels to rows, in an actor that loads the task's network once.

    If a predictor died on a batch, the retry isolates its images, see bisection.py.
    """

    def __init__(
        self, sealed: Sealed, coordinator: "ActorHandle", graph: "ObjectRef | None" = None
    ) -> None:
        self._coordinator = coordinator
        self._network = Network(sealed.job, coordinator, graph)
        self._meters, self._watch = Meters.of(sealed.job.spec.dst), Watch()

    def __call__(self, batches: pa.Table) -> pa.Table:
        with reporting_errors(self._coordinator):
            self._watch.lap("wait")
            with self._network.labeller() as label:
                labelled = label(unpack(batches))
            self._watch.lap("predict")
            self._meters.took(self._watch)
            self._coordinator.labelled.remote(labelled.num_rows)
            return pack(labelled)
