"""Whether transformers can build the network that config.json describes, before any weights.

The network is made without memory (torch's `meta` device) and shown an image of no content, so a
field of a wrong type, sizes that don't go together and images of another size are found in well
under a second, before a cluster is asked for anything. Which field is at fault is found by
leaving out each in turn.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from pipeline.errors import BadModelError
from pipeline.fields import is_whole, one_line, refusals, short
from pipeline.models.config import CONFIG, ModelConfig
from pipeline.models.fetch import ModelFolder
from pipeline.models.weights import weight_files

#: safetensors itself allows 100 MB.
_LONGEST_HEADER: Final = 2**27
#: Each of its layers has a tensor at least.
_DEPTHS: Final = ("num_hidden_layers", "num_layers", "depths", "encoder_layers")

Shapes = dict[str, list[int]]


def check_fit(folder: ModelFolder, height: int, width: int) -> None:
    """Raise BadModelError, naming the field, unless the network can be made and takes such images.

    Weights are compared by name and shape, from their headers; transformers knows some under
    other names, so what is missing shows when they are loaded.
    """
    config = ModelConfig.read(folder.path, folder.id)
    shapes = _shapes(folder)
    _check_depth(config, len(shapes))
    try:
        expected = _built(folder.path, height, width)
    except refusals() as error:
        raise _refusal(config, error, height, width) from error
    for name, shape in expected.items():
        if shapes.get(name, shape) != shape:
            raise BadModelError(
                f"{folder.id}: the weights don't fit {CONFIG} in {name}: they are "
                f"{shapes[name]}, it asks for {shape}; fine-tune the model with its class head "
                "and save it again"
            )


def headers(folder: ModelFolder) -> Iterator[bytes]:
    """The names, types and shapes of the tensors in each file, as JSON. Raises BadModelError."""
    for path in weight_files(folder.path, folder.id):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _LONGEST_HEADER:
                raise _no_safetensors(folder.id, path)
            yield file.read(length)


def _shapes(folder: ModelFolder) -> Shapes:
    shapes: Shapes = {}
    for path, header in zip(weight_files(folder.path, folder.id), headers(folder), strict=True):
        try:
            tensors = json.loads(header)
            tensors.pop("__metadata__", None)
            shapes |= {name: list(tensor["shape"]) for name, tensor in tensors.items()}
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            raise _no_safetensors(folder.id, path) from None
    return shapes


def _no_safetensors(name: str, path: Path) -> BadModelError:
    return BadModelError(f"{name}: {path.name} cannot be loaded: it is no safetensors file")


def _check_depth(config: ModelConfig, tensors: int) -> None:
    """Refuse layers beyond number: making them would take for ever."""
    for field in _DEPTHS:
        value = config.raw.get(field)
        counts = value if isinstance(value, list) else [value]
        if sum(count for count in counts if count and is_whole(count)) > tensors:
            raise BadModelError(
                f"{config.name}: {field} in {CONFIG} is {short(value)}, and the weights hold only "
                f"{tensors} tensors"
            )


def _built(folder: Path, height: int, width: int) -> Shapes:
    """The shapes of the parameters of the network, which has been run once."""
    import torch
    from transformers import AutoConfig, AutoModelForImageClassification
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    own: dict[str, Any] = {"trust_remote_code": False}
    config = AutoConfig.from_pretrained(folder, local_files_only=True, **own)
    with torch.device("meta"):
        make: Any = AutoModelForImageClassification.from_config
        model = make(config, **own).eval()
        with torch.inference_mode():
            _run(model, torch.empty(1, 3, height, width), config.num_labels)
    return {name: list(tensor.shape) for name, tensor in model.state_dict().items()}


def _run(model: Any, pixels: Any, classes: int) -> None:
    try:
        logits = model(pixel_values=pixels).logits
    except NotImplementedError:  # it wants to see numbers, and is tried when it has some
        return
    if logits.shape != (1, classes):
        raise ValueError(f"its logits are {list(logits.shape)} for {classes} classes")


def _refusal(config: ModelConfig, error: Exception, height: int, width: int) -> BadModelError:
    problem = one_line(error)
    field = _culprit(config.raw, height, width)
    if field is None:
        return BadModelError(
            f"{config.name}: the model cannot be loaded: transformers cannot make the network of "
            f"{CONFIG}, for images of {height}x{width}: {problem}"
        )
    return BadModelError(
        f"{config.name}: {field} in {CONFIG} is {short(config.raw[field])}, and the model cannot "
        f"be loaded with it, for images of {height}x{width}: {problem}"
    )


def _culprit(raw: dict[str, Any], height: int, width: int) -> str | None:
    """The one field without which the network can be made; None if there is no such one."""
    with TemporaryDirectory() as scratch:
        for field in raw:
            rest = {key: value for key, value in raw.items() if key != field}
            Path(scratch, CONFIG).write_text(json.dumps(rest), encoding="utf-8")
            try:
                _built(Path(scratch), height, width)
            except refusals():
                continue
            return field
    return None
