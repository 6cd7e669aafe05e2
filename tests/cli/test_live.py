"""Progress and tables in a real terminal; and what stays plain, in one or not."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli.console.progress import live_line
from pipeline.graph.progress import Progress
from tests.cli.terminals import frames, in_terminal, python

#: A night in small. Between two counts of one stage the line is not drawn again for 0.1 s.
NIGHT = """
import sys, time
from pipeline.cli.console.progress import listener
from pipeline.cli.console.quiet import quiet_libraries
from pipeline.graph.progress import Progress
with quiet_libraries(debug=False), listener(silent=False) as listen:
    listen(Progress("model"))
    listen(Progress("labelling", listed=5000, todo=4000, labelled=1000))
    time.sleep(0.15)
    print("a library says so")
    listen(Progress("labelling", listed=9000, todo=8000, labelled=3000, errors=7))
    time.sleep(0.15)
    known = {"listed": 10000, "listing_complete": True, "todo": 9000}
    listen(Progress("labelling", **known, labelled=4500, errors=7))
    listen(Progress("merging"))
print("the end")
"""
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9](;[0-9;]*)?m")
BAR = "━"


def test_a_line_for_a_terminal_begins_with_what_matters() -> None:
    unknown = Progress("labelling", listed=5000, todo=4000, labelled=1000)
    assert live_line(unknown, 50.0) == "1,000 of 4,000+ · 50.0 img/s · listed 5,000 so far"
    known = Progress("labelling", 5000, True, todo=4000, labelled=1000, errors=3)
    assert live_line(known, 50.0) == "1,000 of 4,000 · 50.0 img/s · 1m00s left · 3 failed"
    assert live_line(Progress("loading", 9, todo=7), 0.0) == "loading the model · 7+ to label"
    assert live_line(Progress("labelling"), 0.0) == "listing"
    assert live_line(Progress("merging"), 9.0) == "merging parts into large files"


def test_a_bar_is_drawn_once_it_is_known_how_much_there_is() -> None:
    seen = frames(in_terminal(python(NIGHT)))
    before = [line for line in seen if "so far" in line]
    after = [line for line in seen if "4,500 of 9,000" in line]
    assert before
    assert after
    assert not any(BAR in line or "left" in line for line in before)
    assert all(BAR in line and "left" in line for line in after)
    assert any("checking the model" in line for line in seen)
    assert not any(BAR in line for line in seen if "merging" in line)
    assert seen[-1] == "the end"
    assert not any("a library" in line for line in seen)


@pytest.mark.parametrize("columns", [20, 40])
def test_a_narrow_terminal_cuts_the_line_and_never_wraps_it(columns: int) -> None:
    written = in_terminal(python(NIGHT), columns)
    assert all(len(line) <= columns for line in frames(written))
    assert "\n" not in written.partition("the end")[0].rstrip().replace("\r\n", "")


def test_no_color_is_obeyed() -> None:
    assert COLOUR.search(in_terminal(python(NIGHT)))
    assert not COLOUR.search(in_terminal(python(NIGHT), env={"NO_COLOR": "1"}))


def test_a_terminal_that_cannot_draw_gets_lines() -> None:
    seen = in_terminal(python(NIGHT), env={"TERM": "dumb"})
    assert "\x1b" not in seen
    assert re.search(r"\d\d:\d\d:\d\d listed 5,000\+ · to label 4,000 · processed 1,000", seen)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_encoding_without_our_signs_gets_others(encoding: str) -> None:
    seen = in_terminal(python(NIGHT), env={"PYTHONIOENCODING": encoding})
    assert "Traceback" not in seen
    assert "the end" in seen
    assert BAR not in seen
    assert "1,000 of 4,000+ " in seen


#: What `runs` shows of two runs, one of whose reasons holds markup and an escape sequence.
RUNS = r"""
from pipeline.cli.store.runs import TABLE
from pipeline.cli.console.tables import Row, say_columns
rows = [
    ("20260101T020000Z-00000001", "2026-01-01 02:00", "4m10s", "1,234", "5", "261", "0",
     "complete"),
    ("20260102T020000Z-00000001", "2026-01-02 02:00", "-", "-", "-", "-", "3",
     "gate: [bold]5[/bold] \x1b[31merrors → many"),
]
say_columns(TABLE, [Row(cells) for cells in rows])
"""
#: Two checks, one with a warning.
CHECKS = """
from pipeline.cli.doctor import TABLE
from pipeline.cli.console.tables import Row, say_columns
say_columns(TABLE, [Row(("OK", "model: vit")), Row(("FAILED", "store: [red]away"))], head=False)
"""


@pytest.mark.parametrize("columns", [80, 120])
def test_a_table_in_a_terminal_has_colours_and_fits(columns: int) -> None:
    written = in_terminal(python(RUNS), columns)
    assert COLOUR.search(written)
    assert all(len(line) <= columns for line in frames(written))
    seen = " ".join(frames(written))
    assert ("started" in seen) == (columns > 100)
    assert "[bold]" in seen
    assert "\x1b[31merrors" not in written
    assert "20260101T020000Z-00000001" in seen


def test_a_table_elsewhere_is_lines_that_stay() -> None:
    """The same columns at the same places, whatever the width and the terminal."""
    narrow = in_terminal(python(RUNS), 60)
    dumb = in_terminal(python(RUNS), 120, {"TERM": "dumb"})
    assert narrow == dumb
    head, first, second = dumb.splitlines()
    for name, cell in (("labelled", "1,234"), ("failed", "5 "), ("status", "complete")):
        assert first[head.index(name) :].startswith(cell)
    assert second.endswith(r"gate: [bold]5[/bold] \x1b[31merrors → many")


@pytest.mark.parametrize(("encoding", "sign"), [("utf-8", "→"), ("latin-1", "->"), ("ascii", "->")])
@pytest.mark.parametrize("columns", [60, 120])
def test_a_table_in_any_encoding(columns: int, encoding: str, sign: str) -> None:
    said = in_terminal(python(RUNS), columns, {"PYTHONIOENCODING": encoding})
    assert f"errors {sign} many" in " ".join(frames(said))


def test_colours_follow_the_status_and_nothing_else() -> None:
    written = in_terminal(python(CHECKS))
    assert "\x1b[32mOK" in written
    assert "\x1b[31mFAILED" in written
    assert "[red]away" in " ".join(frames(written))
    assert not COLOUR.search(in_terminal(python(CHECKS), env={"NO_COLOR": "1"}))


def test_a_long_value_is_folded_below_itself() -> None:
    code = (
        "from pipeline.cli.console.output import say_table\n"
        "say_table([('a', 1), ('of it', 'x' * 60)])"
    )
    seen = frames(in_terminal(python(code), 40))
    assert seen == ["  a      1", f"  of it  {'x' * 31}", f"         {'x' * 29}"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_help_in_any_encoding(encoding: str) -> None:
    command = [Path(sys.executable).with_name("nightlabel"), "label", "--help"]
    env = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run(command, capture_output=True, env=env)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"--retry-errors" in done.stdout


def test_a_log_has_no_escape_sequence() -> None:
    done = subprocess.run([sys.executable, "-c", NIGHT], capture_output=True, text=True, check=True)
    assert "\x1b" not in done.stdout + done.stderr
    assert done.stdout == "the end\n"
    assert len(done.stderr.splitlines()) == 3
