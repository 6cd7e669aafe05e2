"""transformers' side of a model: device, precision, and weights that fit."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import ModelError
from pipeline.models.int8 import quantise
from pipeline.models.packed import has_onednn, pack
from pipeline.models.vit import slim

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
    docs/performance.md. Raises ModelError for int8 on a GPU.
    """
    if asked == "int8" and device.type != "cpu":
        raise ModelError("--precision int8 is for CPUs; on a GPU fp16 is faster and closer")
    if asked != "auto":
        return asked
    return "fp16" if device.type == "cuda" else "fp32"


def dtype_of(precision: str) -> "torch.dtype":
    import torch

    halves = {"bf16": torch.bfloat16, "fp16": torch.float16}
    return halves.get(precision, torch.float32)  # int8 is made from fp32


def device_name(device: "torch.device") -> str:
    """`cpu`, or `cuda:` and the GPU's name."""
    import torch

    return f"cuda:{torch.cuda.get_device_name(device)}" if device.type == "cuda" else device.type


def load_classifier(
    folder: Path, device: "torch.device", precision: str, *, packed: bool = False
) -> Any:
    """The model in `folder`, in evaluation mode, slim: safetensors only, no code, no network.

    `packed`: fp32 with oneDNN's layers, where the device has them. Raises ModelError if the weights
    can't be read, don't fit config.json, or are not all there.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForImageClassification
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    # What it warns of is raised below.
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    if device.type == "cuda" and precision == "fp32":
        torch.backends.cudnn.allow_tf32 = False  # convolutions would keep 10 bits of 23
    try:
        model, info = AutoModelForImageClassification.from_pretrained(
            folder,
            dtype=dtype_of(precision),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # reported in `info`, refused below
            output_loading_info=True,
        )
        model = model.to(device).eval()
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise ModelError(f"{folder}: the model cannot be loaded: {_first_line(error)}") from error
    _refuse(folder, "lack", info["missing_keys"])
    _refuse(folder, "don't fit config.json in", (key for key, *_ in info["mismatched_keys"]))
    slim(model)
    if precision == "int8":
        quantise(model)
    elif packed and precision == "fp32" and has_onednn(device):
        pack(model)
    return model


def _refuse(folder: Path, what: str, keys: Iterable[str]) -> None:
    if names := sorted(keys):
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise ModelError(
            f"{folder}: the weights {what} {', '.join(names[:3])}{more}, so labels would be "
            "random; fine-tune the model with its class head and save it again"
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
