"""Runs with Dagster's Python: what the newest run came to, as a JSON document."""

import json

import dagster as dg

with dg.DagsterInstance.get() as instance:
    record = instance.get_run_records(limit=1)[0]
    told = {"run": record.dagster_run.status.value, "retries": 0}
    for entry in instance.all_logs(record.dagster_run.run_id):
        event = entry.dagster_event
        if event is None:
            continue
        if event.is_step_materialization:
            metadata = event.step_materialization_data.materialization.metadata
            told["metadata"] = {name: one.value for name, one in metadata.items()}
        elif event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            told["check"] = [check.check_name, check.passed, check.severity.value]
            told["reason"] = check.description
        elif event.is_step_up_for_retry:
            told["retries"] += 1
            told["failure"] = event.step_retry_data.error.to_string()
        elif event.is_step_failure:
            told["failure"] = event.step_failure_data.user_failure_data.description
            metadata = event.step_failure_data.user_failure_data.metadata
            told["metadata"] = {name: one.value for name, one in metadata.items()}
    print(json.dumps(told))
