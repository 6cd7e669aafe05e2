"""Which images failed, as people and programs see them; and which of them are tried again."""

import json
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner

from pipeline.cli import cli
from pipeline.cli.cluster.submit import submit
from pipeline.cli.label import label
from pipeline.cli.plan import plan
from pipeline.cli.store.errors import errors
from pipeline.errors import ErrorCode, SpecError
from pipeline.storage import Folder
from pipeline.store.choice import Choice, choose
from pipeline.store.delta.table import Table
from pipeline.store.failed import failed_rows
from pipeline.store.parts import write_part
from pipeline.store.reader import LabelStore
from pipeline.store.recipes import save_recipe
from tests.store.stores import NOW, RECIPE, new_table, rows

OTHER = "r00000002"


def failing(names: list[int], code: str, message: str = "why", minutes: int = 0) -> pa.Table:
    table = rows(names, error=code)
    at = pa.array([NOW + timedelta(minutes=minutes)] * len(names), pa.timestamp("us", "UTC"))
    for name, column in {
        "error_message": pa.array([message] * len(names)),
        "labelled_at": at,
    }.items():
        table = table.set_column(table.schema.get_field_index(name), name, column)
    return table.cast(rows([1]).schema)


@pytest.fixture
def dst(tmp_path: Path) -> str:
    folder = Folder(str(tmp_path))
    table = new_table(folder)
    files = {
        f"recipe={RECIPE}/0.parquet": [rows([1, 2]), failing([3, 4], "denied", "403")],
        "_parts/n/1.parquet": [failing([5], "denied", "a\x1b[2J", 9), failing([6], "truncated")],
        "_parts/n/2.parquet": [failing([7], "of_tomorrow", minutes=1)],
    }
    for path, tables in files.items():
        table.commit(added=[write_part(folder, path, RECIPE, pa.concat_tables(tables))])
    other = write_part(folder, f"recipe={OTHER}/0.parquet", OTHER, failing([1], "empty"))
    table.commit(added=[other])
    choose(folder, RECIPE, Choice.read(folder))
    for recipe in (RECIPE, OTHER):
        save_recipe(folder, recipe, "{}")
    return str(tmp_path)


def run(*arguments: str) -> str:
    return CliRunner().invoke(errors, [*arguments], catch_exceptions=False).output


def test_errors_by_code_with_what_to_do(dst: str) -> None:
    said = run(dst)
    assert said.startswith(f"5 failed under recipe {RECIPE}\n")
    assert said.index("denied: 3 ") < said.index("truncated: 1 ")
    assert "--retry-errors=denied" in said
    assert "s3://photos/6" in said
    assert "s3://photos/1" not in said
    assert r"a\x1b[2J" in said  # what an image's server said cannot write to a terminal
    assert "of_tomorrow: 1 (a newer version of nightlabel wrote it)" in said
    assert "no errors" in run(dst, "--code", "missing")


def test_errors_as_a_document(dst: str) -> None:
    told = json.loads(run(dst, "--json", "--last", "2"))
    assert (told["recipe"], told["rows"]) == (RECIPE, 5)
    denied = told["codes"][0]
    assert (denied["code"], denied["rows"]) == ("denied", 3)
    assert [row["uri"][-1] for row in denied["newest"]] == ["5", "3"]
    assert denied["newest"][1]["message"] == "403"
    assert denied["meaning"] == ErrorCode.DENIED.meaning
    assert denied["advice"] == ErrorCode.DENIED.advice


def test_errors_of_some_codes_and_of_another_recipe(dst: str) -> None:
    told = json.loads(run(dst, "--json", "--code", "denied,empty", "--code", "truncated"))
    assert [group["code"] for group in told["codes"]] == ["denied", "truncated"]
    other = json.loads(run(dst, "--json", "--recipe", OTHER))
    assert [(group["code"], group["rows"]) for group in other["codes"]] == [("empty", 1)]
    assert json.loads(run(dst, "--json", "--last", "0"))["codes"][0]["newest"] == []


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--code", "denid"], "codes are changed, crashed"), (["--recipe", "r9"], f"it has {RECIPE}")],
)
def test_errors_of_what_is_not_known(dst: str, options: list[str], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        run(dst, *options)


def test_only_the_newest_are_held(dst: str) -> None:
    folder = Folder(dst)
    table = Table.open(folder)
    assert table is not None
    for n in range(5):
        names = list(range(1000 * n, 1000 * n + 1000))
        part = failing(names, "missing", minutes=n)
        table.commit(added=[write_part(folder, f"_parts/m/{n}.parquet", RECIPE, part)])
    [missing] = failed_rows(LabelStore(dst), None, ["missing"], 3)
    assert missing.rows == 5000
    assert [row.uri for row in missing.newest] == [f"s3://photos/{n}" for n in (4000, 4001, 4002)]


@pytest.mark.parametrize("command", [label, plan, submit])
@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["SRC", "DST"], None),
        (["--retry-errors", "SRC", "DST"], "all"),
        (["SRC", "--retry-errors", "DST"], "all"),
        (["SRC", "DST", "--retry-errors"], "all"),
        (["--retry-errors", "--json", "SRC", "DST"], "all"),
        (["--retry-errors=denied,missing", "SRC", "DST"], "denied,missing"),
        (["SRC", "DST", "--retry-errors=denied"], "denied"),
        (["SRC", "DST", "--retry-errors="], ""),
        (["--retry-errors", "--", "SRC", "DST"], "all"),
    ],
)
def test_retry_errors_never_takes_the_next_word(
    command: object, words: list[str], wanted: str | None
) -> None:
    given = command.make_context("x", words).params  # type: ignore[attr-defined]
    assert (given["src"], given["dst"], given["retry_errors"]) == ("SRC", "DST", wanted)


def test_a_code_after_a_space_or_unknown_is_a_usage_error(tmp_path: Path) -> None:
    apart = CliRunner().invoke(cli, ["label", "a", str(tmp_path), "--retry-errors", "denied"])
    assert apart.exit_code == 2
    unknown = CliRunner().invoke(cli, ["label", "a", str(tmp_path), "--retry-errors=denid"])
    assert isinstance(unknown.exception, SpecError)
    assert "codes are changed" in str(unknown.exception)
