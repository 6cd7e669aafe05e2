"""Writes docs/reference.md from the code: `make docs`."""

import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from pipeline.cli import COMMANDS, cli
from pipeline.cli.grouped import JobCommand, in_groups
from pipeline.errors import Exit
from pipeline.events.kinds import KINDS, Event
from pipeline.graph.metrics import METRICS

HERE = Path(__file__).with_name("reference.md")

#: What to do about each, for whoever schedules nights.
ADVICE = {
    Exit.OK: "nothing",
    Exit.FAILED: "run it again; it continues where it stopped",
    Exit.USAGE: "correct the command; running it again changes nothing",
    Exit.GATE: "look at the errors (`error_code`); what was labelled is there",
    Exit.INCOMPLETE: "run it again, or wait for the next night; `--partial-ok` makes it 0",
    Exit.BUSY: "try again later",
    Exit.INTERRUPTED: "run it again",
    Exit.TERMINATED: "run it again",
}


def page() -> str:
    """The whole document."""
    lines = [
        "# Reference: commands, exit codes, events, metrics",
        "",
        "`make docs` writes this page from the code; a test compares the two.",
        "",
        "## Exit codes",
        "",
        "| exit | means | what to do |",
        "|--:|---|---|",
        *(f"| {int(code)} | {code.meaning} | {ADVICE[code]} |" for code in Exit),
        "",
        "## Events",
        "",
        *_paragraph(
            "`--events FILE|URI` writes one JSON object per line. A local file grows from night to "
            "night; in a local folder, and in a bucket, each run has a file of its own, "
            "`<run_id>.jsonl`. An object in a bucket is written every half minute and at the end: "
            "give a folder, or the next night overwrites it. A target that cannot be written to is "
            "refused at the start (exit 2); a later failure is a warning, and the run continues. "
            "New fields and kinds may be added; those listed here stay."
        ),
        "",
        "Every event has:",
        "",
        *_fields(Event, skip=()),
    ]
    for kind in KINDS:
        lines += ["", f"### `{kind.model_fields['event'].default}`", "", kind.__doc__ or "", ""]
        lines += _fields(kind, skip=tuple(Event.model_fields))
    return "\n".join([*lines, *_webhook(), *_metrics(), *_commands()]) + "\n"


def _paragraph(text: str) -> list[str]:
    return textwrap.wrap(text, 98, break_long_words=False, break_on_hyphens=False)


def _fields(kind: type[Event], skip: tuple[str, ...]) -> Iterator[str]:
    yield "| field | type | |"
    yield "|---|---|---|"
    for name, field in kind.model_fields.items():
        if name not in skip:
            yield f"| `{name}` | {_type(field)} | {field.description} |"


def _type(field: FieldInfo) -> str:
    found: Any = field.annotation
    if get_origin(found) in (Union, types.UnionType):
        return " or ".join(_name(one) for one in get_args(found))
    return _name(found)


def _name(kind: Any) -> str:
    names = {
        str: "string",
        int: "integer",
        float: "number",
        bool: "boolean",
        types.NoneType: "null",
    }
    if get_origin(kind) is dict:
        return "object of integers"
    return names.get(kind, "string")


def _webhook() -> list[str]:
    return [
        "",
        "## The message at the end",
        "",
        *_paragraph(
            "`--notify URL` POSTs the `finished` event when the run is over, however it "
            "ended, as long as its options could be read. It is sent up to five times within some "
            "20 s if the receiver does not answer or answers 408, 425, 429 or 5xx, and only once, "
            "within two seconds, after a signal; redirects are not followed. A failure is a "
            "warning, and the run continues. Chat services that accept incoming webhooks show "
            "its `text`."
        ),
        "",
        *_paragraph(
            "With `NIGHTLABEL_NOTIFY_SECRET` in the environment of the run it is signed as "
            "[Standard Webhooks](https://www.standardwebhooks.com) lays down: `webhook-id` (the "
            "run), `webhook-timestamp`, `webhook-signature` (`v1,` and the base64 of an "
            "HMAC-SHA256 over id, timestamp and body, with dots between). Libraries that verify "
            "it exist for most languages. The secret is `whsec_` and the base64 of 24 bytes or "
            "more, or any text. The address is taken for a secret too: it is neither printed nor "
            "recorded."
        ),
    ]


def _metrics() -> list[str]:
    return [
        "",
        "## Metrics",
        "",
        *_paragraph(
            "A run on a cluster exports these through Ray, whose nodes Prometheus scrapes "
            "([how](observability.md)). All have the tag `dst`, the label store."
        ),
        "",
        "| metric | kind | |",
        "|---|---|---|",
        *(
            f"| `ray_{one.name}`{f', by `{one.tag}`' if one.tag else ''} | {one.kind} "
            f"| {one.description} |"
            for one in METRICS
        ),
    ]


def _commands() -> Iterator[str]:
    yield from ["", "## Commands"]
    context = click.Context(cli)
    commands = {name: cli.get_command(context, name) for name in COMMANDS}
    of_label = {one.name: one.help for one in _options(commands["label"])}
    for name, command in commands.items():
        yield from ["", f"### `nightlabel {' '.join([name, *_arguments(command)])}`", ""]
        yield from _paragraph(" ".join((command.help or "").partition("\b")[0].split()))
        yield from _table_of_options(command, {} if name == "label" else of_label)


def _table_of_options(command: Any, known: dict[str | None, str | None]) -> Iterator[str]:
    """Those that are `known` mean the same there, and are only named."""
    every = _options(command)
    shared = [one for one in every if known.get(one.name) == one.help]
    own = [one for one in every if one not in shared]
    if own:
        yield from ["", "| option | |", "|---|---|"]
        yield from _rows(command, own)
    if shared:
        names = ", ".join(f"`{one.opts[0]}`" for one in shared)
        yield from ["", *_paragraph(f"As in `label`: {names}.")]


def _rows(command: Any, options: list[click.Option]) -> Iterator[str]:
    """A row an option; those of a job under the title that `--help` gives them."""
    grouped = isinstance(command, JobCommand)
    for title, members in in_groups(options) if grouped else [("", options)]:
        if grouped:
            yield f"| **{title}** | |"
        yield from (f"| `{_spelled(one)}` | {_help(one)} |" for one in members)


def _options(command: Any) -> list[click.Option]:
    return [one for one in command.params if isinstance(one, click.Option)]


def _arguments(command: Any) -> list[str]:
    every = [one for one in command.params if isinstance(one, click.Argument)]
    return [one.make_metavar(click.Context(command)) for one in every]


def _spelled(option: click.Option) -> str:
    """`--top-k INTEGER`, `--exif/--no-exif`, `-f, --follow`."""
    names = ", ".join(option.opts) + "".join(f"/{name}" for name in option.secondary_opts)
    metavar = "" if option.is_flag else f" {option.make_metavar(click.Context(cli))}"
    return _cell(names + metavar)


def _help(option: click.Option) -> str:
    default = f" [default: {option.default}]" if option.show_default else ""
    return _cell((option.help or "") + default)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    HERE.write_text(page())
