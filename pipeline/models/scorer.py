"""uint8 pixels to the k best classes, all of it on the device."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


class Scorer:
    """(n, H, W, 3) uint8 on the model's device → indices (n, k) int64, scores (n, k) float32.

    `model` is an image classifier of transformers in evaluation mode. Pixels become
    (x · rescale − mean) / std in float32, in the order of transformers' image processors.
    Scores are a softmax, or sigmoids where `config.problem_type` is multi_label_classification
    or there is one class: the rule of transformers' pipeline.
    """

    def __init__(
        self, model: Any, *, rescale: float, mean: Sequence[float], std: Sequence[float], top_k: int
    ) -> None:
        import torch

        config = model.config
        self.labels = [str(config.id2label[index]) for index in range(config.num_labels)]
        self.device: torch.device = model.device
        self.top_k = min(top_k, len(self.labels))
        self._model, self._rescale = model, rescale
        self._mean = torch.tensor(mean, dtype=torch.float32, device=self.device)
        self._std = torch.tensor(std, dtype=torch.float32, device=self.device)
        self._sigmoid = config.problem_type == "multi_label_classification" or len(self.labels) == 1

    def __call__(self, batch: "Tensor") -> "tuple[Tensor, Tensor]":
        """The best first, equal scores by index; a row whose logits aren't finite scores NaN."""
        logits = self._model(pixel_values=self.scaled(batch)).logits.float()
        scores = logits.sigmoid() if self._sigmoid else logits.softmax(dim=1)
        scores = scores.where(logits.isfinite().all(dim=1, keepdim=True), float("nan"))
        # topk leaves the order of equal scores open, and half precision makes many.
        ranked = scores.sort(dim=1, descending=True, stable=True)
        return ranked.indices[:, : self.top_k], ranked.values[:, : self.top_k]

    def scaled(self, batch: "Tensor") -> "Tensor":
        """(n, H, W, 3) uint8 → (n, 3, H, W) in the model's type, as it takes them."""
        width = batch.shape[2]
        # Over three values that change from pixel to pixel no vector goes; over a row's it does.
        rows = batch.flatten(2).float().mul_(self._rescale)
        rows = rows.sub_(self._mean.repeat(width)).div_(self._std.repeat(width))
        return rows.view(batch.shape).permute(0, 3, 1, 2).to(self._model.dtype)
