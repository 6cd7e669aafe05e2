"""A model's preprocessing, read from its own processor config.

The steps are taken from the resolved Hugging Face processor, so that its class's defaults
apply where the config is silent. If a processor has other steps, it is kept
whole and makes the pixels itself. In both cases the result is compared with the processor on a few
images before anything is labelled; if it differs, the model is refused.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Resampling

from pipeline.errors import BadModelError
from pipeline.fields import one_line, refusals
from pipeline.images.processors import load_processor, run, written
from pipeline.images.timm_processor import NAME, TimmProcessor
from pipeline.images.transform import resize_crop

#: (height, width): both orders of Pillow's passes, shrinking, growing, odd, smaller than a crop.
_PROBES = ((300, 400), (1200, 500), (255, 257), (37, 53), (3, 7))

_METHODS = (
    "process_image",
    "convert_to_rgb",
    "resize",
    "center_crop",
    "pad",
    "preprocess",
    "_preprocess",
    "_preprocess_image_like_inputs",
    "_prepare_image_like_inputs",
    "_standardize_kwargs",
)

#: Overrides that were checked: they add nothing (segmentation maps) or are followed here.
_KNOWN = {
    "BeitImageProcessorPil": {"preprocess", "_preprocess", "_preprocess_image_like_inputs"},
    "ConvNextImageProcessorPil": {"resize", "_preprocess"},
}

#: Above this, ConvNeXT's processor warps to a square and does not crop.
_CONVNEXT_WARPS_FROM = 384


@dataclass(frozen=True)
class Preprocess:
    """Geometry and scale from bytes to the model: the model sees (pixels × rescale − mean) / std.

    Resize to `box` (height, width) or so that the short edge is `shortest_edge`, then centre
    crop to `crop` (height, width), whose start is the half rounded to even if `crop_half_even`,
    else rounded down; `resample` is a `PIL.Image.Resampling`. If `config` is set,
    it is the JSON of the processor that makes the pixels instead. Output: uint8
    (`height`, `width`, 3). `on_white`: the processor lays images on white (do_convert_rgb),
    which affects an RGB image only if one colour is declared transparent.
    """

    height: int
    width: int
    rescale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    processor: str
    on_white: bool
    resample: int = Resampling.BILINEAR
    box: tuple[int, int] | None = None
    shortest_edge: int | None = None
    crop: tuple[int, int] | None = None
    config: str | None = None
    crop_half_even: bool = False

    @classmethod
    def from_folder(cls, path: Path) -> Self:
        """Read a model folder. Raises BadModelError: no config, unknown processor, no fixed size,
        or steps that cannot be split into uint8 pixels and a scale."""
        processor = load_processor(path)
        who = f"{path}: {_name(processor)} with this {written(path).file}"
        probes = [_probe(*size) for size in _PROBES]
        expected = [_run(who, processor, probe) for probe in probes]
        scale = _scale(processor)
        _check_split(who, processor, probes, expected, scale)
        height, width = expected[0].shape[:2]
        common = (height, width, *scale, _name(processor), bool(processor.do_convert_rgb))
        steps = _plain_steps(processor)
        if steps is not None:
            plain = cls(*common, **steps)
            if plain._agrees(probes, expected):
                return plain
        if isinstance(processor, TimmProcessor):
            raise BadModelError(
                f"{who} does more than resize and crop from the centre (crop_mode, input_size in "
                "pretrained_cfg), which is not done here; use another model"
            )
        return cls(*common, config=_config(processor))

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) after resizing, before the crop.

        transformers.image_transforms.get_resize_output_image_size: the long edge is truncated to an
        integer, not rounded.
        """
        if self.box is not None:
            return self.box
        if self.shortest_edge is None:
            return height, width
        long = int(self.shortest_edge * max(height, width) / min(height, width))
        return (long, self.shortest_edge) if width <= height else (self.shortest_edge, long)

    def doubled(self, height: int, width: int) -> tuple[int, int]:
        """Twice `resized`: the least that an image is decoded to before it is resized."""
        resized = self.resized(height, width)
        return 2 * resized[0], 2 * resized[1]

    def as_dict(self) -> dict[str, Any]:
        """JSON values, for the recipe; `path` is `fast`, or `hf` if the processor does the work."""
        fields = asdict(self)
        if self.config is None:
            path, unused = "fast", ["config"] if self.crop_half_even else ["config", _HALF_EVEN]
        else:
            path, unused = "hf", ["resample", "box", "shortest_edge", "crop", _HALF_EVEN]
            fields["config"] = json.loads(self.config)
        said = {name: value for name, value in fields.items() if name not in unused}
        plain: dict[str, Any] = json.loads(json.dumps({"reference": "pil", "path": path} | said))
        return plain

    def _agrees(self, probes: list[NDArray[np.uint8]], expected: list[NDArray[np.uint8]]) -> bool:
        ours = (resize_crop(probe, self) for probe in probes)
        return all(np.array_equal(a, b) for a, b in zip(ours, expected, strict=True))


