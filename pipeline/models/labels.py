"""The names of a model's classes, from its config.json."""

from typing import Any

from pipeline.errors import BadModelError
from pipeline.fields import JsonObject, bad_field, is_number, is_text, is_whole, short

_FILE = "config.json"
#: More classes than any classifier has; a list of this many names is still fast to make.
MAX_CLASSES = 1_000_000


def class_names(name: str, config: dict[str, Any]) -> list[str]:
    """In the order of the logits; `LABEL_0`, … if none are given. `name` is the model's.

    Raises BadModelError, naming the field: id2label with gaps or repeated keys, names that are not
    text, a num_labels that differs.
    """
    number, names = config.get("num_labels"), config.get("id2label")
    if number is not None and not (is_whole(number) and 0 < number <= MAX_CLASSES):
        raise bad_field(name, _FILE, "num_labels", number, f"a number from 1 to {MAX_CLASSES:,}")
    if names is None:
        return [f"LABEL_{i}" for i in range(2 if number is None else number)]
    found = _named(name, names)
    if number is not None and number != len(found):
        raise BadModelError(
            f"{name}: num_labels in {_FILE} is {number}, but id2label names {len(found)} classes; "
            "remove num_labels, or name every class"
        )
    return found


def _named(name: str, names: Any) -> list[str]:
    if not isinstance(names, dict) or not names:
        raise bad_field(
            name, _FILE, "id2label", names, 'an object such as {"0": "cat", "1": "dog"}'
        )
    repeated = names.repeated if isinstance(names, JsonObject) else None
    if repeated is not None:
        raise BadModelError(f"{name}: id2label in {_FILE} has the key {short(repeated)} twice")
    missing = next((i for i in range(len(names)) if str(i) not in names), None)
    if missing is not None:
        raise BadModelError(
            f"{name}: id2label in {_FILE} must name every class from 0 up; "
            f'of its {len(names)} keys none is "{missing}"'
        )
    return [_text(name, f"id2label.{i}", names[str(i)]) for i in range(len(names))]


def _text(name: str, field: str, value: Any) -> str:
    if is_number(value) or is_text(value):
        return str(value)
    raise bad_field(name, _FILE, field, value, "text (Unicode without lone surrogates)")


def listed_names(name: str, names: Any) -> list[str]:
    """The classes of a timm model, which are a list: `label_names`."""
    if not isinstance(names, list) or not names:
        raise bad_field(name, _FILE, "label_names", names, 'a list such as ["cat", "dog"]')
    return [_text(name, f"label_names.{i}", value) for i, value in enumerate(names)]
