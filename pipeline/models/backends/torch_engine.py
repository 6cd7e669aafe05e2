"""TorchEngine: runs a network on a GPU, or on a CPU what OpenVINO cannot run.

Handles batch shape, padding and out-of-memory.
"""

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import BadModelError, ModelError
from pipeline.heap import keep_heap
from pipeline.models.backends.base import DeviceLostError
from pipeline.models.backends.compiled import compiled
from pipeline.models.backends.loading import (
    device_name,
    load_weights,
    pick_device,
    pick_precision,
)
from pipeline.models.backends.transfer import Transfer
from pipeline.models.backends.vit import slim, trim
from pipeline.models.purpose import CLASSIFYING, Purpose, Reader
from pipeline.models.scorer import Scaler

if TYPE_CHECKING:
    from torch import Tensor

#: ViT-Ti/16 on one thread: 8, 16 and 32 images are equally fast.
CPU_BATCH = 16
#: ViT-B/16 in bf16 on an H200: 64 images give 6.0, 128 9.3, 256 9.1, 512 8.4 thousand a second.
CUDA_BATCH = 256

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
    ) -> Self:
        """Load a model folder (see `fetch`) on the GPU, or else the CPU, and try it on two images.

        Pixels become (x · rescale − mean) / std. `precision` is auto, fp32, bf16 or fp16;
        auto on a GPU is fp16, or bf16 if the scores of the two images overflow in fp16.
        `batch_size` None is 256 on a GPU, 16 on a CPU; `threads` None does not change torch's
        threads; `compile` takes minutes once and changes the last digits of scores. `purpose` says
        what is read of the network. Vectors are compared with those of transformers' own layers; if
        faster layers give others, `plain` ones are used. Raises BadModelError if the weights don't
        fit the config, lack what is read, or the model doesn't accept images of height × width.
        """
        device = pick_device()
        if device.type == "cpu":
            keep_heap()
        chosen = pick_precision(precision, device)
        loaded = load_weights(folder, device, chosen, (height, width), purpose)
        shape: dict[str, Any] = {"height": height, "width": width}
        shape |= {"batch_size": batch_size, "threads": threads}
        scale: dict[str, Any] = {"rescale": rescale, "mean": mean, "std": std, "top_k": top_k}
        scale["purpose"] = purpose
        load_exact = partial(cls.load, folder, precision="fp32", **shape, **scale)
        exact: dict[str, Any] = {"load_exact": load_exact, "one_shape": compile}
        scorer = purpose.scorer(loaded.reader, rescale=rescale, mean=mean, std=std, top_k=top_k)
        engine = cls(scorer, precision=chosen, **exact, **shape)
        before = engine._plain_results(folder) if purpose.vectors else ()
        results = before if plain else engine._made_fast(folder, loaded.reader, purpose, compile)
        if not plain and before and not engine._near(results, before):
            return cls.load(folder, precision=precision, plain=True, **shape, **scale)
        if precision == "auto" and not _all_finite(results) and chosen == "fp16":
            # It would label most images twice. bf16 has the range of fp32.
            return cls.load(folder, precision="bf16", compile=compile, **shape, **scale)
        return engine

    def predict(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[Any], ...]:
        import torch

        if pixels.dtype != np.uint8 or pixels.shape[1:] != self.image_shape:
            raise ValueError(
                f"pixels are {pixels.dtype} {pixels.shape[1:]}, the model takes uint8 "
                f"{self.image_shape}"
            )
        # Threads are a setting of the calling thread, which may not be the one that loaded.
        if self._threads is not None and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        with torch.inference_mode():
            results = self._run(pixels)
        if not results:
            return self._nothing
        return tuple(torch.cat(part).cpu().numpy() for part in zip(*results, strict=True))

    @cached_property
    def _nothing(self) -> tuple[NDArray[Any], ...]:
        """The results for no images."""
        one = self.predict(np.zeros((1, *self.image_shape), np.uint8))
        return tuple(result[:0] for result in one)

    @cached_property
    def exact(self) -> "TorchEngine":
        if self.precision == "fp32" or self._load_exact is None:
            return self
        return self._load_exact()

    def _run(self, pixels: NDArray[np.uint8]) -> "list[tuple[Tensor, ...]]":
        import torch

        results: list[tuple[Tensor, ...]] = []
        done = 0
        while done < len(pixels):
            try:
                for batch, rows in self._feed().batches(pixels[done:]):
                    results.append(tuple(result[:rows] for result in self._scorer(batch)))
                    done += rows
            except torch.OutOfMemoryError as error:
                reason = str(error).partition("\n")[0]
            except torch.AcceleratorError as error:
                # CUDA's errors persist in their process: every later call fails as well.
                raise DeviceLostError(f"{self.device}: {str(error).splitlines()[0]}") from error
            else:
                break
            self._halve(reason)  # out of the handler, whose traceback keeps memory alive
        return results

    def _feed(self) -> Transfer:
        if self._transfer is None:
            shape = (self.batch_size, *self.image_shape)
            self._transfer = Transfer(self._scorer.device, shape, one_shape=self._one_shape)
        return self._transfer

    def _halve(self, reason: str) -> None:
        import torch

        if self.batch_size == 1:
            raise ModelError(
                f"not even one image fits in the memory of {self.device} beside this model: "
                f"{reason}; choose a smaller model, a larger device or --precision fp16"
            )
        self.batch_size //= 2
        self._transfer = None
        torch.cuda.empty_cache()  # does nothing without CUDA

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
            with compiled(model, (self.batch_size, *self.image_shape)):
                return self._prove(folder, f"{self.precision}, compiled")
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


def _all_finite(results: tuple[NDArray[Any], ...]) -> bool:
    return all(bool(np.isfinite(result).all()) for result in results)
