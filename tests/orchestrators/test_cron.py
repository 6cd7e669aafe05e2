"""The crontab: its command as cron would run it, by /bin/sh with the crontab's variables."""

import re
import subprocess
from pathlib import Path

import pytest

from pipeline.storage import Folder
from pipeline.store.lease import Lease
from tests.orchestrators.conftest import JOBS, NIGHTLABEL, Archive, environment

CRONTAB = (JOBS / "cron" / "nightlabel.crontab").read_text()
LINES = [line for line in CRONTAB.splitlines() if line and not line.startswith("#")]
ASSIGNMENT = re.compile(r"([A-Z]+)=(.+)")
ENTRY = re.compile(r"((?:[\d*,/-]+ ){5})(.+)")
VARIABLES = dict(found.groups() for line in LINES if (found := ASSIGNMENT.fullmatch(line)))
(SCHEDULE, COMMAND) = next(found.groups() for line in LINES if (found := ENTRY.fullmatch(line)))


def cron(config: Path) -> tuple[int, str]:
    """The exit code, and what cron would mail."""
    variables = VARIABLES | {"NIGHTLABEL": NIGHTLABEL, "NIGHT": str(config)}
    done = subprocess.run(
        ["/bin/sh", "-c", COMMAND],
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    return done.returncode, done.stdout


@pytest.fixture
def config(tmp_path: Path, photos: Archive, tiny_model: Path) -> Path:
    path = tmp_path / "night.toml"
    ends = f'src = "{photos.src}"\ndst = "{photos.dst}"\n'
    path.write_text(f'{ends}model = "{tiny_model}"\n')
    return path


def test_every_line_is_one_that_cron_knows() -> None:
    assert len(LINES) == len(VARIABLES) + 1
    assert SCHEDULE.split() == ["0", "22", "*", "*", "*"]
    assert "%" not in COMMAND  # cron would make it a new line
    assert set(re.findall(r"\$([A-Z]+)", COMMAND)) == set(VARIABLES)


def test_a_whole_night_mails_nothing(config: Path, photos: Archive) -> None:
    assert cron(config) == (0, "")
    assert photos.codes() == {None: 12}


def test_a_busy_store_mails_nothing(config: Path, photos: Archive) -> None:
    with Lease(Folder(str(photos.dst)), "another"):
        assert cron(config) == (0, "")
    assert photos.rows() == 0


def test_what_goes_wrong_is_mailed(tmp_path: Path) -> None:
    code, mail = cron(tmp_path / "none.toml")
    assert code == 2
    assert mail.startswith("exit 2: ")
    assert "none.toml" in mail
