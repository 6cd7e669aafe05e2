"""TorchEngine: runs a network on a GPU, or on a CPU what OpenVINO cannot run.

Handles batch shape, padding and out-of-memory.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import BadModelError, ModelError
from pipeline.heap import keep_heap
from pipeline.models.backends.base import DeviceLostError
from pipeline.models.backends.compiled import CALLS, compiled, forget
from pipeline.models.backends.device_faults import Fault, device_errors, fault, first_line
from pipeline.models.backends.device_time import telling
from pipeline.models.backends.half_precision import ALL, Trial, results_of, suited
from pipeline.models.backends.loading import (
    Weights,
    device_name,
    load_weights,
    pick_device,
    pick_precision,
)
from pipeline.models.backends.transfer import Results, Transfer
from pipeline.models.backends.vit import slim, trim
from pipeline.models.purpose import CLASSIFYING, Purpose, Reader
from pipeline.models.scorer import Scaler

if TYPE_CHECKING:
    from torch import Tensor

#: ViT-Ti/16 on one thread: 8, 16 and 32 images are equally fast.
CPU_BATCH = 16
#: ViT-B/16 in bf16 on an H200: 64 images give 6.0, 128 9.3, 256 9.1, 512 8.4 thousand a second.
CUDA_BATCH = 256
#: Rows that are labelled again in fp32: mostly one or none of a block.
EXACT_BATCH = 16

#: Share of a vector's largest number: how far faster layers may differ from plain ones.
_CLOSE: Final = {"fp32": 1e-3, "fp16": 5e-2, "bf16": 5e-2}


class TorchEngine:
    """See `Engine`. Batches have one shape, and become smaller if memory runs out."""

    def __init__(
        self,
        scorer: Scaler,
        *,
        height: int,
        width: int,
        precision: str,
        batch_size: int | None = None,
        threads: int | None = None,
        one_shape: bool = False,
        load_exact: "Callable[[], TorchEngine] | None" = None,
    ) -> None:
        self.labels, self.precision = scorer.labels, precision
        self.device = device_name(scorer.device)
        self.image_shape = (height, width, 3)
        self.batch_size = batch_size or (CUDA_BATCH if scorer.device.type == "cuda" else CPU_BATCH)
        self._scorer, self._threads, self._load_exact = scorer, threads, load_exact
        self._one_shape = one_shape
        self._transfer: Transfer | None = None
        self._compiled: Any = None  # the network, if it is compiled

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        height: int,
        width: int,
        rescale: float,
        mean: Sequence[float],
        std: Sequence[float],
        precision: str,
        top_k: int,
        batch_size: int | None = None,
        threads: int | None = None,
        compile: bool = False,
        purpose: Purpose = CLASSIFYING,
        plain: bool = False,
        photographs: Callable[[], NDArray[np.uint8]] | None = None,
    ) -> Self:
        """Load a model folder (see `fetch`) on the GPU, or else the CPU, and try it on two images.

        Pixels become (x · rescale − mean) / std. `precision` is auto, fp32, bf16 or fp16;
        auto on a GPU is fp16, or bf16 if the scores of the two images overflow in fp16, or what
        suits the network on `photographs`, (n, height, width, 3), if there are any.
        `batch_size` None is 256 on a GPU, 16 on a CPU; `threads` None does not change torch's
        threads; `compile` takes minutes once and changes the last digits of scores. `purpose` says
        what is read of the network. Vectors are compared with those of transformers' own layers; if
        faster layers give others, `plain` ones are used. Raises BadModelError if the weights don't
        fit the config, lack what is read, or the model doesn't accept images of height × width.
        """
        device = pick_device()
        if device.type == "cpu":
            keep_heap()
        shape: dict[str, Any] = {"height": height, "width": width}
        shape |= {"batch_size": batch_size, "threads": threads}
        scale: dict[str, Any] = {"rescale": rescale, "mean": mean, "std": std, "top_k": top_k}
        scale["purpose"] = purpose

        def in_precision(precision: str) -> Weights:
            return load_weights(folder, device, precision, (height, width), purpose)

        if photographs is None:
            chosen = pick_precision(precision, device)
            loaded = in_precision(chosen)
        else:
            by_class = partial(_by_class, photographs=photographs, **scale | {"top_k": ALL})
            trial = Trial(in_precision, by_class, labels=purpose.labels)
            chosen, loaded = suited(precision, device, trial)
        # For the few rows of a block that overflow: a GPU pads every batch to its full size.
        few = shape | {"batch_size": min(batch_size or EXACT_BATCH, EXACT_BATCH)}
        load_exact = partial(cls.load, folder, precision="fp32", **few, **scale)
        exact: dict[str, Any] = {"load_exact": load_exact, "one_shape": compile}
        scorer = purpose.scorer(loaded.reader, rescale=rescale, mean=mean, std=std, top_k=top_k)
        engine = cls(scorer, precision=chosen, **exact, **shape)
        before = engine._plain_results(folder) if purpose.vectors else ()
        results = before if plain else engine._made_fast(folder, loaded.reader, purpose, compile)
        if not plain and before and not engine._near(results, before):
            again: dict[str, Any] = {"photographs": photographs, **shape, **scale}
            return cls.load(folder, precision=precision, plain=True, **again)
        if precision == "auto" and not _all_finite(results) and chosen == "fp16":
            # It would label most images twice. bf16 has the range of fp32.
            return cls.load(folder, precision="bf16", compile=compile, **shape, **scale)
        return engine

    def predict(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[Any], ...]:
        if pixels.dtype != np.uint8 or pixels.shape[1:] != self.image_shape:
            raise ValueError(
                f"pixels are {pixels.dtype} {pixels.shape[1:]}, the model takes uint8 "
                f"{self.image_shape}"
            )
        tell = telling()
        while len(pixels):
            size = self.batch_size
            try:
                # The work of other calls is queued while this one waits for its results.
                queued = self._device.submit(
                    self._queued, pixels, measured=tell is not None
                ).result()
                results = queued.wait()
                if tell is not None:
                    tell(queued.spans())
                return results
            except RuntimeError as error:
                reason = self._no_memory(error)
            # Out of the handler, whose traceback keeps memory alive.
            self._device.submit(self._halve, size, reason).result()
        return self._nothing

    @cached_property
    def _nothing(self) -> tuple[NDArray[Any], ...]:
        """The results for no images."""
        one = self.predict(np.zeros((1, *self.image_shape), np.uint8))
        return tuple(result[:0] for result in one)

    @cached_property
    def exact(self) -> "TorchEngine":
        if self.precision == "fp32" or self._load_exact is None:
            return self
        with device_errors("the model in fp32"):
            return self._load_exact()

    @cached_property
    def _device(self) -> ThreadPoolExecutor:
        """The one thread that uses the device: compiled networks and torch's number of threads
        belong to a thread, and the batches of two calls must not mix."""
        return ThreadPoolExecutor(1, thread_name_prefix="device")

    def _queued(self, pixels: NDArray[np.uint8], *, measured: bool) -> Results:
        import torch

        if self._threads is not None and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        feed = self._feed()
        work = feed.measured() if measured else None
        with torch.inference_mode():
            parts = [
                tuple(result[:rows] for result in self._scorer(batch))
                for batch, rows in feed.batches(pixels, work)
            ]
            return Results(parts, work)

    def _no_memory(self, error: RuntimeError) -> str:
        """Why the device has no memory. Raises DeviceLostError if it is lost, or else `error`."""
        reason = first_line(error)
        match fault(error):
            case Fault.MEMORY:
                return reason
            case Fault.LOST:
                raise DeviceLostError(f"{self.device}: {reason}") from error
        raise error

    def _feed(self) -> Transfer:
        if self._transfer is None:
            shape = (self.batch_size, *self.image_shape)
            self._transfer = Transfer(self._scorer.device, shape, one_shape=self._one_shape)
        return self._transfer

    def _halve(self, size: int, reason: str) -> None:
        """Halve the batch, unless another call has done so since it had this `size`."""
        if self.batch_size < size:
            return
        while reason:
            if self.batch_size == 1:
                raise ModelError(
                    f"not even one image fits in the memory of {self.device} beside this model: "
                    f"{reason}; choose a smaller model, a larger device or --precision fp16"
                )
            self.batch_size //= 2
            self._transfer = None
            reason = self._made_room()

    def _made_room(self) -> str:
        """Free what only the former batch needed, and compile for the new one if it was compiled.
        Returns why there is no memory for that, or ""."""
        import torch

        if self._compiled is not None:
            forget()
        torch.cuda.empty_cache()  # does nothing without CUDA
        if self._compiled is None:
            return ""
        try:
            with compiled(self._compiled, (self.batch_size, *self.image_shape)):
                for _ in range(CALLS):
                    self._queued(self._samples().numpy(), measured=False).wait()
        except RuntimeError as error:
            return self._no_memory(error)
        return ""

    def _samples(self) -> "Tensor":
        """A black image and one of noise, (2, H, W, 3) uint8."""
        import torch

        noise = np.random.default_rng(0).integers(0, 256, self.image_shape, np.uint8)
        return torch.from_numpy(np.stack([np.zeros_like(noise), noise]))

    def _made_fast(
        self, folder: Path, reader: Reader, purpose: Purpose, compile: bool
    ) -> tuple[NDArray[Any], ...]:
        """Replace layers of the network, in place, by faster ones with the same results; returns
        these results.

        Empty if the changed network gives no vectors. Raises BadModelError if it gives no labels.
        """
        try:
            return self._changed(folder, reader, purpose, compile)
        except BadModelError:
            if not purpose.vectors:  # otherwise it behaved as before
                raise
            return ()

    def _changed(
        self, folder: Path, reader: Reader, purpose: Purpose, compile: bool
    ) -> tuple[NDArray[Any], ...]:
        model, device = reader.target, self._scorer.device
        slim(model)
        results = self._prove(folder, self.precision)
        one_image = self._scorer.scaled(self._samples()[1:].to(device))
        trim(model, one_image, reader.read)
        if compile:
            self._compiled = model
            with compiled(model, (self.batch_size, *self.image_shape)):
                for _ in range(CALLS):
                    results = self._prove(folder, f"{self.precision}, compiled")
                return results
        return self._prove(folder, self.precision) if purpose.vectors else results

    def _plain_results(self, folder: Path) -> tuple[NDArray[Any], ...]:
        """Results of transformers' own layers; a second call must give the same."""
        once, again = (self._prove(folder, self.precision) for _ in range(2))
        if _all_finite(once) and not self._near(again, once):
            raise BadModelError(
                f"{folder}: the model gives other vectors each time; choose another --model"
            )
        return once

    def _near(self, after: tuple[NDArray[Any], ...], before: tuple[NDArray[Any], ...]) -> bool:
        """Whether vectors and scores are the same except for rounding."""
        if len(after) != len(before):
            return False
        most = _CLOSE[self.precision]
        pairs = [pair for pair in zip(after, before, strict=True) if pair[0].dtype == np.float32]
        return all(
            bool((np.abs(one - other) <= most * np.abs(other).max()).all()) for one, other in pairs
        )

    def _prove(self, folder: Path, how: str) -> tuple[NDArray[Any], ...]:
        """Results for a black image and one of noise; `how` appears in the message if
        this fails."""
        height, width, _ = self.image_shape
        try:
            return self.predict(self._samples().numpy())
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise BadModelError(
                f"{folder}: the model does not take images of {height}x{width} in {how}: {error}"
            ) from error


def _by_class(
    weights: Weights, photographs: Callable[[], NDArray[np.uint8]], purpose: Purpose, **scale: Any
) -> tuple[NDArray[Any], ...]:
    return results_of(purpose.scorer(weights.reader, **scale), photographs())


def _all_finite(results: tuple[NDArray[Any], ...]) -> bool:
    return all(bool(np.isfinite(result).all()) for result in results)
