"""The other side of the comparison: transformers alone, asked as its own documentation says."""

from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PROCESSORS = Path(__file__).parent / "processors"

#: As the hub has them: google/vit-base-patch16-224, facebook/deit-base-distilled-patch16-224,
#: microsoft/beit-base-patch16-224, microsoft/swin-tiny-patch4-window7-224,
#: facebook/convnext-tiny-224, microsoft/resnet-50, openai/clip-vit-base-patch32,
#: google/siglip-base-patch16-224, facebook/dinov2-small.
NAMES = ("vit", "deit", "beit", "swin", "convnext", "resnet", "clip", "siglip", "dinov2")


@cache
def processor(folder: Path) -> Any:
    from transformers import AutoImageProcessor

    return AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True)


def upright(data: bytes) -> Image.Image:
    """RGB and oriented, by transformers' own loader."""
    from transformers.image_utils import load_image

    return load_image(Image.open(BytesIO(data)))


def pixels(folder: Path, image: Image.Image) -> np.ndarray:
    """uint8 (H, W, 3): the processor without its last two steps."""
    return _run(folder, image, do_rescale=False, do_normalize=False)


def whole(folder: Path, image: Image.Image, **options: Any) -> np.ndarray:
    """float32 (H, W, 3): all that the processor does."""
    return _run(folder, image, **options)


def _run(folder: Path, image: Image.Image, **options: Any) -> np.ndarray:
    values: np.ndarray = processor(folder)(image, return_tensors="np", **options)["pixel_values"][0]
    return values.transpose(1, 2, 0)
