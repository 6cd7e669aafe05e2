"""From exceptions to one clear line and an exit code."""

import sys
import traceback
from types import TracebackType
from typing import Any

import click

from pipeline.cli.output import say, say_json
from pipeline.errors import Exit, NightlabelError, Terminated


def exit_code_of(command: click.Command, arguments: list[str] | None = None) -> int:
    """Run a command; a NightlabelError becomes one line on stderr, its traceback with --debug,
    and with --json a document too: stdout always holds one.

    Click's own handling is off, since it turns Ctrl-C into exit 1.
    """
    try:
        result: Any = command.main(args=arguments, prog_name="nightlabel", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return Exit.USAGE
    except (click.Abort, KeyboardInterrupt) as ended:
        # Click turns the one into the other.
        if isinstance(ended, Terminated) or isinstance(ended.__cause__, Terminated):
            _say("terminated")
            return Exit.TERMINATED
        _say("interrupted")
        return Exit.INTERRUPTED
    except NightlabelError as error:
        from pipeline.storage import redacted

        message = redacted(str(error))
        if "--debug" in sys.argv:
            show_traceback(type(error), error, error.__traceback__)
        _say(message)
        if "--json" in sys.argv:
            say_json({"error": type(error).__name__, "message": message})
        return error.exit_code
    return int(result or 0)


def show_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """What Python shows of an exception, without what addresses in it may hold of secrets.

    Libraries put whole signed urls into their messages.
    """
    from pipeline.storage import redacted

    for line in "".join(traceback.format_exception(kind, error, trace)).splitlines():
        say(redacted(line), err=True)


def _say(message: str) -> None:
    say(f"nightlabel: {' '.join(message.split())}", err=True)
