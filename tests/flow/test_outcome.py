"""From counts to exit codes."""

import pytest

from pipeline.errors import Exit
from pipeline.flow.outcome import conclude
from pipeline.spec import make_spec
from pipeline.store.runs import Counts

LEFT = ("incomplete", Exit.INCOMPLETE)


def counts(**numbers: int) -> Counts:
    errors = {name: numbers.pop(name) for name in ("transient", "changed_code") if name in numbers}
    errors = {"changed" if name == "changed_code" else name: n for name, n in errors.items()}
    return Counts(errors=errors, **numbers)


@pytest.mark.parametrize(
    ("found", "reason", "options", "expected"),
    [
        (counts(new=5, labelled=5), None, {}, ("complete", Exit.OK)),
        (counts(), None, {}, ("complete", Exit.OK)),
        (counts(new=5, labelled=4), None, {}, ("incomplete", Exit.INCOMPLETE)),
        (counts(new=5, labelled=4), None, {"partial_ok": True}, ("incomplete", Exit.OK)),
        (counts(new=5, labelled=4, failed=1), None, {}, ("complete", Exit.OK)),
        (counts(new=5, failed=1, transient=1, labelled=4), None, {}, LEFT),
        (counts(new=5, failed=1, changed_code=1, labelled=4), None, {}, LEFT),
        (counts(new=300, labelled=199, failed=101), None, {}, ("gate", Exit.GATE)),
        (counts(new=300, labelled=200, failed=100), None, {}, ("complete", Exit.OK)),
        (counts(new=20_000, labelled=19_800, failed=200), None, {}, ("complete", Exit.OK)),
        (counts(new=9, labelled=8, failed=1), None, {"max_errors": "0"}, ("gate", Exit.GATE)),
        (counts(new=9, labelled=8, failed=1), None, {"max_errors": "12%"}, ("complete", Exit.OK)),
        (counts(new=9, labelled=4), "deadline", {}, ("incomplete", Exit.INCOMPLETE)),
        (counts(new=9, labelled=4), "interrupted", {}, ("interrupted", Exit.INTERRUPTED)),
        (counts(new=9, labelled=4), "terminated", {}, ("interrupted", Exit.TERMINATED)),
        (counts(new=9, labelled=4), "lease", {}, ("failed", Exit.BUSY)),
        (counts(new=9, failed=101), "terminated", {}, ("interrupted", Exit.TERMINATED)),
        (counts(new=9, failed=101), "deadline", {}, ("gate", Exit.GATE)),
    ],
)  # fmt: skip
def test_how_a_run_ended(found: Counts, reason: str, options: dict, expected: tuple) -> None:
    spec = make_spec(src="a", dst="b", **options)
    status, code, words = conclude(spec, found, reason=reason, listing_complete=True)
    assert (status, code) == expected
    assert (words is None) == (status == "complete")


def test_folders_that_cannot_be_read_fail_a_run_only_on_demand() -> None:
    found = counts(new=5, labelled=5, unreadable=2)
    words = "2 folders cannot be read"
    for options, reason, want in (
        ({}, None, ("complete", Exit.OK, words)),
        ({"strict_listing": True}, None, ("failed", Exit.FAILED, words)),
        ({"strict_listing": True}, "deadline", ("failed", Exit.FAILED, words)),
        ({"strict_listing": True, "partial_ok": True}, None, ("failed", Exit.FAILED, words)),
    ):
        spec = make_spec(src="a", dst="b", **options)
        assert conclude(spec, found, reason=reason, listing_complete=True) == want
    spec = make_spec(src="a", dst="b", strict_listing=True)
    gone = conclude(spec, found, reason="terminated", listing_complete=True)
    assert gone[1] is Exit.TERMINATED


def test_an_unfinished_listing_is_no_complete_run() -> None:
    spec = make_spec(src="a", dst="b")
    status, code, _ = conclude(spec, counts(), reason=None, listing_complete=False)
    assert (status, code) == ("incomplete", Exit.INCOMPLETE)
