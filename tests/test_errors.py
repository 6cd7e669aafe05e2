"""One tree of errors, drawn where it is defined, that survives the way between processes."""

import pickle
import re
from collections.abc import Iterator

import pytest

from pipeline import errors
from pipeline.cli.label import label
from pipeline.errors import (
    ADVICE,
    MEANINGS,
    TRANSIENT_CODES,
    ErrorCode,
    Exit,
    ImageError,
    NightlabelError,
    SpecError,
    TransientError,
    error_codes,
)


def tree(base: type[NightlabelError] = NightlabelError) -> Iterator[type[NightlabelError]]:
    for kind in base.__subclasses__():
        if kind.__module__ == errors.__name__:
            if not kind.__name__.startswith("_"):
                yield kind
            yield from tree(kind)


def example(kind: type[NightlabelError]) -> NightlabelError:
    if issubclass(kind, SpecError):
        return kind("top_k", 0, "must be positive")
    if issubclass(kind, ImageError):
        return kind(ErrorCode.TRUNCATED, "ends at byte 9")
    return kind("what happened, and how to fix it")


def test_the_drawing_shows_every_error_with_its_exit_code() -> None:
    drawn = dict(re.findall(r"[├└]── (\w+)(?:\(code\))? +(\d|-)", errors.__doc__ or ""))
    defined = {kind.__name__: kind for kind in tree()}
    assert set(drawn) == set(defined)
    for name, code in drawn.items():
        if code != "-":
            assert defined[name].exit_code == int(code), name


@pytest.mark.parametrize("kind", sorted(tree(), key=lambda kind: kind.__name__))
def test_errors_survive_a_pickle(kind: type[NightlabelError]) -> None:
    error = example(kind)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert again.__dict__ == error.__dict__


def test_a_row_error_keeps_its_code() -> None:
    error = TransientError("gone while reading", ErrorCode.CHANGED)
    assert pickle.loads(pickle.dumps(error)).code is ErrorCode.CHANGED
    assert TransientError("503").code is ErrorCode.TRANSIENT


def test_a_spec_error_names_field_and_value() -> None:
    assert str(SpecError("top_k", 0, "must be positive")) == "top_k=0: must be positive"


def test_every_code_has_one_meaning() -> None:
    assert set(MEANINGS) == set(ErrorCode)
    assert len({code.meaning for code in ErrorCode}) == len(ErrorCode)
    assert set(ADVICE) == set(ErrorCode)


def test_advice_names_options_that_there_are_and_no_other_codes() -> None:
    known = {option for parameter in label.params for option in parameter.opts}
    for code in ErrorCode:
        assert set(re.findall(r"--[a-z-]+", code.advice)) <= known
        assert set(re.findall(r"--retry-errors=(\w+)", code.advice)) <= {str(code)}


def test_codes_by_name() -> None:
    assert error_codes([" denied", "missing", "denied"]) == (ErrorCode.DENIED, ErrorCode.MISSING)
    assert error_codes([]) == ()
    for names in (["denied", "gone"], [""]):
        with pytest.raises(
            ValueError, match="is not an error code; the codes are changed, crashed,"
        ):
            error_codes(names)


def test_only_what_may_heal_is_transient() -> None:
    assert {code for code in ErrorCode if code.transient} == TRANSIENT_CODES
    assert {ErrorCode.CHANGED, ErrorCode.TRANSIENT} == TRANSIENT_CODES


def test_exit_codes_are_a_contract() -> None:
    assert {code.name: int(code) for code in Exit} == {
        "OK": 0,
        "FAILED": 1,
        "USAGE": 2,
        "GATE": 3,
        "INCOMPLETE": 4,
        "BUSY": 5,
        "INTERRUPTED": 130,
        "TERMINATED": 143,
    }
