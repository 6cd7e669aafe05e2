"""Turns exceptions into one clear line and an exit code."""

import sys
import traceback
from types import TracebackType
from typing import Any

import click

from pipeline.cli.console.output import say, say_json
from pipeline.errors import Exit, NightlabelError, Terminated


def exit_code_of(command: click.Command, arguments: list[str] | None = None) -> int:
    """Run a command; a failure becomes one line on stderr, its traceback with --debug, and with
    --json a document too: stdout always holds one.

    Click's own handling is off, since it turns Ctrl-C into exit 1.
    """
    words = _flags(sys.argv[1:] if arguments is None else arguments)
    try:
        result: Any = command.main(args=arguments, prog_name="nightlabel", standalone_mode=False)
    except click.ClickException as error:
        if not words:  # the whole help, since no command was given
            error.show()
        else:
            _tell("UsageError", _usage(error), Exit.USAGE, words)
        return Exit.USAGE
    except (click.Abort, KeyboardInterrupt) as ended:
        # Click turns KeyboardInterrupt into Abort.
        if isinstance(ended, Terminated) or isinstance(ended.__cause__, Terminated):
            _say("terminated")
            return Exit.TERMINATED
        _say("interrupted")
        return Exit.INTERRUPTED
    except NightlabelError as error:
        if "--debug" in words:
            show_traceback(type(error), error, error.__traceback__)
        _tell(type(error).__name__, str(error), error.exit_code, words)
        return error.exit_code
    return int(result or 0)


def _flags(words: list[str]) -> list[str]:
    """The arguments before `--`, after which nothing is an option."""
    return words[: words.index("--")] if "--" in words else words


def _usage(error: click.ClickException) -> str:
    """Click's error, and where to read more."""
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    if context is None:
        return message
    if isinstance(error, click.MissingParameter):
        message += f"; {context.get_usage().strip()}"
    return f"{message}; see `{context.command_path} --help`"


def _tell(kind: str, text: str, code: Exit, words: list[str]) -> None:
    from pipeline.storage import redacted

    message = " ".join(redacted(text).split())
    _say(message)
    if "--json" in words:
        say_json({"error": kind, "message": message, "exit_code": int(code)})


def show_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Python's traceback of an exception, without the secrets in addresses.

    Libraries put whole signed urls into their messages.
    """
    from pipeline.storage import redacted

    for line in "".join(traceback.format_exception(kind, error, trace)).splitlines():
        say(redacted(line, foreign=True), err=True)


def _say(message: str) -> None:
    say(f"nightlabel: {message}", err=True)
