"""A classifier on a device: batch shape, padding, out-of-memory."""

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import BadModelError, ModelError, NightlabelError
from pipeline.heap import keep_heap
from pipeline.models.compiled import compiled
from pipeline.models.gelus import absorb_gelus
from pipeline.models.loading import device_name, load_classifier, pick_device, pick_precision
from pipeline.models.scorer import Scorer
from pipeline.models.transfer import Transfer
from pipeline.models.vit import trim

if TYPE_CHECKING:
    from torch import Tensor

#: ViT-Ti/16, packed, on one thread: 8, 16 and 32 images give 35 img/s, 4 give 34, 64 give 33.
CPU_BATCH = 16
#: ViT-B/16 in bf16 on an H200: 64 images give 6.0, 128 9.3, 256 9.1, 512 8.4 thousand a second.
CUDA_BATCH = 256


class DeviceLostError(NightlabelError):
    """The device failed and this process can no longer use it; another process may."""


class Engine:
    """Labels model-sized images in batches of one shape, which shrinks if memory runs out.

    `labels` names the classes in the order of the indices; `precision` (fp32, bf16, fp16, int8) and
    `device` ("cpu", "cuda:NVIDIA L4") say what was chosen.
    """

    def __init__(
        self,
        scorer: Scorer,
        *,
        height: int,
        width: int,
        precision: str,
        batch_size: int | None = None,
        threads: int | None = None,
        one_shape: bool = False,
        load_exact: "Callable[[], Engine] | None" = None,
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
    ) -> Self:
        """Load a model folder (see `fetch`) on the GPU, or else the CPU, and label two images.

        Pixels become (x · rescale − mean) / std. `precision` is auto, fp32, bf16, fp16 or int8;
        auto on a GPU is fp16, or bf16 where the scores of the two overflow in it. `batch_size` None
        is 256 on a GPU, 16 on a CPU; `threads` None leaves torch's threads as they are; `compile`
        takes minutes once and changes scores in their last digits. Raises BadModelError if the
        weights don't fit the config, lack the class head, or the model doesn't take images of
        height × width.
        """
        device = pick_device()
        if device.type == "cpu":
            keep_heap()
        chosen = pick_precision(precision, device)
        model = load_classifier(folder, device, chosen, packed=not compile, size=(height, width))
        shape: dict[str, Any] = {"height": height, "width": width}
        shape |= {"batch_size": batch_size, "threads": threads}
        scale: dict[str, Any] = {"rescale": rescale, "mean": mean, "std": std, "top_k": top_k}
        load_exact = partial(cls.load, folder, precision="fp32", **shape, **scale)
        exact: dict[str, Any] = {"load_exact": load_exact, "one_shape": compile}
        scorer = Scorer(model, **scale)
        engine = cls(scorer, precision=chosen, **exact, **shape)
        finite = engine._prove(folder, chosen)
        one_image = scorer.scaled(engine._samples()[1:].to(device))
        trim(model, one_image)
        if compile:
            with compiled(model, (engine.batch_size, *engine.image_shape)):
                finite = engine._prove(folder, f"{chosen}, compiled")
        else:
            absorb_gelus(model, one_image)
        if precision == "auto" and not finite and chosen == "fp16":
            # It would label most images twice. bf16 has the range of fp32.
            return cls.load(folder, precision="bf16", compile=compile, **shape, **scale)
        return engine

    def predict(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """(n, H, W, 3) uint8 → class indices (n, k) int64 and scores (n, k) float32, best first.

        k is top_k or the number of classes, whichever is less. A row whose logits overflowed
        scores NaN. Raises ValueError for another shape or type, ModelError if not even one
        image fits in the device's memory, DeviceLostError if the device fails.
        """
        import torch

        if pixels.dtype != np.uint8 or pixels.shape[1:] != self.image_shape:
            raise ValueError(
                f"pixels are {pixels.dtype} {pixels.shape[1:]}, the model takes uint8 "
                f"{self.image_shape}"
            )
        # Threads are a setting of the calling thread, which need not be the one that loaded.
        if self._threads is not None and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        with torch.inference_mode():
            results = self._run(pixels)
        if not results:
            empty = (0, self._scorer.top_k)
            return np.empty(empty, np.int64), np.empty(empty, np.float32)
        indices, scores = (torch.cat(part).cpu().numpy() for part in zip(*results, strict=True))
        return indices, scores

    @cached_property
    def exact(self) -> "Engine":
        """The same model in fp32, loaded when first asked for; itself if it is that already."""
        if self.precision == "fp32" or self._load_exact is None:
            return self
        return self._load_exact()

    def _run(self, pixels: NDArray[np.uint8]) -> "list[tuple[Tensor, Tensor]]":
        import torch

        results: list[tuple[Tensor, Tensor]] = []
        done = 0
        while done < len(pixels):
            try:
                for batch, rows in self._feed().batches(pixels[done:]):
                    indices, scores = self._scorer(batch)
                    results.append((indices[:rows], scores[:rows]))
                    done += rows
            except torch.OutOfMemoryError as error:
                reason = str(error).partition("\n")[0]
            except torch.AcceleratorError as error:
                # CUDA's errors stick to their process: every later call fails as well.
                raise DeviceLostError(f"{self.device}: {str(error).splitlines()[0]}") from error
            else:
                break
            self._halve(reason)  # out of the handler, whose traceback holds on to memory
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

    def _prove(self, folder: Path, how: str) -> bool:
        """Whether a black image and one of noise get finite scores; `how` is told if they can't."""
        height, width, _ = self.image_shape
        try:
            _, scores = self.predict(self._samples().numpy())
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise BadModelError(
                f"{folder}: the model does not take images of {height}x{width} in {how}: {error}"
            ) from error
        return bool(np.isfinite(scores).all())
