"""The metrics that there are: those of the service by its own account, and those of kube-state-metrics that we use."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.registry import Collector

from serving.app import create_app
from serving.keys import new_key
from serving.settings import Settings
from serving.supervisor import Counts

Labels = dict[str, set[str]]
TARGET = {"namespace", "service", "pod", "job", "instance", "endpoint", "container"}
"""Labels that Prometheus' operator adds to whatever a ServiceMonitor finds."""
STATE: Labels = {
    "kube_job_failed": {"namespace", "job_name", "condition"},
    "kube_job_status_start_time": {"namespace", "job_name"},
    "kube_cronjob_created": {"namespace", "cronjob"},
    "kube_cronjob_status_last_successful_time": {"namespace", "cronjob"},
}
"""https://github.com/kubernetes/kube-state-metrics/tree/main/docs/metrics/workload"""
SAMPLES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def known(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Labels:
    """Return the labels of every sample of a service with all its parts."""
    settings = Settings(model="models:/m@champion", api_keys=new_key("k", ["rank"])[1].line, store="redis://x:1/0")
    app = create_app(settings)
    app.build_middleware_stack()  # makes the gate, which counts by key
    service = app.state.service
    monkeypatch.setattr("prometheus_client.values.ValueClass", object)  # which the supervisor's counts replace
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
    supervisor = Counts(folder)
    ours = [supervisor.workers, supervisor.restarts, *service.metrics.collected._collector_to_names]
    return {name: labels | TARGET for collector in ours for name, labels in samples(collector)} | STATE


def samples(collector: Collector) -> Iterator[tuple[str, set[str]]]:
    """Name the samples of a collector, and their labels."""
    if isinstance(collector, Counter | Gauge | Histogram):
        families = [(family, collector._labelnames) for family in collector.describe()]
    else:
        families = [(family, getattr(family, "_labelnames", ())) for family in collector.collect()]
    for family, labels in families:
        for ending in SAMPLES.get(family.type, ()):
            yield f"{family.name}{ending}", set(labels) | ({"le"} if ending == "_bucket" else set())
