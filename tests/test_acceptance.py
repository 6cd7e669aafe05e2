"""Acceptance on a GPU: its checks bite, a step that fails or hangs is told and the others go on."""

import sys
import time
from datetime import datetime

import pyarrow as pa
import pytest

from benchmarks.acceptance import seconds
from benchmarks.acceptance.check import agreement, enough
from benchmarks.acceptance.runner import GRACE, Group, Step, all_of, ran, told, verdict

NAMES = {f"{number}.jpg" for number in range(200)}
TRUTH = {name: f"class {name}" for name in NAMES}


def rows(labels: dict[str, str | None], *more: str) -> pa.Table:
    names = [*labels, *more]
    uris = [f"file:///photos/{name}" for name in names]
    return pa.table({"uri": uris, "label": [labels.get(name, "one more") for name in names]})


def test_one_row_each_and_the_labels_of_fp32_are_right() -> None:
    assert agreement(rows(TRUTH), NAMES, TRUTH) == 1.0
    assert agreement(rows(TRUTH | {"0.jpg": "x", "1.jpg": "y"}), NAMES, TRUTH) == 0.99


@pytest.mark.parametrize(
    ("table", "what"),
    [
        (rows({k: v for k, v in TRUTH.items() if k != "7.jpg"}), "1 images have no row, first 7"),
        (rows(TRUTH, "7.jpg"), "1 images have more than one row, first 7"),
        (rows(TRUTH, "other.jpg"), "1 rows are of no image, first other"),
        (rows(TRUTH | {"7.jpg": None}), "1 rows have no label, first 7"),
        (rows(TRUTH | dict.fromkeys(("1.jpg", "2.jpg", "3.jpg"), "x")), "197 of 200 labels"),
    ],
)
def test_a_wrong_answer_has_no_speed(table: pa.Table, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        agreement(table, NAMES, TRUTH)


def test_nothing_to_compare_with_is_no_agreement() -> None:
    with pytest.raises(ValueError, match="0 of 0"):
        enough(0, 0)


def python(name: str, code: str, limit: float = 20.0) -> Step:
    return Step(name, limit, [sys.executable, "-c", code])


GOOD = python("good", 'print(\'noise\'); print(\'{"rows": [["a", "1"]]}\')')
BAD = python("bad", "raise SystemExit('no such device')")
SLOW = python("slow", "import time; print('began', flush=True); time.sleep(60)", 1.0)


def test_a_step_that_fails_or_hangs_is_told_and_the_others_go_on() -> None:
    said = list[str]()
    [(group, outcomes)] = all_of([Group("Here", ["", "n"], [BAD, SLOW, GOOD])], 60.0, said.append)
    assert [bool(one.failure) for one in outcomes] == [True, True, False]
    assert outcomes[1].took < 10
    assert told(group, outcomes) == (
        "### Here\n\n||n|\n|---|--:|\n|a|1|\n\n"
        "- **bad**: ended with 1; no such device\n- **slow**: out of time after 1 s; began"
    )
    assert [line.split(",")[0] for line in said][2] == "good: done"


def test_without_time_nothing_is_begun() -> None:
    outcome = ran(GOOD, time.monotonic() + GRACE)
    assert outcome.failure == "not run: no time was left"


@pytest.mark.parametrize(
    ("said", "passed"),
    [
        ("5 passed in 1.20s", True),
        ("=== 3 passed, 2 skipped, 9 deselected in 12.10s ===", True),
        ("5 skipped, 9 deselected in 3.00s", True),
        ("1 failed, 4 passed in 1.20s", False),
        ("4 passed, 1 error in 1.20s", False),
        ("9 deselected in 1.20s", False),
        ("Segmentation fault", False),
    ],
)
def test_the_last_line_of_pytest_is_read(said: str, passed: bool) -> None:
    assert verdict(f"....\n{said}\n")[1] == passed


def test_what_a_device_did_is_told_second_by_second() -> None:
    found = seconds.Seconds(
        totals=[(100.0, {"works": 1.0, "waits": 3.0}), (101.0, {"works": 1.75, "waits": 3.25})],
        used=[(99.5, 20.0), (100.6, 80.0), (101.5, 0.0)],
    )
    assert seconds.rows(found) == [
        ["0", "25%", "75%", "0%", "0%", "20%"],
        ["1", "75%", "25%", "0%", "0%", "80%"],
    ]
    assert seconds.shares(found.totals) == ["35%", "65%", "0%", "0%"]
    assert found.utilisation == "80%"
    assert seconds.rows(seconds.Seconds()) == []
    assert seconds.shares([]) == [""] * 4


def test_lines_of_nvidia_smi_are_read_and_half_ones_left_out() -> None:
    stamp = "2026/11/30 08:15:01.500"
    at = datetime.strptime(stamp, "%Y/%m/%d %H:%M:%S.%f").astimezone().timestamp()
    text = f"{stamp}, 97\n{stamp}, [N/A]\n2026/11/30 08:1"
    assert seconds.parsed(text) == [(at, 97.0)]
