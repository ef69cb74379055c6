"""Alerts and dashboard: about metrics that there are, with a page in the runbook, and they fire when they are to."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.chart import charts
from tests.chart.charts import VALUES, Manifest
from tests.chart.metric_names import Labels, known

RUNBOOK = charts.ROOT / "docs" / "kubernetes.md"
DASHBOARD = json.loads((charts.CHART / "dashboards" / "serving.json").read_text())
FUNCTIONS = {
    "sum",
    "max",
    "by",
    "on",
    "and",
    "or",
    "rate",
    "increase",
    "histogram_quantile",
    "absent",
    "time",
    "vector",
}
SELECTOR = re.compile(r"\b([a-z]+_\w+)\{([^}]*)\}")
GROUPING = re.compile(r"\b(?:by|on) \(([^)]*)\)")
MATCHER = re.compile(r'(\w+)(?:=~|!~|!=|=)"')


def rules(case: str) -> list[Manifest]:
    """Return the alerts of a case."""
    (manifest,) = charts.of_kind(charts.rendered(*VALUES[case]), "PrometheusRule")
    return [rule for group in manifest["spec"]["groups"] for rule in group["rules"]]


def panels() -> Iterator[tuple[str, str]]:
    """Return the dashboard's queries, with the panel's title."""
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labels]:
    with pytest.MonkeyPatch.context() as patch:
        yield known(tmp_path_factory.mktemp("metrics"), patch)


def check(query: str, metrics: Labels) -> None:
    """Find names and labels in a query that no metric has."""
    found = {name: set(MATCHER.findall(matchers)) for name, matchers in SELECTOR.findall(query)}
    assert found.keys() <= metrics.keys(), query
    assert all(labels <= metrics[name] for name, labels in found.items()), query
    grouped = {label.strip() for labels in GROUPING.findall(query) for label in labels.split(",")}
    assert grouped <= set().union(*(metrics[name] for name in found)), query
    rest = GROUPING.sub("", re.sub(r"\{[^}]*\}|\[[^]]*\]", "", query))
    assert set(re.findall(r"[a-z]\w+", rest)) <= FUNCTIONS | found.keys(), query


def test_alerts_ask_for_metrics_that_there_are(metrics: Labels) -> None:
    for rule in rules("everything"):
        check(rule["expr"], metrics)


def test_panels_ask_for_metrics_that_there_are(metrics: Labels) -> None:
    for _, query in panels():
        check(query, metrics)


def test_legends_name_labels_that_a_query_keeps() -> None:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            kept = {name.strip() for names in GROUPING.findall(target["expr"]) for name in names.split(",")}
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept, panel["title"]


def test_what_no_metric_has_would_be_found(metrics: Labels) -> None:
    for query in ('sum(rate(recsys_request_total{job="x"}[5m]))', 'max(recsys_workers{route="x"})',
                  'sum by (task) (recsys_workers{job="x"})', 'average(recsys_workers{job="x"})'):  # fmt: skip
        with pytest.raises(AssertionError):
            check(query, metrics)


def test_the_dashboard_has_panels_side_by_side_and_is_what_is_deployed() -> None:
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [(place["x"] + x, place["y"] + y) for place in places for x in range(place["w"]) for y in range(place["h"])]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)
    config = charts.one(charts.rendered(*VALUES["everything"]), "ConfigMap", "dashboard")
    assert json.loads(config["data"]["recsys-mtl.json"]) == DASHBOARD
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_every_alert_is_in_the_runbook_and_has_what_a_receiver_needs() -> None:
    headings = re.findall(r"^#+ (RecsysMtl\w+)$", RUNBOOK.read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(rule["alert"] for rule in rules("everything"))
    for rule in rules("everything"):
        assert rule["labels"] == {"severity": "warning", "namespace": charts.NAMESPACE}
        assert rule["annotations"]["runbook"] == f"docs/kubernetes.md#{rule['alert'].lower()}"
        assert rule["annotations"]["summary"]


def test_alerts_are_about_what_is_deployed() -> None:
    assert {rule["alert"] for rule in rules("training-only")} == {"RecsysMtlDailyRunFailed", "RecsysMtlDailyRunMissing"}


@pytest.mark.parametrize("command", ["check", "test"])
def test_prometheus_takes_the_alerts_and_they_fire_when_they_are_to(command: str, tmp_path: Path) -> None:
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("there is no promtool here (Debian's package prometheus has one)")
    (manifest,) = charts.of_kind(charts.rendered(*VALUES["aws-s3"]), "PrometheusRule")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(manifest["spec"]))
    tests = tmp_path / "alerts.yaml"
    shutil.copy(Path(__file__).parent / "alerts.yaml", tests)
    file = {"check": tmp_path / "rules.yaml", "test": tests}[command]
    done = subprocess.run([promtool, command, "rules", file], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_seen_firing_and_silent() -> None:
    """The scenarios that promtool plays know each alert both ways."""
    scenarios = yaml.safe_load((Path(__file__).parent / "alerts.yaml").read_text())["tests"]
    expected = [one for scenario in scenarios for one in scenario["alert_rule_test"]]
    for fires in (True, False):
        names = {one["alertname"] for one in expected if bool(one.get("exp_alerts")) is fires}
        assert names == {rule["alert"] for rule in rules("everything")}
