"""The reference for labels and vectors: transformers' own networks, unchanged, in fp32.

`verify` compares rows with it, so it shares no step with the engine: no other layers, no other
scaling, no batch of a fixed shape, and no shared code that finds an image's tokens.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import BadModelError
from pipeline.fields import one_line, refusals


class ReferenceModel:
    """`labels` are the classes' names in the order of the scores."""

    def __init__(self, folder: Path) -> None:
        """Load `folder`: safetensors only, no code, no network access. Raises BadModelError."""
        from transformers import AutoModelForImageClassification

        self._model = _loaded(AutoModelForImageClassification, folder)
        names = self._model.config.id2label
        self.labels = [str(names[index]) for index in range(self._model.config.num_labels)]

    def scores(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """(3, H, W) from the image processor → (classes,), in the order of `labels`.

        By the rule of transformers' image-classification pipeline: a sigmoid for each class if
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


class ReferenceBackbone:
    """A vector of an image, as transformers' documentation defines each pooling."""

    def __init__(self, folder: Path, pooling: str) -> None:
        """Load `folder`: safetensors only, no code, no network access. Raises BadModelError."""
        import transformers

        read: Any = transformers.AutoConfig.from_pretrained
        config = read(folder, local_files_only=True, trust_remote_code=False)
        if config.model_type == "vit_mae":
            config.mask_ratio = 0.0
        kind = (config.architectures or [""])[0]
        own = kind.endswith("VisionModelWithProjection")
        network = getattr(transformers, kind) if own else transformers.AutoModel
        self._model, self._pooling = _loaded(network, folder, config), pooling

    def vector(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """(3, H, W) from the image processor → (dim,)."""
        import torch

        batch = torch.from_numpy(values)[None].to(self._model.device)
        with torch.no_grad():
            vector = (
                self._projected(batch) if self._pooling == "projection" else self._pooled(batch)
            )
        result: NDArray[np.float32] = vector.float().cpu().numpy()
        return result

    def _projected(self, batch: Any) -> Any:
        if hasattr(self._model, "get_image_features"):
            return self._model.get_image_features(pixel_values=batch).pooler_output[0]
        return self._model(pixel_values=batch).image_embeds[0]

    def _pooled(self, batch: Any) -> Any:
        import torch

        vision = getattr(self._model, "vision_model", self._model)
        edge = getattr(vision.config, "patch_size", 1)
        edges = edge if isinstance(edge, list | tuple) else (edge, edge)
        patches = (batch.shape[2] // edges[0]) * (batch.shape[3] // edges[-1])
        masks = vision.config.model_type == "vit_mae"
        order = {"noise": torch.arange(patches)[None].to(batch.device).float()} if masks else {}
        output = vision(pixel_values=batch, **order)
        if self._pooling == "pooler":
            return output.pooler_output[0].flatten()
        hidden = output.last_hidden_state[0]
        if self._pooling == "cls":
            return hidden[0]
        return hidden.mean(dim=(1, 2)) if hidden.ndim == 3 else hidden[-patches:].mean(dim=0)


def _loaded(network: Any, folder: Path, config: Any = None) -> Any:
    """In fp32, for evaluation, on the GPU if there is one."""
    import torch
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.backends.cudnn.allow_tf32 = False
    try:
        model = network.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except refusals() as error:
        raise BadModelError(f"{folder}: transformers refuses it: {one_line(error)}") from error
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
