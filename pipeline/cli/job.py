"""What Ray runs as a job: it reads a specification and exits with the run's exit code.

    python -m pipeline.cli.job job.toml
    python -m pipeline.cli.job spec.json
    python -m pipeline.cli.job - < spec.json

The specification is a TOML file as for `--config`, or the JSON of a LabelSpec. Progress goes to
standard error; the summary of the run is the last line of standard output, a JSON document.
"""

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli.console.progress import listener
from pipeline.errors import Exit, NightlabelError, SpecError, Terminated

if TYPE_CHECKING:
    from pipeline.spec import LabelSpec


def main(arguments: list[str]) -> int:
    """Run the job that the one argument names; returns an exit code of `pipeline.errors`."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return Exit.USAGE
    from pipeline.cli.console.output import say_unreadable, words_of
    from pipeline.runs.label import label
    from pipeline.storage import redacted

    try:
        spec = _spec(arguments[0])
        # Ray prints on standard output too, which is reserved for the document.
        with (
            redirect_stdout(sys.stderr),
            listener(silent=False, words=words_of(spec)) as listen,
        ):
            summary = label(spec, listen)
    except NightlabelError as error:
        print(f"nightlabel: {redacted(str(error))}", file=sys.stderr)
        return error.exit_code
    except Terminated:
        return Exit.TERMINATED
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    say_unreadable(summary.unreadable, summary.counts.unreadable)
    print(summary.model_dump_json())
    return summary.exit_code


def _spec(argument: str) -> "LabelSpec":
    from pipeline.spec import load_spec, parse_spec

    if argument == "-":
        return parse_spec(sys.stdin.read())
    if argument.endswith(".json"):
        try:
            return parse_spec(Path(argument).read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError("job", argument, f"cannot be read: {error}") from None
    return load_spec(Path(argument), {}, {})


def run() -> None:
    """Run the job that the command line names, and exit with its code."""
    from pipeline.engine.session import end_process

    end_process(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
