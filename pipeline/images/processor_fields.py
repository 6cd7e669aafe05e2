"""The fields of an image processor that decide pixels, and the valid values of each.

transformers checks few of them: text for a filter becomes bilinear, and a mean that is no number
ends in a traceback at the first image. Here the field at fault is named before that.
"""

from collections.abc import Callable
from typing import Any, Final

from PIL.Image import Resampling

from pipeline.errors import BadModelError
from pipeline.fields import bad_field, is_number, is_text, is_whole

#: Pixels of an edge; with more, five test images would not fit in a machine's memory.
MAX_EDGE: Final = 4096
#: What ConvNeXT's processor divides its edge by.
_CROP_PCT: Final = (0.1, 10.0)


def check_fields(name: str, file: str, fields: dict[str, Any]) -> None:
    """Raise BadModelError for the first field of a wrong type; `name` is the model's, for the
    message.

    null is a processor's value for "not given", and passes: see `check_resolved`.
    """
    for field, value in fields.items():
        if value is not None and field in _KINDS:
            holds, due = _KINDS[field]
            if not holds(value):
                raise bad_field(name, file, field, value, due)


def check_resolved(name: str, file: str, processor: Any) -> None:
    """Raise BadModelError if the processor lacks what its own steps need."""
    for switch, needed in _NEEDS.items():
        if getattr(processor, switch, None):
            for field in needed:
                if getattr(processor, field, None) is None:
                    raise BadModelError(
                        f"{name}: {field} in {file} is null or missing, and {switch} needs it"
                    )


def is_edge(value: Any) -> bool:
    """Whether it is a number of pixels that an image may have on a side."""
    return is_whole(value) and 0 < value <= MAX_EDGE


def is_mean(value: Any) -> bool:
    """Whether it is one number, or one for each of three channels."""
    if isinstance(value, list):
        return len(value) == 3 and all(map(is_number, value))
    return is_number(value)


def is_std(value: Any) -> bool:
    """The same, and none of them zero: pixels are divided by it."""
    return is_mean(value) and (all(value) if isinstance(value, list) else bool(value))


def _is_size(value: Any) -> bool:
    if isinstance(value, dict):
        given = [edge for edge in value.values() if edge is not None]
        return bool(given) and all(map(is_edge, given))
    if isinstance(value, list):
        return len(value) == 2 and all(map(is_edge, value))
    return is_edge(value)


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool) or value in (0, 1)


def _is_filter(value: Any) -> bool:
    return is_whole(value) and value in set(Resampling)


def _is_crop_pct(value: Any) -> bool:
    return is_number(value) and _CROP_PCT[0] <= value <= _CROP_PCT[1]


Kind = tuple[Callable[[Any], bool], str]

_SWITCH: Final[Kind] = (_is_switch, "true or false")
_SIZE: Final[Kind] = (
    _is_size,
    f"pixels from 1 to {MAX_EDGE:,}: a number, [height, width] or an object such as "
    '{"shortest_edge": 224}',
)
_NAME: Final[Kind] = (is_text, "text")

_KINDS: Final[dict[str, Kind]] = {
    "auto_map": (lambda value: isinstance(value, dict), "an object"),
    "crop_pct": (_is_crop_pct, f"a number from {_CROP_PCT[0]} to {_CROP_PCT[1]:g}"),
    "crop_size": _SIZE,
    "default_to_square": _SWITCH,
    "do_center_crop": _SWITCH,
    "do_convert_rgb": _SWITCH,
    "do_flip_channel_order": _SWITCH,
    "do_normalize": _SWITCH,
    "do_pad": _SWITCH,
    "do_rescale": _SWITCH,
    "do_resize": _SWITCH,
    "feature_extractor_type": _NAME,
    "image_mean": (is_mean, "a number, or a list of three"),
    "image_processor_type": _NAME,
    "image_std": (is_std, "a number other than 0, or a list of three"),
    "include_top": _SWITCH,
    "pad_size": _SIZE,
    "resample": (
        _is_filter,
        f"the number of a resampling filter of Pillow, 0 to {max(Resampling)} (2 is bilinear, "
        "3 bicubic)",
    ),
    "rescale_factor": (is_number, "a number"),
    "rescale_offset": _SWITCH,
    "size": _SIZE,
}

_NEEDS: Final = {
    "do_resize": ("size", "resample"),
    "do_center_crop": ("crop_size",),
    "do_rescale": ("rescale_factor",),
    "do_normalize": ("image_mean", "image_std"),
}
