"""What Ray runs: a specification in, an exit code out.

    python -m jobs.label job.toml
    python -m jobs.label - < spec.json

The specification is a TOML file as for `--config`, or the JSON of a LabelSpec on standard
input. The summary of the run goes to standard output as one JSON document.
"""

import sys
from contextlib import redirect_stdout
from pathlib import Path

from pipeline.errors import Exit, NightlabelError, Terminated
from pipeline.flow.driver import label
from pipeline.flow.session import end_process
from pipeline.spec import LabelSpec, load_spec, parse_spec
from pipeline.storage import redacted


def main(arguments: list[str]) -> int:
    """Run the job that the one argument names; returns an exit code of `pipeline.errors`."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        # Ray prints on standard output too, which is the document's alone.
        with redirect_stdout(sys.stderr):
            summary = label(_spec(arguments[0]))
    except NightlabelError as error:
        print(f"nightlabel: {redacted(str(error))}", file=sys.stderr)
        return error.exit_code
    except Terminated:
        return Exit.TERMINATED
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    print(summary.model_dump_json(indent=2))
    return summary.exit_code


def _spec(argument: str) -> LabelSpec:
    if argument == "-":
        return parse_spec(sys.stdin.read())
    return load_spec(Path(argument), {}, {})


if __name__ == "__main__":
    end_process(main(sys.argv[1:]))
