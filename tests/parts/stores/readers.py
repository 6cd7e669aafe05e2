"""The documented ways to read the current recipe, taken from the docs and run as they stand."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import deltalake
import duckdb
import pandas
import polars
import pyarrow as pa
import pyarrow.parquet

import nightlabel

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "labels.md").read_text()

MODULES = {
    "deltalake": deltalake,
    "json": json,
    "nightlabel": nightlabel,
    "pandas": pandas,
    "polars": polars,
    "pyarrow": pyarrow,
}

#: DuckDB itself waits for minutes where nothing answers.
PROBE_SECONDS = 15

Pairs = list[tuple[str, str]]


def documented() -> Iterator[tuple[str, str, str]]:
    """(reader, line, what it sees) of each row of the table in docs/labels.md."""
    section = PAGE.partition("## Read them")[2].partition("\n## ")[0]
    yield from re.findall(r"^\| (.+?) \| `(.+)` \| (.+?) \|$", section, re.MULTILINE)


@cache
def delta_extension() -> str | None:
    """None where DuckDB here reads Delta, else why it does not. May ask the network."""
    why = "DuckDB's delta extension cannot be installed here"
    probe = [sys.executable, "-c", "import duckdb; duckdb.sql('install delta; load delta')"]
    try:
        done = subprocess.run(probe, capture_output=True, text=True, timeout=PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        return f"{why}: no answer"
    return f"{why}: {done.stderr.strip()[-200:]}" if done.returncode else None


def readers() -> dict[str, tuple[Callable[[], Pairs], str]]:
    """By name: what a documented line gives as (uri, recipe_id) pairs, and what it is to see."""
    found = {}
    for name, line, sees in documented():
        if name.startswith("Spark") or ("delta_scan" in line and delta_extension()):
            continue
        run = sql_pairs if name.startswith("DuckDB") else python_pairs
        found[name] = (lambda line=line, run=run: run(line), sees)
    return found


def sql_pairs(line: str) -> Pairs:
    # A connection of its own: a variable of an earlier line must not help this one.
    with duckdb.connect() as connection:
        return sorted(connection.sql(line).select("uri", "recipe_id").fetchall())


def python_pairs(line: str) -> Pairs:
    return pairs(value_of(line))


def value_of(line: str) -> Any:
    """The value of a line's last statement, after the others."""
    tree = ast.parse(line)
    last = tree.body.pop()
    assert isinstance(last, ast.Expr)
    names = dict(MODULES)
    exec(compile(tree, "<docs>", "exec"), names)
    return eval(compile(ast.Expression(last.value), "<docs>", "eval"), names)


def pairs(rows: Any) -> Pairs:
    """(uri, recipe_id), sorted, of any kind of frame."""
    if isinstance(rows, polars.LazyFrame):
        rows = rows.collect()
    if isinstance(rows, pandas.DataFrame):
        columns = [list(rows[name]) for name in ("uri", "recipe_id")]
    elif isinstance(rows, pa.Table):
        columns = [rows[name].to_pylist() for name in ("uri", "recipe_id")]
    else:
        columns = [rows[name].to_list() for name in ("uri", "recipe_id")]
    return sorted(zip(*columns, strict=True))
