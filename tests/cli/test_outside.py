"""A command of another package: found by its entry point, and loaded only when it is called."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli import cli, others
from pipeline.cli.failures import exit_code_of
from pipeline.errors import Exit
from tests.parts.outside import install


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(install(tmp_path / "outside"))
    others.cache_clear()
    yield
    others.cache_clear()
    for name in ("outside_tasks", "outside_command"):
        sys.modules.pop(name, None)


def test_help_lists_it_without_loading_it() -> None:
    said = CliRunner().invoke(cli, ["--help"]).output.partition("Commands of other packages:")[2]
    assert "sky" in said
    assert "from outside_command:sky" in said
    assert "outside_command" not in sys.modules


def test_its_help_has_the_options_of_a_job_in_groups() -> None:
    said = CliRunner().invoke(cli, ["sky", "--help"]).output
    assert said.index("Source:") < said.index("--include") < said.index("Output:")
    assert said.index("Output:") < said.index("--quietly")


def test_it_cannot_replace_one_of_ours() -> None:
    assert "Bring the labels at DST" in CliRunner().invoke(cli, ["label", "--help"]).output


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["sky", "none", "skies"], "src='none': no such file or folder"),
        (["skyy"], "did you mean sky?"),
        (["broken"], "outside_command:not_one is not a click command"),
        (["lost"], "its package cannot be loaded"),
    ],
)
def test_what_is_wrong_is_one_line_and_2(
    words: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code_of(cli, words) == Exit.USAGE
    said = capsys.readouterr().err
    assert problem in said
    assert said.count("\n") == 1
