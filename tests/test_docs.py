"""The documentation says what the code does."""

import ast
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

from pipeline import errors, schema
from pipeline.errors import ErrorCode, Exit
from pipeline.spec import load_spec
from pipeline.store.runs import DERIVED, Counts, word
from pipeline.tasks import REGISTRY, task_named

ROOT = Path(__file__).parent.parent
LABELS = (ROOT / "docs" / "labels.md").read_text()


def test_every_error_code_is_documented_as_it_is() -> None:
    for code in ErrorCode:
        again = "tries again" if code.transient else "leaves it"
        assert f"| `{code}` | {code.meaning} | {again} | {code.advice} |" in LABELS


def test_every_count_is_documented_by_the_word_that_people_read() -> None:
    table = LABELS.partition("## What the numbers mean")[2].partition("## Layout")[0]
    for name, field in Counts.model_fields.items():
        assert f"| {word(name)} | `{name}` | {field.description} |" in table
    for name, formula in DERIVED.items():
        assert f"| {name} | | {formula} |" in table


def test_every_column_is_documented() -> None:
    table = LABELS.partition("## Error codes")[0]
    names = {name for task in REGISTRY for name in task_named(task).rows.names}
    assert [name for name in [*names, schema.PARTITION] if f"`{name}`" not in table] == []


def test_the_specs_that_ship_are_valid() -> None:
    specs = sorted((ROOT / "jobs" / "specs").glob("*.toml"))
    assert specs
    for path in specs:
        assert load_spec(path, {}, {}).src


def test_the_reference_is_what_the_code_says() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "reference.py"))["page"]()
    assert (ROOT / "docs" / "reference.md").read_text() == made, "make docs writes it"


def test_the_readme_has_every_exit_code() -> None:
    table = (ROOT / "README.md").read_text().partition("## Exit codes")[2]
    codes = {code for line in table.splitlines() for code in line.partition("|")[2].split("|")[:1]}
    named = {int(code) for cell in codes for code in cell.split(",") if code.strip().isdigit()}
    assert named == {int(code) for code in Exit}


def test_what_troubleshooting_quotes_is_what_people_read() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    quoted = re.findall(r"\*\*`([^`]+)`\*\*", page)
    said = "\n".join(_words_of(path) for path in (ROOT / "pipeline").rglob("*.py"))
    assert len(quoted) > 20
    assert [words for words in quoted if not re.search(_pattern(words), said)] == []


def test_troubleshooting_has_the_exit_codes_of_the_errors_it_quotes() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    said = [one for path in (ROOT / "pipeline").rglob("*.py") for one in _errors_of(path)]
    wrong, held = [], 0
    for group, code in re.findall(r"((?:\*\*`[^`]+`\*\*(?:,\s+)?)+)\s+·\s+exit (\d)", page):
        for words in re.findall(r"`([^`]+)`", group):
            codes = {raised for text, raised in said if re.search(_pattern(words), text)}
            held += bool(codes)
            wrong += [(words, code, codes)] if codes and codes != {int(code)} else []
    assert wrong == []
    assert held > 15


def _errors_of(path: Path) -> Iterator[tuple[str, int]]:
    """The words of each error of ours that a file makes, and the exit code of its kind."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            kind = getattr(errors, node.func.id, None)
            if isinstance(kind, type) and issubclass(kind, errors.NightlabelError):
                yield from ((_text_of(argument), int(kind.exit_code)) for argument in node.args)


def _text_of(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(one.value) if isinstance(one, ast.Constant) else "…" for one in node.values
        )
    return str(node.value) if isinstance(node, ast.Constant) else ""


def _pattern(words: str) -> str:
    return r"[^\n]*".join(re.escape(piece.strip()) for piece in words.split("…"))


def _words_of(path: Path) -> str:
    """Every text in a file, each on a line, with … for what is filled in."""
    lines = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            parts = [one.value if isinstance(one, ast.Constant) else "…" for one in node.values]
            lines.append("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            lines.append(node.value.replace("\n", " "))
    return "\n".join(lines)
