"""Job ids: one job for each night and specification, however often it is submitted.

An orchestrator that lost its connection, or its memory, submits again. It must get the existing
job, not a second one.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import count
from string import ascii_lowercase
from typing import Final

from pipeline.cluster.shipping import whole_model
from pipeline.errors import SpecError
from pipeline.spec import LabelSpec
from pipeline.storage import canonical, identity

PREFIX: Final = "nightlabel-"

#: A night begins and ends at noon, so that midnight does not divide it. That is noon in UTC: two
#: machines, wherever they are, must mean the same job.
NOON: Final = timedelta(hours=12)

_HASH_BYTES: Final = 5
_LONGEST: Final = 40


def night_of(now: datetime) -> str:
    """The date of the last noon, UTC: `2026-11-24` from its noon to the next. `now` is aware."""
    return f"{now.astimezone(UTC) - NOON:%Y-%m-%d}"


def nights_after(night: str) -> Iterator[str]:
    """Names for a rerun of a night: `2026-11-24b`, `2026-11-24c`, … after `2026-11-24`."""
    stem, letters = night, ascii_lowercase[1:]
    if night[-1:] in letters and night[-2:-1].isdigit():
        stem, letters = night[:-1], letters[letters.index(night[-1]) + 1 :]
    names = (stem[: _LONGEST - 1] + letter for letter in letters)
    yield from (name for name in names if name != night)
    yield from (f"{night[: _LONGEST - 5]}.{number}" for number in count(2))


def checked(night: str) -> str:
    """A night as a user or an orchestrator names it. Raises SpecError."""
    if not night.isascii() or not all(sign.isalnum() or sign in "-_.:+" for sign in night):
        raise SpecError("night", night, "use letters, digits and - _ . : +")
    if not 0 < len(night) <= _LONGEST:
        raise SpecError("night", night, f"use one to {_LONGEST} characters")
    return night


def job_id(spec: LabelSpec, night: str, attempt: int) -> str:
    """The id of a night's job, and of the next ones after a failure: `…-2`, `…-3`.

    It ignores signatures of addresses, which are new each time, `address`, which says where to run,
    and `events` and `notify`, which say whom to inform: none changes what the job does.
    """
    ends = {"src": canonical(spec.src), "dst": canonical(spec.dst)}
    ends["model"] = whole_model(spec.model)
    fields = spec.model_dump(mode="json", exclude={"address", "events", "notify"}) | ends
    named = {name: identity(one) if isinstance(one, str) else one for name, one in fields.items()}
    document = json.dumps(named, sort_keys=True)
    first = f"{PREFIX}{night}-{blake2b(document.encode(), digest_size=_HASH_BYTES).hexdigest()}"
    return first if attempt == 1 else f"{first}-{attempt}"
