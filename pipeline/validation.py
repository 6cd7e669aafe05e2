"""What is wrong with a field, in plain words: pydantic finds it, people read it."""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any, Final

from pydantic import ValidationError

from pipeline.errors import SpecError

#: By the beginning of pydantic's name for an error, the first that fits; `{…}` is of its context.
_WORDS: Final[Mapping[str, str]] = {
    "missing": "is needed; give it as an argument (nightlabel label SRC DST), or in --config FILE",
    "value_error": "{error}",
    "literal_error": "give {expected}",
    "greater_than_equal": "give {ge} or more",
    "greater_than": "give a number above {gt}",
    "less_than_equal": "give {le} or less",
    "less_than": "give a number below {lt}",
    "int_": "give a whole number",
    "float_": "give a number",
    "finite_number": "give a number that has an end",
    "bool_": "give true or false",
    "string_too_short": "may not be empty",
    "string_unicode": "is not UTF-8",
    "string_": 'give text, which in TOML stands in quotes: "…"',
    "tuple_": 'give a list, such as ["*.jpg", "*.png"]',
    "json_invalid": "is no JSON: {error}",
    "model_": "give an object with a field for each option",
}
_UNKNOWN: Final = "is no value of this option; nightlabel label --help says what is"


def first_problem(
    error: ValidationError, fields: Collection[str], secrets: Collection[str]
) -> SpecError:
    """The first of what pydantic found; the values of `secrets` are not shown."""
    first = error.errors()[0]
    field = str(first["loc"][0]) if first["loc"] else "spec"
    if first["type"] == "extra_forbidden":
        return SpecError(field, _shown(field, first, secrets), no_such_option(field, fields))
    words = next((text for kind, text in _WORDS.items() if first["type"].startswith(kind)), None)
    problem = words.format(**first.get("ctx", {})) if words else _UNKNOWN
    return SpecError(field, _shown(field, first, secrets), problem)


def no_such_option(name: str, known: Collection[str]) -> str:
    """What to say of a name that none of the `known` has."""
    close = get_close_matches(name, known, n=1)
    return f"no such option; {did_you_mean(close) or 'nightlabel label --help lists them'}"


def did_you_mean(close: list[str]) -> str:
    """The question after a name that nothing has; empty where nothing is like it."""
    return f"did you mean {close[0]}?" if close else ""


def _shown(field: str, found: Mapping[str, Any], secrets: Collection[str]) -> object:
    # Where nothing was given, pydantic shows all that was: not the value of this field.
    if field == "spec" or found["type"] == "missing":
        return None
    return "…" if field in secrets else found["input"]
