"""Usage checks: refuses a job that can never succeed, by its options only, before anything is
loaded.

Only certain errors are refused here. A remote path, or a file that turns out to be no list or no
model when it is read, is refused later with its own message.
"""

import errno
import os
import re
from pathlib import Path
from typing import Final

from pipeline.engine.address import check_address
from pipeline.errors import SpecError
from pipeline.spec import DEFAULT_MODEL, LabelSpec
from pipeline.storage import local_path
from pipeline.words import DEFAULT_TASK

_CONFIG: Final = "config.json"
#: The config of an adapter without its model, which has its own error message.
_ADAPTER: Final = "adapter_config.json"


def check_usage(spec: LabelSpec) -> None:
    """Raises SpecError for a local SRC or model that does not exist, and for an invalid address."""
    check_address(spec.address)
    asked = spec.task == DEFAULT_TASK or spec.model != DEFAULT_MODEL
    check_paths(spec.src, spec.model if asked else None)


def check_paths(src: str, model: str | None) -> None:
    """Raises SpecError if either is local and does not exist."""
    _check_src(src)
    if model is not None:
        _check_model(model)


def _check_src(src: str) -> None:
    """Refuse a local folder, list or image that does not exist; of a glob, its fixed folder."""
    path = local_path(src)
    if path is None or _there(path, "src", src):
        return
    fixed = re.split(r"[*?\[]", str(path), maxsplit=1)[0]
    if fixed == str(path):
        raise SpecError("src", src, f"no such file or folder: {path}")
    if not _there(folder := Path(fixed.rpartition("/")[0] or "/"), "src", src):
        raise SpecError("src", src, f"no such folder: {folder}")


def _check_model(model: str) -> None:
    """Refuse a model written as a local folder that does not exist or has no model in it."""
    if "://" in model and not model.startswith("file://"):
        return
    path = local_path(os.path.expanduser(model))  # noqa: PTH111 - Path's raises for no such user
    assert path is not None  # noqa: S101 - a local one
    if _there(path, "model", model) and os.path.isdir(path):  # noqa: PTH112 - False where refused
        if not any(_there(path / name, "model", model) for name in (_CONFIG, _ADAPTER)):
            raise SpecError("model", model, f"no {_CONFIG} in this folder, so it holds no model")
    elif model.startswith(("file://", "/", ".", "~")) or model.count("/") > 1:
        raise SpecError("model", model, f"no such folder: {path}")


def _there(path: Path, field: str, value: str) -> bool:
    """False only for a path that certainly does not exist."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except ValueError:
        raise SpecError(field, value, "holds a NUL, which no path has") from None
    except OSError as error:
        return error.errno not in (errno.ENAMETOOLONG, errno.ELOOP)
    return True
