"""What anybody may have written cannot write to a terminal, and errors show no secrets."""

import sys
from pathlib import Path

import click
import pytest

from pipeline.cli.console.output import say, say_table
from pipeline.cli.failures import exit_code_of
from pipeline.errors import Exit, NightlabelError, StoreError, printable
from tests.integration.conftest import nightlabel

EVIL = "a\x1b]0;owned\x07\x1b[2J\rb\x9b31m\u202egpj.\udcff"
SPELLED = r"a\x1b]0;owned\x07\x1b[2J\rb\x9b31m\u202egpj.\udcff"


def test_what_controls_a_terminal_is_spelled_out() -> None:
    assert printable(EVIL) == SPELLED
    assert printable("ü [red] 100% 'x'  y") == "ü [red] 100% 'x'  y"


def test_tables_and_lines(capsys: pytest.CaptureFixture[str]) -> None:
    say_table([("label", EVIL), (EVIL, 1)], EVIL)
    say(f"{EVIL}\nnext")
    said = capsys.readouterr().out
    assert said.count(SPELLED) == 4
    assert said.endswith("\nnext\n")
    assert said.replace("\n", "").isprintable()


def test_an_error_is_one_printable_line() -> None:
    assert str(NightlabelError(f"{EVIL}\nsecond")) == SPELLED.replace(r"\r", " ") + " second"


def test_a_name_with_escapes_in_a_message(tmp_path: Path) -> None:
    found = nightlabel("plan", f"{tmp_path}/\x1b]none", tmp_path / "labels")
    assert found.code != 0
    assert "\x1b" not in found.err + found.out
    assert r"\x1b]none" in found.err


def failing(error: Exception) -> click.Command:
    @click.command()
    @click.option("--debug", is_flag=True)
    def command(debug: bool) -> None:
        try:
            raise ValueError("GET https://u:c4n4ry@h/a?X-Amz-Signature=c4n4ry")
        except ValueError as cause:
            raise error from cause

    return command


def test_debug_shows_the_traceback_without_secrets_and_keeps_the_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["nightlabel", "--debug"])
    error = StoreError("https://h/a?sig=c4n4ry is away")
    assert exit_code_of(failing(error), ["--debug"]) == Exit.FAILED
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "GET https://h/a?…" in said
    assert "nightlabel: https://h/a?… is away" in said
    assert "c4n4ry" not in said
