"""Options are declared once, with their fields; names, types and defaults stay what they were."""

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from pipeline.cli import COMMANDS, cli
from pipeline.cli.declared import DECLARED
from pipeline.job_options import Group, JobOptions
from pipeline.spec import LabelSpec

#: What scripts and orchestrators of version 0.2 rely on; options may be added, never changed.
FROZEN: dict[str, dict[str, dict[str, Any]]] = json.loads(
    Path(__file__).with_name("options.json").read_text()
)
CONTEXT = click.Context(cli)


def command(name: str) -> click.Command:
    found = cli.get_command(CONTEXT, name)
    assert found is not None
    return found


def given(found: click.Command) -> dict[str, Any]:
    """What the command gets where only what it needs is given."""
    words = [
        "bash" if isinstance(one.type, click.Choice) else "x"
        for one in found.params
        if isinstance(one, click.Argument)
    ]
    for one in found.params:
        if isinstance(one, click.Option) and one.required:
            words += [one.opts[0], "http://h:1"]
    return found.make_context("x", words).params


def as_frozen(one: click.Parameter, value: object) -> dict[str, Any]:
    is_option = isinstance(one, click.Option)
    return {
        "names": [*one.opts, *one.secondary_opts],
        "type": [*one.type.choices] if isinstance(one.type, click.Choice) else one.type.name,
        "default": json.loads(json.dumps(value)) if is_option and not one.required else None,
        "flag": one.is_flag if is_option else None,
        "multiple": getattr(one, "multiple", False),
        "required": one.required,
        "envvar": one.envvar,
    }


@pytest.mark.parametrize("name", FROZEN)
def test_options_are_what_they_were(name: str) -> None:
    found = command(name)
    values = given(found)
    said = {str(one.name): as_frozen(one, values[str(one.name)]) for one in found.params}
    assert {field: said.get(field) for field in FROZEN[name]} == FROZEN[name]


def test_every_field_of_a_job_is_an_option_with_words() -> None:
    assert [*JobOptions.__annotations__] == [*LabelSpec.model_fields]
    assert set(LabelSpec.model_fields) - set(DECLARED) == {"src", "dst"}
    for one in DECLARED.values():
        assert one.words.help[0].isupper() or one.words.help.startswith("fast:")
        assert one.words.help.endswith(".")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("top_k", "[default: 5]"),
        ("max_seconds", "[default: 60]"),
        ("precision", "[default: auto]"),
        ("exif", "[default: --exif]"),
        ("address", "[default: RAY_ADDRESS, else local]"),
    ],
)
def test_help_shows_the_default(name: str, shown: str) -> None:
    assert DECLARED[name].help.endswith(f". {shown}")


def test_no_default_is_shown_where_nothing_is_done() -> None:
    for name in ("include", "limit", "compile", "delete", "notify"):
        assert DECLARED[name].help == DECLARED[name].words.help


def groups_of(name: str) -> dict[str, list[str]]:
    """The options that `--help` shows, by the title above them."""
    shown = CliRunner().invoke(cli, [name, "--help"]).output
    found: dict[str, list[str]] = {}
    for line in shown.splitlines():
        if line.endswith(":") and line[:1].isalpha():
            found[line[:-1]] = options = []
        elif line.startswith("  -"):
            options.append(line.replace("-h, ", "").split()[0])
    return found


@pytest.mark.parametrize("name", ["label", "fingerprint", "plan", "submit", "bench", "verify"])
def test_help_shows_options_in_groups(name: str) -> None:
    groups = groups_of(name)
    order = [group.value for group in Group if group.value in groups]
    assert [*groups] == order
    assert {"Source", "Run", "Cluster", "Output"} <= set(groups)
    options = [one for one in command(name).params if isinstance(one, click.Option)]
    assert sum(map(len, groups.values())) == len(options) + 1  # and --help
    for one in options:
        assert one.opts[0] in groups[getattr(one, "group", None) or "Output"]


def test_the_rarely_used_options_come_last() -> None:
    groups = groups_of("label")
    assert groups["Source"][-2:] == ["--strict-listing", "--check-changes"]
    assert groups["Output"][-1] == "--debug"
    assert groups["Run"].index("--delete") < groups["Run"].index("--commit-seconds")


def test_commands_share_the_words_of_an_option() -> None:
    told: dict[str, set[str | None]] = {}
    for name in ("label", "fingerprint", "plan", "submit", "bench"):
        for one in command(name).params:
            url = (name, one.name) == ("submit", "address")
            if isinstance(one, click.Option) and one.name in DECLARED and not url:
                told.setdefault(str(one.name), set()).add(one.help)
    assert {field: {DECLARED[field].help} for field in told} == told


def test_every_command_is_frozen_or_new() -> None:
    assert set(FROZEN) <= set(COMMANDS)
