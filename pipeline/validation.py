"""Turns pydantic's errors into plain messages about one field."""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any, Final

from pydantic import ValidationError

from pipeline.errors import SpecError

#: By the prefix of pydantic's error type; the first match counts. `{…}` is from its context.
_WORDS: Final[Mapping[str, str]] = {
    "missing": "is required; give it as an argument (nightlabel label SRC DST) or in --config FILE",
    "value_error": "{error}",
    "literal_error": "give {expected}",
    "greater_than_equal": "give {ge} or more",
    "greater_than": "give a number above {gt}",
    "less_than_equal": "give {le} or less",
    "less_than": "give a number below {lt}",
    "int_": "give a whole number",
    "float_": "give a number",
    "finite_number": "give a finite number",
    "bool_": "give true or false",
    "string_too_short": "must not be empty",
    "string_unicode": "must be UTF-8",
    "string_": 'give text; in TOML, put it in quotes: "…"',
    "tuple_": 'give a list, such as ["*.jpg", "*.png"]',
    "json_invalid": "is not JSON: {error}",
    "model_": "give a JSON object with the options as its fields",
}
_UNKNOWN: Final = "is not a value of this option; nightlabel label --help lists them"


def first_problem(
    error: ValidationError, fields: Collection[str], secrets: Collection[str]
) -> SpecError:
    """The first problem that pydantic found; the values of `secrets` are not shown."""
    first = error.errors()[0]
    field = str(first["loc"][0]) if first["loc"] else "spec"
    if first["type"] == "extra_forbidden":
        return SpecError(field, _shown(field, first, secrets), no_such_option(field, fields))
    words = next((text for kind, text in _WORDS.items() if first["type"].startswith(kind)), None)
    problem = words.format(**first.get("ctx", {})) if words else _UNKNOWN
    return SpecError(field, _shown(field, first, secrets), problem)


def no_such_option(name: str, known: Collection[str]) -> str:
    """The message for an option name that is not `known`."""
    close = get_close_matches(name, known, n=1)
    return f"no such option; {did_you_mean(close) or 'nightlabel label --help lists them'}"


def did_you_mean(close: list[str]) -> str:
    """A question that follows an unknown name; empty if no known name is similar."""
    return f"did you mean {close[0]}?" if close else ""


def _shown(field: str, found: Mapping[str, Any], secrets: Collection[str]) -> object:
    # For a missing value, pydantic shows the whole input, not the value of this field.
    if field == "spec" or found["type"] == "missing":
        return None
    return "…" if field in secrets else found["input"]
