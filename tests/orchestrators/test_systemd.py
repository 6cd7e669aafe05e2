"""The units, by systemd itself where it is installed, and by what they promise."""

import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

from pipeline.errors import Exit
from tests.orchestrators.conftest import JOBS, NIGHTLABEL

UNITS = JOBS / "systemd"


def unit(name: str) -> ConfigParser:
    parser = ConfigParser(interpolation=None, delimiters="=", strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(UNITS / name)
    return parser


def codes(setting: str) -> set[int]:
    return set(map(int, unit("nightlabel.service")["Service"][setting].split()))


def test_every_exit_code_has_one_end() -> None:
    over, final = codes("SuccessExitStatus"), codes("RestartPreventExitStatus")
    assert over == {Exit.INCOMPLETE, Exit.INTERRUPTED, Exit.TERMINATED}
    assert final == {Exit.USAGE, Exit.GATE}
    assert unit("nightlabel.service")["Service"]["Restart"] == "on-failure"
    assert set(Exit) - over - final - {Exit.OK} == {Exit.FAILED, Exit.BUSY}


def test_a_run_has_time_to_commit() -> None:
    service = unit("nightlabel.service")["Service"]
    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) >= 15


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_them(tmp_path: Path) -> None:
    for path in UNITS.iterdir():
        # It looks for the program too.
        text = path.read_text().replace("/opt/nightlabel/bin/nightlabel", NIGHTLABEL)
        (tmp_path / path.name).write_text(text)
    checked = subprocess.run(
        ["systemd-analyze", "verify", *tmp_path.glob("nightlabel.*")],
        capture_output=True,
        text=True,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
