"""timm checkpoints, which transformers loads through its wrapper if timm is installed."""

import re
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from pipeline.errors import BadModelError
from pipeline.fields import bad_field, is_number, is_text, is_whole
from pipeline.models.labels import MAX_CLASSES, listed_names

_MODEL_TYPE = "timm_wrapper"
_FILE = "config.json"

#: A name of timm's register, never a place such as `hf-hub:…` or `local-dir:…`.
_ARCHITECTURE = re.compile(r"\w+(\.\w+)*")

#: Arguments of timm.create_model that fetch or read files.
_READS_FILES = frozenset(
    {"cache_dir", "checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay"}
)


def is_timm(config: dict[str, Any]) -> bool:
    """Whether this config.json is one of timm's: transformers looks at `pretrained_cfg`."""
    if "pretrained_cfg" in config or config.get("model_type") == _MODEL_TYPE:
        return True
    return "architecture" in config and not config.get("architectures")


def check(name: str, config: dict[str, Any]) -> None:
    """Raise BadModelError unless the installed timm can build the model `name`."""
    architecture = config.get("architecture")
    if not is_text(architecture) or not _ARCHITECTURE.fullmatch(str(architecture)):
        raise bad_field(name, _FILE, "architecture", architecture, "the name of a model of timm")
    for field in ("pretrained_cfg", "model_args"):
        if not isinstance(config.get(field) or {}, dict):
            raise bad_field(name, _FILE, field, config[field], "an object")
    for argument, value in (config.get("model_args") or {}).items():
        if argument in _READS_FILES or not _plain(value):
            raise bad_field(
                name, _FILE, f"model_args.{argument}", value, "left out: it is not passed on"
            )
    if find_spec("timm") is None or find_spec("torchvision") is None:
        raise BadModelError(
            f"{name} is a model of timm ({architecture}), which is not installed: "
            "pip install 'nightlabel[timm]'"
        )
    timm = import_module("timm")
    if not timm.is_model(str(architecture).partition(".")[0]):
        raise BadModelError(
            f"{name} is a {architecture}, which timm {timm.__version__} does not know; "
            "install a newer timm or choose another --model"
        )


def class_names(name: str, config: dict[str, Any]) -> list[str]:
    """In the order of the logits: `label_names`, else those of the ImageNet version that timm
    knows.

    The rule of transformers' TimmWrapperConfig. Raises BadModelError.
    """
    number = config.get("num_classes")
    if number is not None and not (is_whole(number) and 0 < number <= MAX_CLASSES):
        raise bad_field(name, _FILE, "num_classes", number, f"a number from 1 to {MAX_CLASSES:,}")
    names = config.get("label_names")
    found = _of_imagenet(config) if names is None else listed_names(name, names)
    if found is None:
        return [f"LABEL_{i}" for i in range(2 if number is None else number)]
    if number is not None and number != len(found):
        raise BadModelError(
            f"{name}: num_classes in {_FILE} is {number}, but there are {len(found)} names of "
            "classes (label_names)"
        )
    return found


def _of_imagenet(config: dict[str, Any]) -> list[str] | None:
    data = import_module("timm.data")
    subset = data.infer_imagenet_subset(config)
    if not subset:
        return None
    known = data.ImageNetInfo(subset)
    descriptions = known.label_descriptions(as_dict=True)
    return [descriptions[synset] for synset in known.label_names()]


def _plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_plain, value))
    return value is None or isinstance(value, bool) or is_number(value) or is_text(value)
