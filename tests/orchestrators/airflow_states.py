"""Runs with Airflow's Python: how the newest run of the DAG stands, as a JSON document."""

import json

from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import select

with create_session() as session:
    run = session.scalars(select(DagRun).order_by(DagRun.id.desc())).first()
    task = session.scalars(select(TaskInstance).where(TaskInstance.run_id == run.run_id)).one()
    query = select(XComModel.value).where(
        XComModel.run_id == run.run_id, XComModel.key == "return_value"
    )
    value = session.scalars(query).first()
    returned = json.loads(value) if isinstance(value, str) else value
    print(json.dumps({"run": run.state, "task": task.state, "returned": returned}))