#: Only for timm: recorded only if true, so that older recipes keep their fingerprints.
_HALF_EVEN: Final = "crop_half_even"

Scale = tuple[float, tuple[float, ...], tuple[float, ...]]


def _scale(processor: Any) -> Scale:
    """(rescale, mean, std), including EfficientNet's offset and second division."""
    if isinstance(processor, TimmProcessor):
        rescale, mean, std = processor.scale
        return rescale, _triple(mean), _triple(std)
    rescale = float(processor.rescale_factor) if processor.do_rescale else 1.0
    mean = _triple(processor.image_mean if processor.do_normalize else 0.0)
    std = _triple(processor.image_std if processor.do_normalize else 1.0)
    options = type(processor).valid_kwargs.__annotations__
    if processor.do_rescale and "rescale_offset" in options and processor.rescale_offset:
        mean = tuple(value + 1.0 for value in mean)
    if "include_top" in options and processor.include_top:
        again = _triple(processor.image_std)
        std = tuple(a * b for a, b in zip(std, again, strict=True))
    return rescale, mean, std


def _name(processor: Any) -> str:
    return NAME if isinstance(processor, TimmProcessor) else type(processor).__name__


def _triple(value: Any) -> tuple[float, ...]:
    values = value if isinstance(value, list | tuple) else [value] * 3
    return tuple(float(v) for v in values)


def _plain_steps(processor: Any) -> dict[str, Any] | None:
    """The processor's steps as fields of Preprocess, or None if it has other steps."""
    from transformers.image_processing_backends import PilBackend

    if isinstance(processor, TimmProcessor):
        return processor.steps
    kind = type(processor)
    overrides = {m for m in _METHODS if getattr(kind, m) is not getattr(PilBackend, m)}
    if overrides - _KNOWN.get(kind.__name__, set()):
        return None
    size = dict(processor.size or {}) if processor.do_resize else {}
    crop = dict(processor.crop_size or {}) if processor.do_center_crop else {}
    steps: dict[str, Any] = {"resample": _resample(processor), "crop": _pair(crop)}
    if kind.__name__ == "ConvNextImageProcessorPil" and size:
        return None if crop else steps | _convnext(size["shortest_edge"], processor.crop_pct)
    if set(size) == {"height", "width"}:
        return steps | {"box": _pair(size)}
    if set(size) == {"shortest_edge"}:
        return steps | {"shortest_edge": size["shortest_edge"]}
    return None if size else steps


def _convnext(edge: int, crop_pct: float) -> dict[str, Any]:
    if edge >= _CONVNEXT_WARPS_FROM:
        return {"box": (edge, edge)}
    return {"shortest_edge": int(edge / crop_pct), "crop": (edge, edge)}


def _resample(processor: Any) -> int:
    return int(Resampling.BILINEAR if processor.resample is None else processor.resample)


def _pair(size: dict[str, int]) -> tuple[int, int] | None:
    return (size["height"], size["width"]) if size else None


def _probe(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def _run(
    who: str, processor: Any, pixels: NDArray[np.uint8], normalise: bool = False
) -> NDArray[Any]:
    try:
        return run(processor, pixels, normalise=normalise)
    except refusals() as error:
        raise BadModelError(f"{who} cannot process an image: {one_line(error)}") from error


def _check_split(
    who: str, processor: Any, probes: list[Any], expected: list[NDArray[Any]], scale: Scale
) -> None:
    if len({array.shape for array in expected}) > 1:
        raise BadModelError(f"{who} gives images of no fixed size")
    rescale, mean, std = (np.asarray(value, np.float64) for value in scale)
    for probe, pixels in zip(probes, expected, strict=True):
        whole = _run(who, processor, probe, normalise=True)
        same = pixels.dtype == np.uint8 and pixels.shape == whole.shape
        if not same or not np.allclose(whole, (pixels * rescale - mean) / std, 1e-5, 1e-5):
            raise BadModelError(f"{who} does more than scale and shift its pixels")


def _config(processor: Any) -> str:
    fields = json.loads(processor.to_json_string())
    return json.dumps(fields, sort_keys=True)
