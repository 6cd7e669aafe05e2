"""Transfers rows to the device and results from it: the only file with pinned memory and streams.

    host      fill 0 │ fill 1 │ fill 2 │ …       pinned buffers, two, in turns
    stream 2     copy 0 │ copy 1 │ copy 2 │      side stream
    stream 1            compute 0 │ compute 1    the caller's stream

Nothing here waits for a computation: the host fills and copies batch i + 1 while the device
works on batch i. A batch is filled in slices, and each is copied while the next is filled, so a
device without work waits for little more than the fill of its first batch. On a CPU there is one
buffer, no stream and no waiting, with the same calls.
`Work` measures the computations by events, which are read once the results have arrived.

Only the tests marked `gpu` cover the CUDA half, and no CI machine can run them. On an
H200 a ViT-B/16 reached 91% of its rate with pixels that are on the device already.
"""

import time
from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.models.backends.device_time import Span

if TYPE_CHECKING:
    from torch import Tensor, device
    from torch.cuda import Event, Stream


#: Parts of a batch on its way to a device. Each costs the host some ten microseconds.
SLICES: Final = 8
_ALL: Final = slice(None)


class _Slot:
    """A buffer that is filled on the host and also read there."""

    def __init__(self, shape: tuple[int, ...], *, one_shape: bool) -> None:
        import torch

        self._host = torch.zeros(shape, dtype=torch.uint8)
        self._one_shape = one_shape

    def put(self, rows: np.ndarray) -> "Tensor":
        """The buffer, with `rows` at the front and zeros after them."""
        self._fill(rows)
        size = len(self._host)
        return self._host[: size if self._one_shape else _padded(len(rows), size)]

    def release(self) -> None:
        """The caller has queued all its work on the tensor that `put` returned."""

    def _fill(self, rows: np.ndarray, part: slice = _ALL) -> None:
        """Put this part of `rows`, then zeros, into the same part of the buffer."""
        target, source = self._host.numpy()[part], rows[part]
        target[: len(source)] = source
        target[len(source) :] = 0


class _CudaSlot(_Slot):
    """A pinned buffer and its copy on the device, copied on a stream of its own."""

    def __init__(self, shape: tuple[int, ...], stream: "Stream") -> None:
        import torch

        self._host = torch.zeros(shape, dtype=torch.uint8, pin_memory=True)
        self._twin = torch.zeros(shape, dtype=torch.uint8, device=stream.device)
        self._stream = stream
        self._copied: Event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        self._used: Event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._used.record()  # the zeros are written on the caller's stream

    def put(self, rows: np.ndarray) -> "Tensor":
        import torch

        self._copied.synchronize()  # the last copy has read the pinned buffer
        with torch.cuda.stream(self._stream):
            self._used.wait()  # the last computation has read the device copy
            for part in slices(len(self._host)):
                self._fill(rows, part)
                self._twin[part].copy_(self._host[part], non_blocking=True)
            self._copied.record()
        self._copied.wait()
        return self._twin

    def release(self) -> None:
        self._used.record()


class Work:
    """When the device computes the batches of a call: on a CPU, while the caller's thread does."""

    def __init__(self) -> None:
        self._times: list[float] = []

    def mark(self) -> None:
        """The computation of a batch begins, or is all queued."""
        self._times.append(time.perf_counter())

    def spans(self, copied: "Event | None", seen: float) -> list[Span]:  # noqa: ARG002
        """One a batch. `seen` is when the host saw `copied`, the event after the results."""
        return _pairs(self._times)


class _CudaWork(Work):
    """The same by events, which the device passes after all that was queued before them."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    def mark(self) -> None:
        import torch

        event: Event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        self._events.append(event)

    def spans(self, copied: "Event | None", seen: float) -> list[Span]:
        assert copied is not None  # noqa: S101
        # Only the device knows how long before.
        return _pairs([seen - event.elapsed_time(copied) / 1000 for event in self._events])


def _pairs(times: Sequence[float]) -> list[Span]:
    return list(zip(times[::2], times[1::2], strict=True))


class Results:
    """Results on their way to the host: the copies are queued behind the computation.

    `parts`: at least one tuple of tensors for each batch, in order; all tuples alike. `work`: what
    the device did for them, if that is measured.
    """

    def __init__(self, parts: "Sequence[tuple[Tensor, ...]]", work: Work | None = None) -> None:
        import torch

        self._work, self._seen = work, 0.0
        whole = [torch.cat(part) for part in zip(*parts, strict=True)]
        self._copied: Event | None = None
        self._host = whole
        if whole[0].is_cuda:
            self._host = [_pinned_copy(part) for part in whole]
            # One that sleeps: else the thread that waits has a core that a decoder needs.
            self._copied = torch.cuda.Event(  # type: ignore[no-untyped-call]
                blocking=True, enable_timing=work is not None
            )
            self._copied.record()

    def wait(self) -> "tuple[NDArray[Any], ...]":
        """Raises what the device raised meanwhile."""
        if self._copied is not None:
            self._copied.synchronize()
        self._seen = time.perf_counter()
        return tuple(part.numpy() for part in self._host)

    def spans(self) -> list[Span]:
        """When the device worked for these, once they have been waited for."""
        return self._work.spans(self._copied, self._seen) if self._work is not None else []


def _pinned_copy(part: "Tensor") -> "Tensor":
    import torch

    host = torch.empty(part.shape, dtype=part.dtype, pin_memory=True)
    return host.copy_(part, non_blocking=True)


class Transfer:
    """Batches on `device`; `batch_shape` is (batch, height, width, 3), uint8.

    On a GPU, or with `one_shape`, all have that shape; otherwise a CPU gets a few smaller ones too.
    """

    def __init__(
        self, device: "device", batch_shape: tuple[int, int, int, int], *, one_shape: bool = False
    ) -> None:
        import torch

        self._size = batch_shape[0]
        self.measured: type[Work] = _CudaWork if device.type == "cuda" else Work
        if device.type == "cuda":
            stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            slots: list[_Slot] = [_CudaSlot(batch_shape, stream) for _ in range(2)]
        else:
            slots = [_Slot(batch_shape, one_shape=one_shape)]
        # In turns over all calls: a call's first batch is copied while the last one's is computed.
        self._slots = cycle(slots)

    def batches(
        self, pixels: np.ndarray, work: Work | None = None
    ) -> Iterator[tuple["Tensor", int]]:
        """(tensor, rows): `rows` images of `pixels` in order, followed by zeros.

        A tensor is valid until the next is requested; work on it must be queued by then, and is
        marked in `work`.
        """
        starts = range(0, len(pixels), self._size)
        for start, slot in zip(starts, self._slots, strict=False):
            rows = pixels[start : start + self._size]
            batch = slot.put(rows)
            if work is not None:
                work.mark()
            yield batch, len(rows)
            if work is not None:
                work.mark()
            slot.release()


def slices(rows: int) -> Iterator[slice]:
    """A batch of so many rows in SLICES parts, in order, or in fewer if it has fewer rows."""
    each = -(-rows // SLICES)
    return (slice(start, min(rows, start + each)) for start in range(0, rows, each))


def _padded(rows: int, batch: int) -> int:
    """The smallest of batch, batch / 2, batch / 4, … that holds `rows`.

    Padding costs time on a CPU, and one fixed shape gains little; so a few shapes are used.
    """
    while batch // 2 >= rows and batch % 2 == 0:
        batch //= 2
    return batch
