"""Label: an actor on a core, from refs to rows, where the cluster has no GPU."""

from threading import Lock
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from pipeline.engine.ray_compat import attempt_number
from pipeline.graph.batches import pack, unpack
from pipeline.graph.job import Sealed
from pipeline.graph.metrics import Meters, Watch
from pipeline.graph.stages.failures import ending_without_memory, reporting_errors
from pipeline.graph.stages.image_loader import READS_IN_FLIGHT, ImageLoader, Reads
from pipeline.graph.stages.network import Network
from pipeline.heap import keep_photographs

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

#: Concurrent calls in one actor: one uses the core while the images of the other are being read.
#: So an actor does not wait for the store at the beginning of each batch.
CALLS: Final = 2


class Label:
    """Reads, decodes and predicts in one process; only one call at a time uses its core.

    Images are predicted as soon as they are decoded, some at a time, while others are being read.
    If the process died on a batch, the retry isolates its images, see bisection.py.
    """

    def __init__(
        self, sealed: Sealed, coordinator: "ActorHandle", graph: "ObjectRef | None" = None
    ) -> None:
        job = sealed.job
        self._coordinator = coordinator
        self._network = Network(job, coordinator, graph)
        # After the network, whose own setting keeps all: libwebp's canvases would then be made of
        # kept memory and filled with zeros, by images that still wait for their room.
        keep_photographs()
        self._images = ImageLoader(job, coordinator)
        self._rows = rows_at_once(job.spec.batch_size)
        self._core = Lock()
        self._meters, self._watch = Meters.of(job.spec.dst), Watch()

    def __call__(self, batches: pa.Table) -> pa.Table:
        with reporting_errors(self._coordinator), ending_without_memory(self._coordinator):
            refs = unpack(batches)
            # A retry reads nothing ahead. Its tries are counted once it has the core, when nothing
            # but itself can end the process.
            reads = self._images.reads(refs) if attempt_number() else self._images.reads_ahead(refs)
            with self._core:
                self._watch.lap("wait")
                rows = self._labelled(refs, reads)
                self._meters.took(self._watch)
            self._coordinator.labelled.remote(rows.num_rows)
            return pack(rows)

    def _labelled(self, refs: pa.Table, reads: Reads) -> pa.Table:
        """Rows in the order of `refs`."""
        labelled = []
        with self._network.labeller() as label:
            for pixels in self._images.tables(refs, reads, self._rows, self._watch):
                labelled.append(label(pixels))
                self._watch.lap("predict")
        return pa.concat_tables(labelled)


def rows_at_once(batch_size: int | None) -> int:
    """How many images are decoded and then predicted: whole forward passes, and about as many as
    are read at the same time."""
    size = batch_size or 1
    return size * -(-READS_IN_FLIGHT // size)
