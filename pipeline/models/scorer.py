"""Scorer: uint8 pixels to the k best classes, or to vectors, all on the device."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.models.backends.surgery import Read, logits_of

if TYPE_CHECKING:
    from torch import Tensor, device


class Scaler:
    """Scales pixels for `model`, a transformers network in evaluation mode.

    They become (x · rescale − mean) / std in float32, in the order of transformers' image
    processors.
    """

    labels: list[str]

    def __init__(
        self, model: Any, *, rescale: float, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        import torch

        self.labels = []
        self.device: device = model.device
        self._model, self._rescale = model, rescale
        self._mean = torch.tensor(mean, dtype=torch.float32, device=self.device)
        self._std = torch.tensor(std, dtype=torch.float32, device=self.device)

    def scaled(self, batch: "Tensor") -> "Tensor":
        """(n, H, W, 3) uint8 → (n, 3, H, W) in the model's type, as the model takes them."""
        width = batch.shape[2]
        # Constants that change from pixel to pixel cannot be vectorised; constants for a row can.
        rows = batch.flatten(2).float().mul_(self._rescale)
        rows = rows.sub_(self._mean.repeat(width)).div_(self._std.repeat(width))
        return rows.view(batch.shape).permute(0, 3, 1, 2).to(self._model.dtype)

    def __call__(self, batch: "Tensor") -> "tuple[Tensor, ...]":
        raise NotImplementedError


class Embedder(Scaler):
    """(n, H, W, 3) uint8 on the model's device → vectors (n, dim) float32, by `read`."""

    def __init__(self, model: Any, *, read: Read, **scale: Any) -> None:
        super().__init__(model, **scale)
        self._read = read

    def __call__(self, batch: "Tensor") -> "tuple[Tensor, ...]":
        return tuple(map(_whole, self._read(self.scaled(batch))))


class Scorer(Scaler):
    """(n, H, W, 3) uint8 on the model's device → indices (n, k) int64, scores (n, k) float32.

    `model` is an image classifier; results of `read` beyond its logits follow the scores, in
    float32. Scores are a softmax, or sigmoids if `config.problem_type` is
    multi_label_classification or there is one class: the rule of transformers' pipeline.
    """

    def __init__(self, model: Any, *, top_k: int, read: Read | None = None, **scale: Any) -> None:
        super().__init__(model, **scale)
        config = model.config
        self.labels = [str(config.id2label[index]) for index in range(config.num_labels)]
        self.top_k = min(top_k, len(self.labels))
        self._read = read or logits_of(model)
        self.sigmoid = config.problem_type == "multi_label_classification" or len(self.labels) == 1

    def __call__(self, batch: "Tensor") -> "tuple[Tensor, ...]":
        """The best first, equal scores by index; a row whose logits aren't finite has
        NaN scores."""
        logits, *others = self._read(self.scaled(batch))
        logits = logits.float()
        scores = logits.sigmoid() if self.sigmoid else logits.softmax(dim=1)
        scores = scores.where(logits.isfinite().all(dim=1, keepdim=True), float("nan"))
        # topk does not define the order of equal scores, and half precision makes many.
        ranked = scores.sort(dim=1, descending=True, stable=True)
        best = ranked.indices[:, : self.top_k], ranked.values[:, : self.top_k]
        return *best, *map(_whole, others)


def _whole(vectors: "Tensor") -> "Tensor":
    """A copy in float32: a slice would keep all tokens, and a CUDA graph overwrites its
    own output."""
    import torch

    return vectors.to(torch.float32, copy=True)
