"""What `label`, `embed` and `fingerprint` do with their options."""

from typing import Any

import click

from pipeline.cli.options import spec_of_run
from pipeline.cli.summary import run_and_say


def run_or_plan(
    ctx: click.Context,
    given: dict[str, Any],
    *,
    dry_run: bool,
    silent: bool,
    as_json: bool,
    debug: bool,
) -> int:
    """Run the job that the options `given` describe, or plan it; returns the exit code."""
    if dry_run:
        from pipeline.cli.plan import plan

        result: int = ctx.invoke(plan, no_probe=True, as_json=as_json, debug=debug, **given)
        return result
    spec = spec_of_run(given)
    return run_and_say(spec, silent=silent, as_json=as_json, debug=debug).exit_code
