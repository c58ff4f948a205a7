# SPDX-License-Identifier: Apache-2.0
"""Metrics, alert rules and dashboard as Prometheus' own tool sees them, and whether they fit together."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT
from tools.manual.metrics import declared, exposition, registries

PROMETHEUS = CHECKOUT / "deploy" / "prometheus"
RULES = PROMETHEUS / "hoaflow.rules.yml"
DASHBOARD = CHECKOUT / "deploy" / "grafana" / "hoaflow.json"
TIMEOUT = 300  # seconds; the tool may have to be downloaded
METRIC = re.compile(r"\b(?:hoaflow|process)_[a-z_]+\b")
OF_PROCESSES = {"process_cpu_seconds_total", "process_resident_memory_bytes"}


@pytest.fixture(scope="module")
def promtool() -> Path:
    """Prometheus' tool, of Debian's package."""
    subprocess.run(CHECKOUT / "scripts" / "setup-tests", check=True, timeout=TIMEOUT)
    return CHECKOUT / "build" / "promtool" / "usr" / "bin" / "promtool"


def run(promtool: Path, *arguments: str, stdin: str = "") -> str:
    """Return what it says. Fails when it finds something."""
    done = subprocess.run(
        [promtool, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
        cwd=PROMETHEUS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def names() -> set[str]:
    """Return the names of all samples that there are."""
    found = {metric.name for registry in registries().values() for metric in declared(registry)}
    histograms = {
        metric.name for registry in registries().values() for metric in declared(registry) if metric.type == "histogram"
    }
    return found | {f"{name}_{suffix}" for name in histograms for suffix in ("bucket", "count", "sum")} | OF_PROCESSES


def test_metrics_are_named_as_prometheus_wants_them(promtool: Path) -> None:
    assert run(promtool, "check", "metrics", stdin=exposition()) == ""


def test_no_metric_has_an_address_of_a_subscriber() -> None:
    labels = {label for registry in registries().values() for metric in declared(registry) for label in metric.labels}
    assert labels == {
        *("home_agent", "state", "router", "kind", "direction", "stage", "reason", "name", "table"),
        *("controller", "request", "result", "status"),
    }


def test_the_rules_are_right_and_say_what_they_should(promtool: Path) -> None:
    run(promtool, "check", "rules", RULES.name)
    assert "SUCCESS" in run(promtool, "test", "rules", "hoaflow.rules.test.yml")
    run(promtool, "check", "config", "--syntax-only", "prometheus.yml")


def test_every_rule_is_tested() -> None:
    tests = (PROMETHEUS / "hoaflow.rules.test.yml").read_text()
    for alert in re.findall(r"- alert: (\w+)", RULES.read_text()):
        assert f'alertname="{alert}"' in tests, f"{alert} fires in no test"


def test_rules_and_dashboard_ask_for_what_there_is() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    assert len(queries) > 20
    for text in (*queries, RULES.read_text()):
        unknown = {name for name in METRIC.findall(text) if name not in names()}
        assert not unknown, f"{unknown} in: {text}"


def test_the_dashboards_queries_can_be_read(promtool: Path, tmp_path: Path) -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    rules = tmp_path / "dashboard.yml"
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    recorded = [
        {"record": f"query:{number}", "expr": query.replace("$__rate_interval", "1m")}
        for number, query in enumerate(queries)
    ]
    rules.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": recorded}]}))
    run(promtool, "check", "rules", str(rules))
