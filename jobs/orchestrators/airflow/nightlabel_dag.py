"""A night of Nightlabel as a DAG of Airflow 3.

Copy it to the folder of DAGs. It starts the command that NIGHTLABEL names, by default the
`nightlabel` in PATH, which has its own environment: nothing of it is imported here.
See docs/orchestrators.md.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from tempfile import TemporaryFile
from typing import Any

from airflow.sdk import DAG, BaseOperator, Context, Param
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

#: The exception for each exit code. Any other code is retried, which is always safe.
ENDS: Mapping[int, type[AirflowException]] = {
    4: AirflowSkipException,  # incomplete: this night is over, the next one continues
    3: AirflowFailException,  # too many errors: look at them first
    2: AirflowFailException,  # bad usage
    130: AirflowFailException,  # someone stopped it
    143: AirflowFailException,
}


def command(params: Mapping[str, Any], night: str) -> list[str]:
    """The command to run: on the cluster at `address` if there is one, else on this machine."""
    start = [os.environ.get("NIGHTLABEL", "nightlabel")]
    if params["address"]:
        start += ["submit", "--address", params["address"], "--night", night]
    else:
        start += ["label"]
    return [*start, "--json", *params["options"], "--", params["src"], params["dst"]]


def counts_of(code: int, document: Mapping[str, Any]) -> dict[str, Any]:
    """The counts of a complete run; for any other exit code, raises Airflow's exception."""
    summary = document.get("summary", document) or {}  # submit wraps label's summary
    if code == 0:
        return dict(summary.get("counts", {}))
    reason = summary.get("reason") or document.get("message") or "see the log above"
    raise ENDS.get(code, AirflowException)(f"nightlabel: exit {code}: {reason}")


class Nightlabel(BaseOperator):
    """Runs `nightlabel` to its end, and copies its progress to the task's log."""

    child: subprocess.Popen[str] | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        run = context["dag_run"]
        # One job for each run of the DAG, so that a retry finds the job of the earlier try.
        night = f"{run.logical_date or run.run_after:%Y%m%dT%H%M%S}"
        with TemporaryFile("w+") as out:
            code = self._run(command(context["params"], night), out)
            out.seek(0)
            return counts_of(code, json.loads(out.read() or "{}"))

    def _run(self, arguments: list[str], out: Any) -> int:
        # A session of its own: Airflow signals the process group of a task, and a second signal
        # would end a run that is still committing after the first.
        self.child = subprocess.Popen(
            arguments,
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        with self.child as child:
            try:
                for line in child.stderr or ():
                    self.log.info(line.rstrip())
            except BaseException:
                self.on_kill()
                child.wait()
                raise
        # A negative code: it was killed before it could handle the signal.
        return child.returncode if child.returncode >= 0 else 128 - child.returncode

    def on_kill(self) -> None:
        """Let a run on this machine commit what it has labelled; a job on a cluster continues."""
        if self.child is not None:
            self.child.terminate()


with DAG(
    "nightlabel",
    schedule="0 22 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params={
        "src": Param("s3://bucket/photos", type="string"),
        "dst": Param("s3://bucket/labels", type="string"),
        "address": Param(None, type=["null", "string"], description="of a Ray cluster's head"),
        "options": Param(["--deadline", "8h"], type="array", items={"type": "string"}),
    },
) as dag:
    Nightlabel(task_id="label", retries=5, retry_delay=timedelta(minutes=10))
