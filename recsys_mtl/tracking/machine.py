"""What the machine of a run is doing: the values that MLflow's pages show as system metrics."""

from contextlib import suppress
from typing import Any

PREFIX = "system/"
"""By which MLflow's pages tell these metrics from a model's."""


class Machine:
    """Processors, memory, network and GPUs of the machine that asks, measured by MLflow's own monitors.

    MLflow's thread would count samples of its own and drop them while the server is away. A run that logs these values
    itself has them at its global steps, and keeps them like all others.
    """

    def __init__(self) -> None:
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

        self._monitors: list[Any] = [CPUMonitor(), NetworkMonitor()]  # type: ignore[no-untyped-call]
        with suppress(ImportError, RuntimeError):  # the driver's library is not installed; there is no GPU
            self._monitors.append(GPUMonitor())  # type: ignore[no-untyped-call]
        self.sample()  # processors count from the sample before

    def sample(self) -> dict[str, float]:
        """Measure, since the last sample where a value is a rate."""
        found: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            found |= {PREFIX + name: value for name, value in monitor.aggregate_metrics().items()}
            monitor.clear_metrics()
        return found
