"""The chart's values for Prometheus and Grafana."""

from pydantic import PositiveFloat, PositiveInt

from helm.parts import SecretKey
from recsys_mtl.config import Config


class ServiceMonitor(Config):
    """How Prometheus finds the ranking API."""

    enabled: bool
    interval: str
    labels: dict[str, str]
    """What your Prometheus selects monitors by."""
    token: SecretKey
    """An API key of scope ``metrics``, where the service asks for one."""


class Alerts(Config):
    """When somebody is to be told. ``docs/kubernetes.md`` says what each alert means."""

    enabled: bool
    labels: dict[str, str]
    """What your Prometheus selects rules by."""
    severity: str
    """Label of all alerts, for the routes of your Alertmanager."""
    errorRatio: PositiveFloat
    """Share of requests that end with a fault of the service."""
    p99Seconds: PositiveFloat
    staleMinutes: PositiveInt
    """For how long the registry may be away."""
    driftMinutes: PositiveInt
    """For how long a feature may look unlike the data that the model was tested on."""
    dailyHours: PositiveInt
    """Hours between two daily runs that succeed."""


class Dashboard(Config):
    """A Grafana dashboard, in a ConfigMap that Grafana's sidecar finds by its labels."""

    enabled: bool
    labels: dict[str, str]
    annotations: dict[str, str]


class Monitoring(Config):
    """Prometheus operator and Grafana."""

    serviceMonitor: ServiceMonitor
    alerts: Alerts
    dashboard: Dashboard
