"""The reference for labels: transformers' own classifier, as it comes, in fp32.

`verify` holds labels against it, so it shares no step with the engine: no other layers, no other
scaling, no batch of a fixed shape.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import BadModelError
from pipeline.fields import one_line, refusals


class ReferenceModel:
    """`labels` are the classes' names in the order of the scores."""

    def __init__(self, folder: Path) -> None:
        """Load `folder`: safetensors only, no code, no network. Raises BadModelError."""
        import torch
        from transformers import AutoModelForImageClassification
        from transformers.utils import logging

        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        torch.backends.cudnn.allow_tf32 = False
        try:
            model = AutoModelForImageClassification.from_pretrained(
                folder,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
            )
        except refusals() as error:
            raise BadModelError(f"{folder}: transformers refuses it: {one_line(error)}") from error
        self._model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        names = self._model.config.id2label
        self.labels = [str(names[index]) for index in range(self._model.config.num_labels)]

    def scores(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """(3, H, W) as the image processor made them → (classes,), in the order of `labels`.

        By the rule of transformers' image-classification pipeline: a sigmoid for each class where
        there may be several, else a softmax over all.
        """
        import torch

        batch = torch.from_numpy(values)[None].to(self._model.device)
        with torch.no_grad():
            logits = self._model(pixel_values=batch).logits[0].float()
        several = self._model.config.problem_type == "multi_label_classification"
        if several or len(self.labels) == 1:
            scores = torch.sigmoid(logits)
        else:
            scores = torch.softmax(logits, dim=0)
        result: NDArray[np.float32] = scores.cpu().numpy()
        return result
