"""A model's own image processor, found as transformers finds it, with its fields checked.

transformers chooses the class: it looks into three files and at the model's type. It
is asked for the Pillow form (`…Pil`), independent of what happens to be installed: if
torchvision is installed, transformers would otherwise choose another backend, and other pixels.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import BadModelError
from pipeline.fields import JsonObject, bad_field, is_text, one_line, read_object, refusals, short
from pipeline.images.processor_fields import check_fields, check_resolved
from pipeline.images.timm_processor import NAME, PART, TimmProcessor, check_timm_fields

CONFIG = "preprocessor_config.json"
NESTED = "processor_config.json"
MODEL = "config.json"

#: Switches for steps after the uint8 pixels; `include_top` is EfficientNet's.
AFTER_THE_PIXELS = frozenset({"do_rescale", "do_normalize", "include_top"})


class Written(NamedTuple):
    """What a folder says of its processor, and in which file."""

    file: str
    fields: JsonObject


def load_processor(folder: Path) -> Any:
    """The Pillow processor of a model folder; raises BadModelError, naming file and field."""
    from transformers import AutoImageProcessor
    from transformers.image_processing_backends import PilBackend
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    said = written(folder)
    if said.file == MODEL:
        check_timm_fields(str(folder), said.file, said.fields)
    else:
        check_fields(str(folder), said.file, said.fields)
    find: Any = AutoImageProcessor.from_pretrained
    own: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    with _present_names(folder, said) as present:
        try:
            processor = find(present, backend="pil", **own)
        except refusals() as error:
            raise _refusal(folder, said, error) from error
    if type(processor).__name__ == NAME:
        return TimmProcessor(processor)
    if not isinstance(processor, PilBackend):
        raise _no_pillow(folder, type(processor).__name__)
    check_resolved(str(folder), said.file, processor)
    return processor


@lru_cache(maxsize=4)
def saved_processor(name: str, config: str) -> Any:
    """The Pillow processor called `name` with a JSON config, as `Preprocess` carries them."""
    from transformers.models.auto.image_processing_auto import get_image_processor_class_from_name

    return get_image_processor_class_from_name(name)(**json.loads(config))


def run(
    processor: Any, image: NDArray[np.uint8] | Image.Image, *, normalise: bool = False
) -> NDArray[Any]:
    """Process RGB (H, W, 3): to uint8 (h, w, 3) or, normalised, to the model's float32.

    Pillow's information beside the pixels matters: a transparent colour may turn white.
    """
    # A Pillow image, since an array of 1 or 3 rows would be taken for channels first.
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image)
    if isinstance(processor, TimmProcessor):
        return processor.run(image, normalise=normalise)
    known = set(processor.valid_kwargs.__annotations__) & AFTER_THE_PIXELS
    options = {} if normalise else dict.fromkeys(known, False)
    values = processor(image, return_tensors="np", **options)["pixel_values"]
    return np.ascontiguousarray(values[0].transpose(1, 2, 0))


def written(folder: Path) -> Written:
    """A timm checkpoint first, then a part of `processor_config.json`, as transformers does."""
    name = str(folder)
    model = read_object(folder / MODEL, name) or JsonObject()
    if PART in model:
        return Written(MODEL, model)
    nested = (read_object(folder / NESTED, name) or JsonObject()).get("image_processor")
    if nested is not None and not isinstance(nested, dict):
        raise bad_field(name, NESTED, "image_processor", nested, "an object")
    if nested is not None:
        return Written(NESTED, JsonObject(nested))
    fields = read_object(folder / CONFIG, name)
    if fields is None:
        raise BadModelError(
            f"{folder} has no {CONFIG}, which says how its images are resized; "
            "save the model's image processor there"
        )
    return Written(CONFIG, fields)


@contextmanager
def _present_names(folder: Path, written: Written) -> Iterator[Path]:
    """The folder, or a replacement if its `image_processor_type` is a `…FeatureExtractor`.

    transformers reads such a name from before 2022 only in `feature_extractor_type`.
    """
    kind = written.fields.get("image_processor_type")
    if not isinstance(kind, str) or not kind.endswith("FeatureExtractor"):
        yield folder
        return
    present = written.fields | {"image_processor_type": None, "feature_extractor_type": kind}
    with TemporaryDirectory() as scratch:
        Path(scratch, CONFIG).write_text(json.dumps(present), encoding="utf-8")
        yield Path(scratch)


def _refusal(folder: Path, written: Written, error: Exception) -> BadModelError:
    kind = written.fields.get("image_processor_type") or written.fields.get(
        "feature_extractor_type"
    )
    own_code = "auto_map" in written.fields
    if kind is None and not own_code and not _names_model(folder):
        return BadModelError(
            f"{folder}: the image processor is not known: {written.file} has no "
            f"image_processor_type, and {MODEL} no model_type"
        )
    if kind is not None and not _known(kind):
        problem = "needs code of its own" if own_code else "is not known"
        return BadModelError(
            f"{folder}: the image processor {short(kind)} (image_processor_type in "
            f"{written.file}) {problem}; use another model"
        )
    if "could be imported" in str(error):  # it has other forms, but not Pillow's
        return _no_pillow(folder, str(kind))
    return BadModelError(
        f"{folder}: transformers refuses {written.file} or {MODEL}: {one_line(error)}"
    )


def _names_model(folder: Path) -> bool:
    return is_text((read_object(folder / MODEL, str(folder)) or JsonObject()).get("model_type"))


def _known(kind: Any) -> bool:
    auto = import_module("transformers.models.auto.image_processing_auto")
    name = str(kind).replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast")
    return any(name in classes.values() for classes in auto.IMAGE_PROCESSOR_MAPPING_NAMES.values())


def _no_pillow(folder: Path, kind: str) -> BadModelError:
    return BadModelError(
        f"{folder}: the image processor {kind} has no Pillow form; use another model"
    )
