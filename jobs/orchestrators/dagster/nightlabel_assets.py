"""The labels of an archive as an asset of Dagster.

Load it with `dagster dev -f`. It starts the command that NIGHTLABEL names, by default the
`nightlabel` in PATH, which has its own environment: nothing of it is imported here.
See docs/orchestrators.md.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from tempfile import TemporaryFile
from typing import Any

import dagster as dg
from pydantic import Field

INCOMPLETE = 4
#: Bad usage, too many errors, and a run that somebody stopped: a retry would not help.
FINAL = {2, 3, 130, 143}


class Night(dg.Config):
    """What to label; `address` is the Ray cluster to run on, if any."""

    src: str
    dst: str
    address: str | None = None
    options: list[str] = Field(["--deadline", "8h"])


def command(night: Night, name: str) -> list[str]:
    """The command to run; `name` is the same for all tries of one run."""
    start = [os.environ.get("NIGHTLABEL", "nightlabel")]
    if night.address:
        start += ["submit", "--address", night.address, "--night", name]
    else:
        start += ["label"]
    return [*start, "--json", *night.options, "--", night.src, night.dst]


@dg.asset(
    retry_policy=dg.RetryPolicy(max_retries=5, delay=600),
    check_specs=[dg.AssetCheckSpec("complete", asset="labels", description="Nothing is left.")],
)
def labels(context: dg.AssetExecutionContext, config: Night) -> dg.MaterializeResult:
    """One correct label for every image of an archive."""
    with TemporaryFile("w+") as out:
        # A re-executed run keeps its root run id, so it finds the existing job.
        code = _run(context, command(config, context.run.root_run_id or context.run_id), out)
        out.seek(0)
        document = json.loads(out.read() or "{}")
    summary = document.get("summary", document) or {}  # submit wraps label's summary
    reason = summary.get("reason") or document.get("message") or "see the log"
    metadata = metadata_of(summary)
    if code not in (0, INCOMPLETE):
        text = f"nightlabel: exit {code}: {reason}"
        raise dg.Failure(text, metadata=metadata, allow_retries=code not in FINAL)
    complete = dg.AssetCheckResult(
        check_name="complete",
        passed=code == 0,
        severity=dg.AssetCheckSeverity.WARN,
        description=None if code == 0 else reason,
    )
    return dg.MaterializeResult(metadata=metadata, check_results=[complete])


def _run(context: dg.AssetExecutionContext, arguments: list[str], out: Any) -> int:
    child = subprocess.Popen(
        arguments,
        stdout=out,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # so that Ctrl-C reaches it only once, through us
    )
    with child:
        try:
            _follow(context, child)
        except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
            # A run on this machine commits what it has labelled; a job on a cluster continues. The
            # exit code is reported, because Dagster would retry a run that ends with the interrupt.
            child.terminate()
            _follow(context, child)
    # A negative code: it was killed before it could handle the signal.
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _follow(context: dg.AssetExecutionContext, child: subprocess.Popen[str]) -> None:
    for line in child.stderr or ():
        context.log.info(line.rstrip())


def metadata_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What Dagster shows and plots of a run; empty if none began."""
    if "counts" not in summary:
        return {}
    counts, seconds = summary["counts"], summary["seconds"]
    todo = counts["new"] + counts["changed"] + counts["retried"]
    return {
        **{name: counts[name] for name in ("listed", "labelled", "failed")},
        "remaining": todo - counts["labelled"] - counts["failed"],
        "errors": counts["errors"],
        "recipe": summary["recipe"],
        "run_id": summary["run_id"],
        "seconds": seconds.get("all", 0.0),
    }


nightly = dg.ScheduleDefinition(
    name="nightly",
    target=dg.AssetSelection.assets(labels),
    cron_schedule="0 22 * * *",
    run_config=dg.RunConfig(
        ops={"labels": Night(src="s3://bucket/photos", dst="s3://bucket/labels")}
    ),
)

defs = dg.Definitions(assets=[labels], schedules=[nightly])
