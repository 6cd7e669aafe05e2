"""The files of a job: its resolved specification, and this package if nodes lack it.

Ray shows entry points, environments and metadata of jobs to everyone who sees its dashboard, but
not an uploaded folder. So the specification, which may hold a signed address, is a file.
"""

import os
import shutil
from datetime import datetime
from pathlib import Path
from typing import Final

from pipeline.spec import LabelSpec, deadline_at, since_at
from pipeline.storage import canonical

SPEC: Final = "spec.json"

#: In the folder of the job; run by the Python of the head's Ray.
ENTRYPOINT: Final = f"python -m pipeline.cli.job {SPEC}"

_PACKAGE: Final = Path(__file__).parents[1]


def pack(spec: LabelSpec, folder: Path, now: datetime, *, with_package: bool) -> None:
    """Fill an empty `folder`. Clock times are those of this machine; `now` is aware."""
    (folder / SPEC).write_text(resolved(spec, now).model_dump_json())
    if with_package:
        left_out = shutil.ignore_patterns("__pycache__")
        shutil.copytree(_PACKAGE, folder / _PACKAGE.name, ignore=left_out)


def resolved(spec: LabelSpec, now: datetime) -> LabelSpec:
    """The same job on a machine with another working folder, home and time zone."""
    return spec.model_copy(
        update={
            "src": canonical(spec.src),
            "dst": canonical(spec.dst),
            "model": whole_model(spec.model),
            "deadline": _moment(spec.deadline, now),
            "modified_since": _since(spec.modified_since, now),
            "events": _whole(spec.events),
            "address": None,
        }
    )


def whole_model(model: str) -> str:
    """The absolute path of a folder that exists; anything else stays as it is."""
    path = Path(os.path.expanduser(model))  # noqa: PTH111 - Path's raises for no such user
    return str(path.absolute()) if path.is_dir() else model


def _whole(events: str | None) -> str | None:
    """Not `canonical`, which drops the slash that makes a folder."""
    if events is None or "://" in events or events.startswith("/"):
        return events
    return f"{Path.cwd()}/{events}"


def _since(text: str | None, now: datetime) -> str | None:
    """As a moment, so that a retried job takes what the first one would have taken."""
    return None if text is None else since_at(text, now).isoformat(timespec="seconds")


def _moment(deadline: str | None, now: datetime) -> str | None:
    """A clock time as a moment; a duration counts from the job's start, and stays a duration."""
    if deadline is None or ":" not in deadline:
        return deadline
    return deadline_at(deadline, now).isoformat()
