"""Loads models with transformers: device, precision, and a check that the weights fit."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import BadModelError, ModelError
from pipeline.fields import one_line, refusals
from pipeline.models.backends.vit import slim
from pipeline.models.missing import reaching
from pipeline.models.purpose import CLASSIFYING, Purpose, Reader

if TYPE_CHECKING:
    import torch


def pick_device() -> "torch.device":
    """The CUDA device that this process may use, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_count() -> int:
    """How many CUDA devices this process may use."""
    import torch

    return torch.cuda.device_count()


def pick_precision(asked: str, device: "torch.device") -> str:
    """What `auto` becomes: fp16 on a GPU, fp32 on a CPU.

    fp16 is as fast as bf16 and has eight times its steps: labels are closer to fp32's, see
    docs/performance.md. Raises ModelError for int8, which torch does not run here.
    """
    if asked == "int8" and device.type != "cpu":
        raise ModelError("--precision int8 is for CPUs; on a GPU fp16 is faster and closer")
    if asked == "int8":
        raise ModelError(
            "--precision int8 needs OpenVINO, and a model that it can run: see `nightlabel doctor "
            "--model`; or use fp32"
        )
    if asked != "auto":
        return asked
    return "fp16" if device.type == "cuda" else "fp32"


def dtype_of(precision: str) -> "torch.dtype":
    import torch

    halves = {"bf16": torch.bfloat16, "fp16": torch.float16}
    return halves.get(precision, torch.float32)


def device_name(device: "torch.device") -> str:
    """`cpu`; or `cuda:` and the GPU's name, `rocm:` if torch calls AMD's GPUs "cuda"."""
    import torch

    if device.type != "cuda":
        return device.type
    kind = "rocm" if torch.version.hip else "cuda"
    return f"{kind}:{torch.cuda.get_device_name(device)}"


def torch_in_words() -> str:
    """`PyTorch 2.13.0+cpu, built for CPUs only,` or for a kind of GPU."""
    import torch

    built = torch.version
    kind = f"ROCm {built.hip}" if built.hip else f"CUDA {built.cuda}" if built.cuda else "CPUs only"
    return f"PyTorch {torch.__version__}, built for {kind},"


def unused_gpu() -> str | None:
    """A GPU that torch can use and Nightlabel does not, by its name; None if there is none."""
    import torch

    if torch.backends.mps.is_available():
        return "Apple's GPU (MPS)"
    return "Intel's GPU (XPU)" if torch.xpu.is_available() else None


@dataclass(frozen=True)
class Weights:
    """A network and what its files contained.

    `read` is what its purpose reads of it. `unread`: weights that the files lack and no result
    depends on; `unused`: weights in the files that the network does not have.
    """

    model: Any
    reader: Reader
    unread: list[str]
    unused: list[str]


def sum_in_fp32() -> None:
    """Without this torch may use fewer bits than `precision` says: TF32 keeps 10 bits of 23.

    By the names of torch 2.4, which 2.13 still takes, though with a warning. To set some by its
    new names (`fp32_precision`) and some by the old makes torch raise when it compiles.
    """
    import torch

    cuda = torch.backends.cuda.matmul
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        cuda.allow_fp16_reduced_precision_reduction = False
        cuda.allow_bf16_reduced_precision_reduction = False
    if hasattr(cuda, "allow_fp16_accumulation"):  # since torch 2.7
        cuda.allow_fp16_accumulation = False


def channels_last(model: Any) -> None:
    """Order the weights of a convolutional network as its images are: (H, W, channels).

    Otherwise cuDNN orders them so before each convolution. A network with one convolution has it
    for its patches, and gains nothing.
    """
    import torch

    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.Conv2d)]
    for layer in layers if len(layers) > 1 else ():
        layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)


def load_classifier(
    folder: Path,
    device: "torch.device",
    precision: str,
    size: tuple[int, int] | None = None,
) -> Any:
    """The model in `folder`, in evaluation mode, slim: safetensors only, no code, no network
    access.

    `size`: see `load_weights`. Raises BadModelError as `load_weights` does.
    """
    model = load_weights(folder, device, precision, size).model
    slim(model)
    return model


def load_weights(
    folder: Path,
    device: "torch.device",
    precision: str,
    size: tuple[int, int] | None = None,
    purpose: Purpose = CLASSIFYING,
) -> Weights:
    """The network in `folder` as transformers makes it, with all weights that its results need.

    `size` (height, width) of its images allows testing weights that the files lack: if no result
    depends on one, that is no error. Raises BadModelError if weights can't be read, don't fit
    config.json, or lack what results depend on.
    """
    from transformers import AutoConfig
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    # Its warnings are raised below, or reported by `doctor`.
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    if device.type == "cuda":
        sum_in_fp32()
    own: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = purpose.prepared(AutoConfig.from_pretrained(folder, **own))
        model, info = purpose.network(config).from_pretrained(
            folder,
            config=config,
            dtype=dtype_of(precision),
            **own,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # reported in `info`, refused below
            output_loading_info=True,
        )
    except refusals() as error:
        raise BadModelError(f"{folder}: the model cannot be loaded: {one_line(error)}") from error
    model = model.to(device).eval()
    if device.type == "cuda":
        channels_last(model)
    reader = purpose.reader(model)
    unfit = (key for key, *_ in info["mismatched_keys"])
    refuse_keys(folder, "don't fit config.json in", unfit, purpose)
    missing = sorted(info["missing_keys"])
    needed = reaching(model, missing, size, reader) if size else missing
    refuse_keys(folder, "lack", needed, purpose)
    return Weights(model, reader, missing, sorted(info["unexpected_keys"]))


def refuse_keys(
    name: str | Path, what: str, keys: Iterable[str], purpose: Purpose = CLASSIFYING
) -> None:
    """Raise BadModelError if there are any, naming the first three."""
    if names := sorted(keys):
        raise BadModelError(f"{name}: the weights {what} {some(names)}, {purpose.lacking}")


def some(names: list[str]) -> str:
    """The first three of many names."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"
