"""The quickstart, command by command: what it prints is what the page shows."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "quickstart.md"


def steps(page: str) -> Iterator[tuple[str, str]]:
    """The commands in the console blocks of a page, and what each prints on stdout."""
    for block in re.findall(r"^```console\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *rest = step.splitlines()
            inner = [line for line in rest if line.startswith(">")]
            shown = rest[len(inner) :]
            yield "\n".join([command, *(line[2:] for line in inner)]), "\n".join(shown)


def matches(shown: str, printed: str) -> bool:
    """Whether they are equal but for the spaces in a row, where `…` stands for anything."""
    text = " ".join(printed.split())
    first, *others = (" ".join(piece.split()) for piece in shown.split("…"))
    if not others:
        return text == first
    *middle, last = others
    if not text.startswith(first):
        return False
    at = len(first)
    for piece in middle:
        if (found := text.find(piece, at)) < 0:
            return False
        at = found + len(piece)
    return text.endswith(last) and at <= len(text) - len(last)


def test_the_quickstart_does_what_it_shows(tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = list(steps(PAGE.read_text()))
    assert len(done) > 10
    for command, shown in done:
        ran = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
        )
        assert matches(shown, ran.stdout), f"$ {command}\n{ran.stdout}\n{ran.stderr}"


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a  1\nb …", "a 1\nb 2\nc", True),
        ("a …", "b 1", False),
        ("a … c …", "a b c", True),
        ("a … c … c", "a b c", False),
        ("…", "", True),
        ("a 1", "a 1\nb", False),
        ("", "", True),
        ("", "oops", False),
    ],
)
def test_what_is_held_against_the_page(shown: str, printed: str, same: bool) -> None:
    assert matches(shown, printed) is same
