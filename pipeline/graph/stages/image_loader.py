"""Image loader: reads and decodes a batch of refs in this process, each image as it arrives."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property, lru_cache, partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Final, NamedTuple

import pyarrow as pa
import ray

from pipeline.engine.memory_budget import budget_here, process_memory
from pipeline.engine.ray_compat import attempt_number
from pipeline.errors import ImageError, TransientError
from pipeline.graph.batches import digest
from pipeline.graph.job import Job
from pipeline.graph.metrics import READ_BYTES, Meters, Watch
from pipeline.graph.pixel_table import Pixels
from pipeline.images import Clipped, Depths, depths_of
from pipeline.isolation.bisection import Decoder, IsolatedDecoder
from pipeline.isolation.limits import memory_limit, time_limit
from pipeline.isolation.node_room import NodeRoom
from pipeline.sources import rules_of, wants_of
from pipeline.storage import Canaries, read_steadily

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from pipeline.images import Prepared, Room

READS_IN_FLIGHT: Final = 32

#: (index of a ref, its bytes or why there are none), in the order of arrival.
Reads = Iterator[tuple[int, bytes | ImageError | TransientError]]
#: A context manager that limits the decoding within it.
Limit = Callable[[], AbstractContextManager[None]]


class _Decoding(NamedTuple):
    """How to decode: the function, and limits for one image and for the images of one table."""

    decode: Decoder
    image: Limit = nullcontext
    table: Limit = nullcontext


class ImageLoader:
    """REFS to PIXELS. If a worker died on a batch, the retry isolates each image, see bisection.py.

    Without a `coordinator` this is not a Ray task: nobody would retry after the process ended, so
    each image is isolated at once.
    """

    def __init__(self, job: Job, coordinator: "ActorHandle | None" = None) -> None:
        self._job, self._coordinator = job, coordinator

    def pixels(self, refs: pa.Table) -> pa.Table:
        """PIXELS, one row for each of `refs`, in the same order."""
        watch = Watch()
        [pixels] = self.tables(refs, self.reads(refs), max(1, refs.num_rows), watch)
        if self._coordinator is not None:
            Meters.of(self._job.spec.dst).took(watch)
        return pixels

    def reads(self, refs: pa.Table) -> Reads:
        """The outcomes of reading `refs`; nothing is read before the first is requested."""
        return read_steadily(
            wants_of(refs),
            _canaries(self._job.run_id, self._coordinator),
            max_bytes=self._job.spec.max_bytes,
            rules=rules_of(self._job.spec),
            in_flight=READS_IN_FLIGHT,
        )

    def reads_ahead(self, refs: pa.Table) -> Reads:
        """The same, once the first has arrived and as many as may be are on their way."""
        reads = self.reads(refs)
        return chain(list(islice(reads, 1)), reads)

    def tables(self, refs: pa.Table, reads: Reads, rows: int, watch: Watch) -> Iterator[pa.Table]:
        """PIXELS of `refs` in the same order, in tables of `rows`, each once it is complete.

        Images are decoded as `reads` brings them, those of later tables too. So while a caller uses
        a table, only reads go on. `watch` gets the laps `read` and `decode`.
        """
        pixels = Pixels(refs, self._job.preprocess.height, self._job.preprocess.width)
        seen: list[tuple[str, Clipped | None]] = []
        read = 0
        with self._decoding(refs) as way:
            for start in range(0, max(1, refs.num_rows), rows):
                with way.table():
                    while pixels.lacks(start, rows) and (arrived := next(reads, None)):
                        index, outcome = arrived
                        watch.lap("read")
                        if isinstance(outcome, bytes):
                            read += len(outcome)
                            with way.image():
                                seen += self._decode(way.decode, index, outcome, pixels)
                        else:
                            pixels.fail(index, outcome)
                        watch.lap("decode")
                yield pixels.table(start, rows)
        if self._coordinator is not None:
            Meters.of(self._job.spec.dst).add(READ_BYTES, read)
        self._report_depths(refs, depths_of(seen))

    def _report_depths(self, refs: pa.Table, depths: Depths) -> None:
        # Waits, so that the driver has the report before it has the batch.
        if depths and self._coordinator is not None:
            ray.get(self._coordinator.decoded.remote(digest(refs), depths))

    @contextmanager
    def _decoding(self, refs: pa.Table) -> Iterator[_Decoding]:
        if self._coordinator is None:
            yield _Decoding(self._isolated)
        elif attempt_number():
            with self._isolated as careful:
                yield _Decoding(careful)
        else:
            spec, known = self._job.spec, not refs["size"].null_count
            memory = partial(memory_limit, process_memory(spec, sizes_known=known))
            # Only a large image needs to know the node's memory.
            decode = self._prepare(lambda needs: self._room(needs))
            yield _Decoding(decode, partial(time_limit, spec.max_seconds), memory)

    def _prepare(self, room: "Room") -> Decoder:
        from pipeline.images import prepare

        shape, spec = self._job.preprocess, self._job.spec
        return partial(
            prepare,
            preprocess=shape,
            exif=spec.exif,
            max_pixels=spec.max_pixels,
            fast=spec.decode == "fast",
            room=room,
        )

    @cached_property
    def _room(self) -> NodeRoom:
        job = self._job
        return NodeRoom(budget_here(job.spec, job.weights, network=job.task.network))

    @cached_property
    def _isolated(self) -> IsolatedDecoder["Prepared"]:
        spec = self._job.spec
        decode, memory = self._prepare(self._room), process_memory(spec)
        return IsolatedDecoder(decode, seconds=spec.max_seconds, memory=memory)

    def _decode(
        self, decode: Decoder, index: int, data: bytes, pixels: Pixels
    ) -> list[tuple[str, Clipped | None]]:
        """Put an image into its row; returns its mode and what it clips to, if it is an image."""
        try:
            image = decode(data)
        except ImageError as error:
            pixels.fail(index, error)
            return []
        pixels.put(index, image.pixels, image.width, image.height, image.format)
        return [(image.mode, image.clipped)]


@lru_cache(maxsize=1)
def _canaries(run_id: str, coordinator: "ActorHandle | None") -> Canaries:
    """Objects that this process read in a run; a process that read none gets them from the
    coordinator."""
    del run_id
    if coordinator is None:
        return Canaries()
    return Canaries(
        ask=lambda: ray.get(coordinator.canaries.remote()), tell=coordinator.record_canary.remote
    )
