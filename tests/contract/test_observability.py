"""Rules, dashboards and runbooks speak of metrics and labels that the code has, and of nothing else.

`just rules-test` lets promtool try the alerts; here every query is parsed and read.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import promql_parser
import pytest
import yaml

from odea_local.metrics import all_metrics
from support.lock import ROOT, SERVICES

FOLDER: Final = ROOT / "deploy/observability"
DASHBOARDS: Final = sorted(FOLDER.glob("dashboards/*.json"))
RULES: Final[list[dict[str, Any]]] = [
    rule for group in yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"] for rule in group["rules"]
]
ALERTS: Final = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED: Final = {rule["record"] for rule in RULES if "record" in rule}
OURS: Final = {series: set(metric.labels) for metric in all_metrics() for series in metric.series}
FOREIGN: Final = {
    "up": set[str](),
    "process_resident_memory_bytes": set[str](),
    "process_cpu_seconds_total": set[str](),
    "kube_job_status_failed": {"job_name", "namespace"},
    "certmanager_certificate_expiration_timestamp_seconds": {"name", "namespace"},
} | {name: set[str]() for name in RECORDED}
SCRAPED: Final = {"job", "instance", "le"}
"""Labels that Prometheus adds, and a histogram's own."""


def selectors(query: promql_parser.Expr) -> Iterator[tuple[str, set[str]]]:
    """Every series that a query reads, with the labels that it is asked for."""
    if isinstance(query, promql_parser.VectorSelector):
        yield str(query.name), {matcher.name for matcher in query.matchers.matchers}
    for part in ("expr", "lhs", "rhs", "param", "vector_selector"):
        if (inner := getattr(query, part, None)) is not None:
            yield from selectors(inner)
    for argument in getattr(query, "args", ()):
        yield from selectors(argument)


def grouped(query: promql_parser.Expr) -> Iterator[tuple[set[str], set[str]]]:
    """For every aggregation by labels: the labels, and the series below it."""
    if isinstance(query, promql_parser.AggregateExpr) and query.modifier is not None:
        yield set(query.modifier.labels), {name for name, _ in selectors(query.expr)}
    for part in ("expr", "lhs", "rhs"):
        if (inner := getattr(query, part, None)) is not None:
            yield from grouped(inner)
    for argument in getattr(query, "args", ()):
        yield from grouped(argument)


def queries() -> Iterator[tuple[str, str]]:
    for rule in RULES:
        yield rule.get("alert") or rule["record"], rule["expr"]
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']}", target["expr"].replace("$__rate_interval", "5m")


@pytest.mark.parametrize(("where", "query"), list(queries()))
def test_a_query_reads_what_there_is(where: str, query: str) -> None:
    parsed = promql_parser.parse(query)
    known = OURS | FOREIGN
    found = list(selectors(parsed))
    for name, labels in found:
        assert name in known, f"{where}: nobody tells {name}"
        assert labels <= known[name] | SCRAPED, f"{where}: {name} has no {labels - known[name]}"
    for labels, series in grouped(parsed):
        assert all(labels <= known[name] | SCRAPED for name in series), f"{where}: groups by what is not there"


def test_a_metric_that_is_not_there_is_noticed() -> None:
    names = {name for name, _ in selectors(promql_parser.parse('sum(rate(odea_nothing_total{a="b"}[5m])) / (up + 1)'))}
    assert names == {"odea_nothing_total", "up"}


def test_names_follow_the_conventions() -> None:
    """https://prometheus.io/docs/practices/naming/."""
    for metric in all_metrics():
        assert re.fullmatch(r"odea_[a-z0-9]+(_[a-z0-9]+)+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "Counter"), metric.name
        assert not re.search(r"_(ms|milliseconds|minutes|kb|mb)(_|$)", metric.name), "base units"
        assert not set(metric.labels) & {"key", "key_id", "tenant", "tenant_id", "account_id", "text", "le", "job"}
    names = [metric.name for metric in all_metrics()]
    assert len(names) == len(set(names))
    assert len(names) > 30


def test_every_alert_has_a_runbook_a_severity_and_a_case() -> None:
    page = (ROOT / "docs/operations/runbooks.md").read_text()
    anchors = {title.lower() for title in re.findall(r"^### (\w+)$", page, re.MULTILINE)}
    tried = {
        test["name"]
        for path in FOLDER.glob("rules*_test.yml")
        for test in yaml.safe_load(path.read_text())["tests"]
        if {bool(one["exp_alerts"]) for one in test["alert_rule_test"]} == {True, False}
    }
    assert tried == set(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["runbook_url"] == f"docs/operations/runbooks.md#{name.lower()}"
        assert name.lower() in anchors
    assert anchors == {name.lower() for name in ALERTS}, "a runbook without an alert"


def test_every_service_is_watched() -> None:
    watched = set(re.findall(r'label_replace\(vector\(0\), "job", "odea-(\w+)"', ALERTS["OdeaServiceDown"]["expr"]))
    assert watched == set(SERVICES)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_can_be_imported_anywhere(path: Path) -> None:
    board = json.loads(path.read_text())
    assert board["uid"] == f"odea-{path.stem}"
    assert "id" not in board
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    for panel in board["panels"]:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["targets"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
