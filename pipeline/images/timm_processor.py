"""The image processor of timm checkpoints, as transformers wraps it: timm's transforms on Pillow.

torchvision resizes Pillow images with Pillow, so the steps are the plain ones, but its crop
start is the half rounded to even, where transformers rounds down.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Resampling

from pipeline.fields import JsonObject, bad_field, is_number, is_text
from pipeline.images.processor_fields import Kind, is_edge, is_mean, is_std

NAME: Final = "TimmWrapperImageProcessor"
#: The part of config.json that decides pixels.
PART: Final = "pretrained_cfg"

_TO_TENSOR: Final = ("MaybeToTensor", "ToTensor")
_SCALE: Final = 1 / 255  # what ToTensor does


class TimmProcessor:
    """transformers' TimmWrapperImageProcessor, with the interface of processors in Pillow form."""

    do_convert_rgb = False

    def __init__(self, wrapper: Any) -> None:
        self._wrapper = wrapper
        self._transforms = list(wrapper.val_transforms.transforms)

    @property
    def scale(self) -> tuple[float, Any, Any]:
        """(rescale, mean, std) as in the config."""
        return _SCALE, self._wrapper.data_config["mean"], self._wrapper.data_config["std"]

    @property
    def steps(self) -> dict[str, Any] | None:
        """Fields of `Preprocess`, or None if timm does more than resize and crop."""
        names = [type(step).__name__ for step in self._transforms]
        if names[:2] != ["Resize", "CenterCrop"] or names[2:3] not in [[n] for n in _TO_TENSOR]:
            return None
        resize, crop = self._transforms[:2]
        name = str(resize.interpolation.value).upper()
        if name not in Resampling.__members__:
            return None
        size: dict[str, Any] = {"shortest_edge": resize.size}
        if not isinstance(resize.size, int):
            size = {"box": tuple(resize.size)}
        how = {"resample": int(Resampling[name]), "crop_half_even": True}
        return size | how | {"crop": tuple(crop.size)}

    def run(self, image: Image.Image, *, normalise: bool) -> NDArray[Any]:
        """uint8 (h, w, 3), or the model's float32 of that shape."""
        if normalise:
            values = self._wrapper(image, return_tensors="pt")["pixel_values"][0]
            return np.ascontiguousarray(values.numpy().transpose(1, 2, 0))
        for step in self._transforms:
            if type(step).__name__ in _TO_TENSOR:
                break
            image = step(image)
        return np.array(image)


def check_timm_fields(name: str, file: str, fields: JsonObject) -> None:
    """Raise BadModelError for the first field of `pretrained_cfg` that would make timm fail."""
    part = fields.get(PART)
    if not isinstance(part, dict):
        raise bad_field(name, file, PART, part, "an object")
    for field, (holds, due) in _KINDS.items():
        value = part.get(field)
        if value is not None and not holds(value):
            raise bad_field(name, file, f"{PART}.{field}", value, due)


def _is_input(value: Any) -> bool:
    return (
        isinstance(value, list)
        and value[:1] == [3]
        and all(map(is_edge, value[1:]))
        and (len(value) == 3)
    )


_KINDS: Final[dict[str, Kind]] = {
    "crop_mode": (lambda value: value in ("center", "squash", "border"), "center or squash"),
    "crop_pct": (lambda value: is_number(value) and 0.5 <= value <= 2, "a number from 0.5 to 2"),
    "input_size": (_is_input, "a list such as [3, 224, 224]"),
    "interpolation": (is_text, "text such as bicubic"),
    "mean": (lambda value: isinstance(value, list) and is_mean(value), "a list of three numbers"),
    "std": (lambda value: isinstance(value, list) and is_std(value), "a list of three, none 0"),
}
