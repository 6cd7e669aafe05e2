"""Benchmarks add up: where they tell an account of time, it is all there."""

import os
import sys
from pathlib import Path

import pytest

from benchmarks.account import NOBODY, account
from benchmarks.race import Contender

#: Takes two seconds of a core between the first row and the last of 11: 200 ms for each of ten.
BUSY = """
import sys, time
from datetime import UTC, datetime
from pathlib import Path
import pyarrow as pa, pyarrow.parquet as pq
first, end = datetime.now(UTC), time.thread_time() + 2
while time.thread_time() < end: pass
Path(sys.argv[1]).mkdir()
times = pa.array([first] + 10 * [datetime.now(UTC)])
pq.write_table(pa.table({"labelled_at": times}), Path(sys.argv[1]) / "0.parquet")
"""


def test_an_account_tells_who_took_the_cores_and_what_nobody_took(tmp_path: Path) -> None:
    contender = Contender("busy", lambda images, model, out: [sys.executable, "-c", BUSY, out])
    spent = account(contender, tmp_path, tmp_path)
    assert spent["driver"] == pytest.approx(200, rel=0.6)  # looks are half a second apart, or more
    assert spent[NOBODY] >= 200 * (os.cpu_count() or 1) - spent["driver"] - 1


def test_a_contender_that_fails_has_no_account_and_says_why(tmp_path: Path) -> None:
    fails = Contender("fails", lambda *_: [sys.executable, "-c", "raise SystemExit('no disk')"])
    with pytest.raises(RuntimeError, match="ended with 1:\nno disk"):
        account(fails, tmp_path, tmp_path)
