"""From counts to exit codes."""

from itertools import product

import pytest

from pipeline.errors import Exit
from pipeline.runs.outcome import conclude, over_gate
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
        (counts(new=5, failed=3, transient=3, labelled=2), None, {}, ("gate", Exit.GATE)),
        (counts(new=5, failed=1, transient=1, labelled=4), None, {}, LEFT),
        (counts(new=5, failed=1, changed_code=1, labelled=4), None, {}, LEFT),
        (counts(new=300, labelled=199, failed=101), None, {}, ("gate", Exit.GATE)),
        (counts(new=40, failed=40), None, {}, ("gate", Exit.GATE)),
        (counts(new=1, failed=1), None, {}, ("gate", Exit.GATE)),
        (counts(new=10, labelled=9, failed=1), None, {}, ("complete", Exit.OK)),
        (counts(new=10, labelled=5, failed=5), None, {}, ("complete", Exit.OK)),
        (counts(new=10, labelled=4, failed=6), None, {}, ("gate", Exit.GATE)),
        (counts(listed=50, failed_before=50), None, {}, ("complete", Exit.OK)),
        (counts(new=40, failed=40), None, {"max_errors": "40"}, ("complete", Exit.OK)),
        (counts(new=40, failed=40), None, {"max_errors": "100%"}, ("complete", Exit.OK)),
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
    words = "2 folders or archives cannot be read"
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


def test_a_gate_says_of_how_many() -> None:
    spec = make_spec(src="a", dst="b")
    found = counts(new=40, labelled=2, failed=38)
    _, _, words = conclude(spec, found, reason=None, listing_complete=True)
    assert words == "38 errors, over the 2 allowed of 40 processed (--max-errors)"


def test_the_gate_by_default_for_every_small_night() -> None:
    spec = make_spec(src="a", dst="b")
    for labelled, failed in product(range(0, 260, 3), range(0, 260, 3)):
        tripped = over_gate(spec, counts(labelled=labelled, failed=failed))
        if failed > labelled:
            assert tripped
        else:
            assert tripped == (failed > 100)


@pytest.mark.parametrize("options", [{}, {"max_errors": "3"}, {"max_errors": "20%"}])
def test_a_run_that_is_stopped_early_would_have_ended_so(options: dict) -> None:
    spec = make_spec(src="a", dst="b", **options)
    for total, errors in product(range(40), range(40)):
        if errors <= total and errors > spec.errors_allowed(total, errors):
            for failed in range(errors, total + 1):
                assert over_gate(spec, counts(labelled=total - failed, failed=failed))
            for labelled in range(total - errors + 1):
                assert over_gate(spec, counts(labelled=labelled, failed=errors))
