"""`nightlabel bench`"""

import tempfile
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli import options
from pipeline.cli.console.devices import gpu_rows
from pipeline.cli.console.output import duration, say, say_json, say_table, size, words_of
from pipeline.cli.console.progress import listener
from pipeline.cli.console.quiet import quiet_libraries
from pipeline.errors import Exit, SpecError
from pipeline.job_options import Group
from pipeline.words import LABELLING, Words

if TYPE_CHECKING:
    from pipeline.runs.bench import Bench


@click.command(cls=options.JobCommand)
@click.argument("src", required=False, shell_complete=options.paths)
@options.measured
@options.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    metavar="SECONDS",
    show_default=True,
    group=Group.RUN,
    help="Seconds for each part of the measurement.",
)
@options.option(
    "--scratch",
    metavar="FOLDER",
    group=Group.RUN,
    help="Folder that the run writes to; with --address one that every node can reach.",
)
@options.config
@options.progress
@options.output
def bench(
    seconds: float,
    scratch: str | None,
    no_progress: bool,
    as_json: bool,
    debug: bool,
    **given: Any,
) -> int:
    """Measure what limits the speed of a run here: decoding, prediction, or the rest.

    Decodes on all cores, predicts on all devices, then labels a part of SRC into a scratch
    folder, which is removed. No label store is changed.

    \b
    Examples:
      nightlabel bench s3://bucket/photos --model ./my-vit
      nightlabel bench ./photos --precision int8 --decode fast

    Exit: 0 measured, 1 failed, 2 bad usage.
    """
    if given["address"] and not scratch:
        raise SpecError("scratch", None, "give a folder that every node of the cluster can reach")
    with ExitStack() as stack:
        folder = scratch or stack.enter_context(tempfile.TemporaryDirectory(prefix="nightlabel-"))
        spec = options.spec_of_run(given | {"dst": folder})
        from pipeline.runs.bench import bench as run

        stack.enter_context(quiet_libraries(debug=debug))
        listen = stack.enter_context(listener(silent=no_progress, words=words_of(spec)))
        found = run(spec, seconds, listen)
    if as_json:
        say_json(found.model_dump(mode="json"))
    else:
        _say(found, words_of(spec))
    return Exit.OK


def _say(found: "Bench", words: Words = LABELLING) -> None:
    rows: list[tuple[str, object]] = [
        ("images", f"{found.images:,} of {size(found.mean_bytes)} each"),
        ("read and decode", _rate(found.decode_per_second, found.decoders, _processes(found)[0])),
        *_predicted(found),
        ("a whole run", _whole(found)),
        (
            "its first label" if words == LABELLING else "its first row",
            f"after {duration(found.first_label_seconds)}",
        ),
        *gpu_rows(found.device_seconds, advice=False),
        ("the limit", _limit(found)),
    ]
    say_table(rows, f"{found.src} on {found.device}")
    if found.run_errors:
        failed = f"{found.run_errors:,} of {found.run_images:,} images failed"
        say(f"{failed}; they count as {words.done}")


def _predicted(found: "Bench") -> list[tuple[str, object]]:
    if not found.predictors:  # decoders do all the work
        return []
    return [
        ("predict", _rate(found.predict_per_second, found.predictors, _processes(found)[1])),
        ("at best, both", f"{found.ideal_per_second:,.1f} img/s"),
    ]


def _processes(found: "Bench") -> tuple[str, str]:
    """What decodes and what predicts: on CPUs the same processes."""
    if found.predictors and found.device == "cpu":
        return "processes", "processes"
    return "decoders", "predictors"


def _rate(per_second: float, number: int, name: str) -> str:
    return f"{per_second:,.1f} img/s ({number} {name}, {per_second / number:,.1f} each)"


def _whole(found: "Bench") -> str:
    if not found.run_per_second:
        return f"{found.run_images:,} images are too few to time"
    return f"{found.run_per_second:,.1f} img/s, {found.share:.0%} of that"


def _limit(found: "Bench") -> str:
    if not found.predictors:
        return "decoding, which does all of the work here"
    if found.device == "cpu":
        return f"{found.limit}, which takes most of the cores' time"
    if found.limit == "decoding":
        return f"decoding: {found.decoders_wanted} cores would keep the devices busy"
    return f"predicting: {found.decoders_wanted} cores keep the devices busy"
