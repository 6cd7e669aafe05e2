"""A real bash completes what the script of `nightlabel completion bash` tells it."""

import os
import pty
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from select import select

import pytest

from tests.integration.conftest import nightlabel

BIN = Path(sys.executable).parent
WAIT_SECONDS = 20.0


class Terminal:
    """An interactive bash, and somebody who types."""

    def __init__(self, folder: Path) -> None:
        env = {"PATH": f"{BIN}:{os.environ['PATH']}", "TERM": "dumb", "PS1": "ready> "}
        self._end, theirs = pty.openpty()
        self._bash = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "-i"],
            stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=env, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)

    def type(self, keys: str, until: Callable[[str], bool]) -> str:
        """What the terminal shows from then on, when it is as awaited."""
        os.write(self._end, keys.encode())
        shown, end = "", time.monotonic() + WAIT_SECONDS
        while not until(shown):
            assert time.monotonic() < end, shown
            if select([self._end], [], [], 0.1)[0]:
                shown += os.read(self._end, 4096).decode()
        return shown

    def close(self) -> None:
        self._bash.kill()
        self._bash.wait()
        os.close(self._end)


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    folder = tmp_path_factory.mktemp("home")
    (folder / "photographs").mkdir()
    found = Terminal(folder)
    try:
        found.type('eval "$(nightlabel completion bash)"; echo so\\far\n', lambda s: "sofar" in s)
        yield found
    finally:
        found.close()


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("nightlabel compl\t", "nightlabel completion "),
        ("nightlabel label --prec\t", "--precision "),
        ("nightlabel label --precision in\t", "int8 "),
        ("nightlabel label phot\t", "photographs/"),
        ("nightlabel verify --model phot\t", "photographs/"),
        ("nightlabel label a b --config phot\t", "photographs/"),
    ],
)
def test_bash_completes(terminal: Terminal, typed: str, shown: str) -> None:
    emptied = "\x15"  # Ctrl-U
    assert "Traceback" not in terminal.type(emptied + typed, lambda seen: shown in seen)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_that_its_shell_takes(shell: str) -> None:
    ran = nightlabel("completion", shell)
    assert ran.code == 0
    assert "_NIGHTLABEL_COMPLETE" in ran.out
    told = nightlabel("completion", shell, "--json").json
    assert told == {"shell": shell, "script": ran.out[:-1]}
    if shutil.which(shell):
        checked = subprocess.run([shell, "-n"], input=ran.out, capture_output=True, text=True)
        assert (checked.returncode, checked.stderr) == (0, "")


def test_to_complete_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom pipeline.cli import cli\n"
        "try:\n    cli.main(prog_name='nightlabel')\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'ray', 'torch', 'pyarrow', 'pydantic', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    env = os.environ | {
        "_NIGHTLABEL_COMPLETE": "bash_complete",
        "COMP_WORDS": "nightlabel label --pre",
        "COMP_CWORD": "2",
    }
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert ran.stdout.split() == ["plain,--precision", "plain,--predictors"]
    assert ran.stderr == "[]\n"
