"""Checks that a model's config.json, weights and images fit together, before any weights are read.

The network is built without memory (torch's `meta` device) and run on an image without content. So
a field of a wrong type, sizes that don't go together and images of another size are found in well
under a second, before a cluster is used. The field at fault is found by
leaving out each in turn. Then transformers loads tensors of the right names and shapes without
content, and reports what is missing.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

from pipeline.errors import BadModelError
from pipeline.fields import is_whole, one_line, refusals, short
from pipeline.models.backends.loading import load_weights, refuse_keys
from pipeline.models.config import CONFIG, ModelConfig
from pipeline.models.fetch import ModelFolder
from pipeline.models.headers import Tensor, tensors
from pipeline.models.purpose import CLASSIFYING, Embedding, Purpose

#: Each layer has at least one tensor.
_DEPTHS: Final = ("num_hidden_layers", "num_layers", "depths", "encoder_layers")

#: Limit for a network's size, as a multiple of its files: transformers would create the rest.
_BEYOND: Final = 2


class Vectors(NamedTuple):
    """The vectors of a network: `pooling`, `dim` numbers each; `poolings` are all it has."""

    pooling: str
    dim: int
    poolings: list[str]


class Network(NamedTuple):
    """A network without weights: its class, its config, how many numbers it holds, its vectors."""

    kind: Any
    config: Any
    numbers: int
    vectors: Vectors | None = None


def check_fit(
    folder: ModelFolder, height: int, width: int, purpose: Purpose = CLASSIFYING
) -> Vectors | None:
    """Raise BadModelError, naming the field or the weights, unless a run could load the model.

    Its images are height × width. Weights are read only if some are missing, see `missing`.
    Returns which vectors it gives, if its purpose needs any.
    """
    config = ModelConfig.read(folder.path, folder.id)
    found = tensors(folder)
    _check_depth(config, len(found))
    try:
        network = built(folder.path, height, width, purpose)
    except refusals() as error:
        raise _refusal(config, error, height, width, purpose) from error
    size = (height, width)
    if _lacks_any(folder, network, found, purpose):
        return _with_weights(folder, network.vectors, size, purpose)
    return network.vectors


def built(folder: Path, height: int, width: int, purpose: Purpose = CLASSIFYING) -> Network:
    """The network of a folder's config.json, run once. Raises what transformers raises."""
    import torch
    from transformers import AutoConfig
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    own: dict[str, Any] = {"trust_remote_code": False}
    config = AutoConfig.from_pretrained(folder, local_files_only=True, **own)
    config = purpose.prepared(config)
    with torch.device("meta"):
        model = purpose.make(config).eval()
        with torch.inference_mode():
            vectors = _run(model, torch.empty(1, 3, height, width), purpose)
    numbers = sum(one.numel() for one in model.parameters())
    return Network(type(model), config, numbers, vectors)


def _run(model: Any, pixels: Any, purpose: Purpose) -> Vectors | None:
    reader = purpose.reader(model)
    try:
        results = reader(pixels)
    except (NotImplementedError, RuntimeError) as error:
        if "meta" in str(error) and not purpose.vectors:
            return None  # it needs real numbers, and is tried when it has some
        raise
    classes = model.config.num_labels
    if purpose.labels and results[0].shape != (1, classes):
        raise ValueError(f"its logits are {list(results[0].shape)} for {classes} classes")
    if not purpose.vectors:
        return None
    there = reader.poolings(pixels)
    return Vectors(purpose.pooling or there[0], int(results[-1].shape[1]), there)


def _check_depth(config: ModelConfig, tensors: int) -> None:
    """Refuse an absurd number of layers: building them would take forever."""
    for field in _DEPTHS:
        value = config.raw.get(field)
        counts = value if isinstance(value, list) else [value]
        if sum(count for count in counts if count and is_whole(count)) > tensors:
            raise BadModelError(
                f"{config.name}: {field} in {CONFIG} is {short(value)}, and the weights hold only "
                f"{tensors} tensors"
            )


def _with_weights(
    folder: ModelFolder, vectors: Vectors | None, size: tuple[int, int], purpose: Purpose
) -> Vectors | None:
    """The same vectors, or the first whose weights are in the files, if any kind is accepted.

    Raises BadModelError if what is read of the network depends on a weight that is missing.
    """
    import torch

    cpu = torch.device("cpu")
    if vectors is None or purpose.pooling is not None:
        load_weights(folder.path, cpu, "fp32", size, purpose)
        return vectors
    whole = []
    for pooling in vectors.poolings:
        with suppress(BadModelError):
            load_weights(folder.path, cpu, "fp32", size, Embedding(pooling))
            whole.append(pooling)
    if not whole:
        load_weights(folder.path, cpu, "fp32", size, purpose)  # reports what they lack
    found = built(folder.path, *size, Embedding(whole[0])).vectors
    return found and found._replace(poolings=whole)


def _lacks_any(
    folder: ModelFolder, network: Network, found: dict[str, Tensor], purpose: Purpose
) -> bool:
    """Whether the files lack weights of the network. Raises BadModelError if some don't fit."""
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    held = sum(tensor.numbers for tensor in found.values())
    if network.numbers > _BEYOND * held:
        raise BadModelError(
            f"{folder.id}: the weights don't fit {CONFIG}: they are {held:,} numbers, it asks for "
            f"{network.numbers:,}"
        )
    try:
        _, info = network.kind.from_pretrained(
            None,
            config=network.config,
            state_dict={name: _empty(tensor) for name, tensor in found.items()},
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except refusals() as error:
        raise BadModelError(
            f"{folder.id}: the model cannot be loaded: {one_line(error)}"
        ) from error
    unfit = [key for key, *_ in info["mismatched_keys"]]
    refuse_keys(folder.id, "don't fit config.json in", unfit, purpose)
    return bool(info["missing_keys"])


def _empty(tensor: Tensor) -> Any:
    """A tensor of that shape that takes the memory of one number."""
    import torch

    kind = torch.float32 if tensor.kind.startswith(("F", "BF")) else torch.int64
    return torch.zeros((), dtype=kind).expand(tensor.shape)


def _refusal(
    config: ModelConfig, error: Exception, height: int, width: int, purpose: Purpose
) -> BadModelError:
    problem, size = one_line(error), f"{height}x{width}"
    field = _culprit(config.raw, height, width, purpose)
    if field is None:
        return BadModelError(
            f"{config.name}: the model cannot be loaded: transformers cannot make the network of "
            f"{CONFIG} for images of {size}: {problem}"
        )
    return BadModelError(
        f"{config.name}: {field} in {CONFIG} is {short(config.raw[field])}, and the model cannot "
        f"be loaded with it for images of {size}: {problem}"
    )


def _culprit(raw: dict[str, Any], height: int, width: int, purpose: Purpose) -> str | None:
    """The one field without which the network can be built; None if there is no such field."""
    with TemporaryDirectory() as scratch:
        for field, others in _mended(raw, height, width):
            Path(scratch, CONFIG).write_text(json.dumps(others), encoding="utf-8")
            try:
                built(Path(scratch), height, width, purpose)
            except refusals():
                continue
            except BadModelError:  # another network, which has no such vector
                continue
            return field
    return None


def _mended(raw: dict[str, Any], height: int, width: int) -> Iterator[tuple[str, dict[str, Any]]]:
    if "image_size" in raw:
        size = height if height == width else [height, width]
        yield "image_size", raw | {"image_size": size}
    for field in raw:
        yield field, {key: value for key, value in raw.items() if key != field}
