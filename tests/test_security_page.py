"""Each line that docs/security.md promises names the tests that attack it, and they are there."""

import ast
import re
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "security.md").read_text()
PROMISED, _, NOT_PROMISED = PAGE.partition("## Not promised")
HEADER = "| what holds | attacked by |"


def promises() -> list[tuple[str, list[str]]]:
    """(what holds, the tests that attack it) of each row of the page's tables of promises."""
    rows = []
    for table in PROMISED.split(HEADER)[1:]:
        for line in table.strip().splitlines()[1:]:
            if not line.startswith("|"):
                break
            promise, attacked_by = line.strip("|").rsplit("|", 1)
            rows.append((promise.strip(), re.findall(r"`([^`]+)`", attacked_by)))
    return rows


@cache
def functions_of(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_promise_names_tests_that_are_there() -> None:
    rows = promises()
    assert len(rows) > 30
    for promise, tests in rows:
        assert tests, f"no test attacks: {promise}"
        for test in tests:
            file, _, name = test.partition("::")
            assert name.startswith("test_"), test
            assert name in functions_of(file), test


def test_nothing_is_promised_outside_the_tables() -> None:
    for section in re.split(r"^## ", PROMISED, flags=re.MULTILINE)[1:]:
        title, _, text = section.partition("\n")
        assert HEADER in text, f"{title}: promises stand in a table, each with its tests"
        assert not re.search(r"^- ", text, re.MULTILINE), f"{title}: a promise outside the table"


def test_what_is_not_promised_is_said() -> None:
    assert len(re.findall(r"^- ", NOT_PROMISED, re.MULTILINE)) > 4
