"""Alerts and dashboard speak of metrics that there are, and the alerts ring when they should."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.graph.metrics import METRICS
from tests.parts.archives.real_archives import need, prometheus

HERE = Path(__file__).parent.parent / "jobs" / "monitoring"
NAMES = {f"ray_{metric.name}" for metric in METRICS}
DASHBOARD = json.loads((HERE / "dashboard.json").read_text())
RULES = yaml.safe_load((HERE / "alerts.yml").read_text())["groups"][0]["rules"]


def queries() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield target["expr"].replace("$dst", ".*")
    for rule in RULES:
        yield rule["expr"]


def promtool(*arguments: object) -> str:
    program = need(prometheus) / "promtool"
    done = subprocess.run(
        [program, *map(str, arguments)], cwd=HERE, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_metric_that_is_asked_for_is_there_and_none_is_forgotten() -> None:
    asked = {name for query in queries() for name in re.findall(r"ray_nightlabel_\w+", query)}
    assert asked == NAMES


def test_counters_are_asked_for_by_their_rate() -> None:
    counters = [f"ray_{metric.name}" for metric in METRICS if metric.kind == "counter"]
    assert all(name.endswith("_total") for name in counters)
    for query in queries():
        for name in counters:
            uses = len(re.findall(name, query))
            assert len(re.findall(rf"(?:rate|increase)\({name}", query)) == uses, query


def test_prometheus_reads_the_configuration() -> None:
    assert "5 rules found" in promtool("check", "config", "prometheus.yml")


def test_the_alerts_ring_when_they_should() -> None:
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")


def test_every_alert_is_tried() -> None:
    tried = yaml.safe_load((HERE / "alerts_test.yml").read_text())["tests"]
    rung = {
        case["alertname"]
        for test in tried
        for case in test["alert_rule_test"]
        if case.get("exp_alerts")
    }
    assert rung == {rule["alert"] for rule in RULES}


def test_every_query_of_the_dashboard_is_a_query(tmp_path: Path) -> None:
    rules = [{"record": f"q{number}", "expr": query} for number, query in enumerate(queries())]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", path)
    rules[0]["expr"] = "sum by dst (x"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    with pytest.raises(AssertionError):
        promtool("check", "rules", path)


def test_panels_do_not_overlap() -> None:
    taken: dict[tuple[int, int], Any] = {}
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
