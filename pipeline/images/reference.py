"""The reference: the Hugging Face PIL processor of a model's own config.

It is asked for by its class (`…Pil`), never through what happens to be installed: beside
torchvision, transformers would choose another backend, and other pixels, on its own.
"""

import json
import warnings
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pipeline.errors import ModelError
from pipeline.images.decode import open_image, pillow_rgb
from pipeline.images.refusals import PILLOW_ERRORS
from pipeline.spec import MAX_PIXELS

CONFIG = "preprocessor_config.json"

#: Switches for what comes after the uint8 pixels; `include_top` is EfficientNet's.
AFTER_THE_PIXELS = frozenset({"do_rescale", "do_normalize", "include_top"})


def reference_pixels(
    data: bytes, folder: Path, exif: bool, *, max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """What the model in `folder` is meant to see of an image: uint8 (H, W, 3), not yet scaled.

    Pillow alone decodes and turns it, as in `transformers.image_utils.load_image` (as stored
    if `exif` is False or its EXIF is broken), and the processor resizes and crops.
    Raises ImageError for the image and ModelError for the folder.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = open_image(data, max_pixels)
        rgb = pillow_rgb(data, image)
        if exif:
            with suppress(*PILLOW_ERRORS):
                rgb = ImageOps.exif_transpose(image).convert("RGB")
    stamp = max((file.stat().st_mtime_ns for file in Path(folder).glob("*.json")), default=0)
    return run(_loaded(Path(folder), stamp), rgb)


def load_processor(folder: Path) -> Any:
    """The PIL processor of a model folder; raises ModelError, which names the mend."""
    config = _read_config(folder)
    name = _class_name(config, folder)
    if name is None:
        kind = config.get("image_processor_type") or config.get("feature_extractor_type")
        problem = "needs code of its own" if "auto_map" in config else "is not known"
        raise ModelError(f"{folder}: the image processor {kind} {problem}; use another model")
    return _construct(name, config)


@lru_cache(maxsize=4)
def saved_processor(name: str, config: str) -> Any:
    """The PIL processor called `name` with a JSON config, as `Preprocess` carries them."""
    return _construct(name, json.loads(config))


def run(
    processor: Any, image: NDArray[np.uint8] | Image.Image, *, normalise: bool = False
) -> NDArray[Any]:
    """Process RGB (H, W, 3): to uint8 (h, w, 3) or, normalised, to the model's float32.

    What Pillow knows of an image besides its pixels counts: a transparent colour may turn white.
    """
    known = set(processor.valid_kwargs.__annotations__) & AFTER_THE_PIXELS
    options = {} if normalise else dict.fromkeys(known, False)
    # An image of Pillow's, for an array of 1 or 3 rows would be taken for channels first.
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image)
    values = processor(image, return_tensors="np", **options)["pixel_values"]
    return np.ascontiguousarray(values[0].transpose(1, 2, 0))


@lru_cache(maxsize=4)
def _loaded(folder: Path, _stamp: int) -> Any:
    return load_processor(folder)


def _read_config(folder: Path) -> dict[str, Any]:
    """The processor's part of `processor_config.json` first, as transformers does."""
    nested = _read_json(folder / "processor_config.json").get("image_processor")
    config = nested if isinstance(nested, dict) else _read_json(folder / CONFIG)
    if not config:
        raise ModelError(
            f"{folder} has no {CONFIG}, which says how its images are resized; "
            "save the model's image processor there"
        )
    return config


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds no JSON object")
    return content


def _class_name(config: dict[str, Any], folder: Path) -> str | None:
    """The PIL class for a config, by its own type, its former type, or the model's type."""
    auto = import_module("transformers.models.auto.image_processing_auto")
    mapping: dict[str, dict[str, str]] = auto.IMAGE_PROCESSOR_MAPPING_NAMES
    former = config.get("feature_extractor_type", "").replace("FeatureExtractor", "ImageProcessor")
    kind = (config.get("image_processor_type") or former).removesuffix("Fast")
    for classes in mapping.values():
        if kind and kind in classes.values():
            return classes.get("pil") or kind
    if kind:
        return None
    model_type = _read_json(folder / "config.json").get("model_type", "")
    return mapping.get(model_type, {}).get("pil")


def _construct(name: str, config: dict[str, Any]) -> Any:
    from huggingface_hub.errors import StrictDataclassError
    from transformers.image_processing_backends import PilBackend
    from transformers.models.auto.image_processing_auto import get_image_processor_class_from_name

    kind = get_image_processor_class_from_name(name)
    if not (isinstance(kind, type) and issubclass(kind, PilBackend)):
        raise ModelError(f"the image processor {name} has no Pillow form; use another model")
    try:
        return kind(**config)
    except (TypeError, ValueError, KeyError, StrictDataclassError) as error:
        raise ModelError(f"{name} refuses this {CONFIG}: {error}") from error
