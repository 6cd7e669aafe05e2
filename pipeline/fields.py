"""JSON files of a model folder: read as objects, and a one-line error for a wrong field."""

import json
import math
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline.errors import BadModelError

#: A config with 20,000 classes has 1 MB.
MAX_BYTES = 2**24
_SHOWN = 60
_LONG = 300


class JsonObject(dict[str, Any]):
    """A JSON object; `repeated` is the first key that the file gives twice, or None."""

    repeated: str | None = None


def read_object(path: Path, name: str) -> JsonObject | None:
    """The JSON object in a file, None if there is no file. `name` is the model's name in messages.

    Raises BadModelError: not readable, over MAX_BYTES, not UTF-8, no JSON, no object.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadModelError(f"{name}: {path.name} cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise BadModelError(f"{name}: {path.name} has over {MAX_BYTES >> 20} MiB, no config has")
    try:
        content = json.loads(data.decode("utf-8"), object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise BadModelError(f"{name}: {path.name} cannot be read as JSON: {error}") from None
    if not isinstance(content, JsonObject):
        raise BadModelError(f"{name}: {path.name} is not a JSON object")
    return content


def bad_field(name: str, file: str, field: str, value: object, due: str) -> BadModelError:
    """The error for one field of a model's file; `due` says what it should be."""
    return BadModelError(f"{name}: {field} in {file} is {short(value)}; it must be {due}")


def short(value: object) -> str:
    """`value` as JSON in the usual notation, cut to one short line."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


@lru_cache(maxsize=1)
def refusals() -> tuple[type[Exception], ...]:
    """What transformers, timm and torch raise for files that they cannot handle."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    return (
        ArithmeticError,
        AssertionError,
        AttributeError,
        ImportError,
        LookupError,
        MemoryError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
        SafetensorError,
        StrictDataclassError,
    )


def one_line(error: BaseException) -> str:
    """An error's message in one line: its first two lines, since some name the field in
    the second."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:2]) or type(error).__name__
    return text if len(text) <= _LONG else f"{text[:_LONG]}…"


def is_whole(value: object) -> bool:
    """Whether it is an integer; JSON's true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether it is a finite number; JSON's true and false are not."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def is_text(value: object) -> bool:
    """Whether it is text that can be encoded: no lone surrogates."""
    return isinstance(value, str) and not any("\ud800" <= sign <= "\udfff" for sign in value)


def _object(pairs: list[tuple[str, Any]]) -> JsonObject:
    made = JsonObject(pairs)
    if len(made) < len(pairs):
        made.repeated = Counter(key for key, _ in pairs).most_common(1)[0][0]
    return made
