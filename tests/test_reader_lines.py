"""Lines that read labels, wherever people find them: each runs, and none doubles an image."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from pipeline.cli.demo import _next_steps
from pipeline.runs.finalize import inline, merge
from pipeline.storage import Folder
from pipeline.store.choice import Choice, choose
from pipeline.store.parts import write_part
from pipeline.store.upkeep import part_path
from tests.parts.stores.readers import pairs, value_of
from tests.store.stores import new_table, rows

ROOT = Path(__file__).parents[1]
#: how-do-i.md is walked whole, by a test of its own.
PAGES = [
    ROOT / "README.md",
    *(path for path in sorted((ROOT / "docs").glob("*.md")) if path.stem != "how-do-i"),
]
OLD, NEW = "r0000000a", "r0000000b"


@pytest.fixture(autouse=True)
def labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """Four images of two recipes; readers see the second."""
    monkeypatch.chdir(tmp_path)
    folder = Folder("labels")
    table = new_table(folder)
    for recipe in (OLD, NEW):
        part = write_part(folder, part_path("n", recipe, 0), recipe, rows(range(4), label=recipe))
        table.commit(added=[part])
        merge(folder, table, f"n-{recipe}", inline)
    choose(folder, NEW, Choice.read(folder))
    return folder


def sql_of(page: str) -> Iterator[str]:
    """What pages hand to DuckDB: `duckdb -c "…"`, and the quickstart's file."""
    found = re.findall(r'duckdb -c "(.*?)"', page, re.DOTALL)
    yield from (sql for sql in found if "recipe" in sql)
    for block in re.findall(
        r"^\$ cat > look.sql <<'END'\n(.*?)^> END$", page, re.MULTILINE | re.DOTALL
    ):
        yield re.sub(r"^> ", "", block, flags=re.MULTILINE)


SQL = [(page.name, sql) for page in PAGES for sql in sql_of(page.read_text())]


@pytest.mark.parametrize(("name", "sql"), SQL)
def test_what_pages_hand_to_duckdb(name: str, sql: str) -> None:
    with duckdb.connect() as connection:
        found = connection.sql(sql).fetchall()
    if "label" in sql.partition("select label")[1]:
        assert [row[:2] for row in found] == [(NEW, 4)], name
    else:
        assert found == [], name  # of errors, and there are none


def test_there_are_such_lines() -> None:
    assert {name for name, _ in SQL} == {"README.md", "quickstart.md"}


def test_what_the_readme_says_in_python() -> None:
    section = (ROOT / "README.md").read_text().partition("## Read the labels")[2]
    block = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)[0]
    first, *lines = [line for line in block.splitlines() if line and not line.startswith("import ")]
    assert len(lines) == 3
    for line in lines:
        found = pairs(value_of(f"{first}; {line}"))
        assert [uri for uri, _ in found] == [f"s3://photos/{n}" for n in range(4)], line


def test_what_the_demo_says_at_its_end() -> None:
    said = re.findall(r'^  \S*python -c "(.*)"$', _next_steps(Path("labels")), re.MULTILINE)
    assert len(said) == 2
    for line in said:
        command = [sys.executable, "-c", shlex.split(f'"{line}"')[0]]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert NEW in done.stdout or "num_rows: 4" in done.stdout or "s3://photos/3" in done.stdout
        assert OLD not in done.stdout


def test_no_page_reads_all_recipes_at_once() -> None:
    """A prose mention of the pattern is fine; a query by it doubles every image."""
    for path in [*PAGES, *(ROOT / "pipeline").rglob("*.py"), *(ROOT / "jobs").rglob("*")]:
        if path.is_file() and path.suffix in {".md", ".py", ".toml", ".yaml", ".sql"}:
            text = path.read_text()
            assert not re.search(
                r"(from|read_parquet\(|parquet_scan\()\s*f?['\"][^'\"]*recipe=\*", text
            )
