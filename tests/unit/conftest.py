"""What several tests share."""

import pytest

from recsys_mtl.tracking import TrackingConfig


@pytest.fixture(scope="session")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> TrackingConfig:
    """One SQLite store for all tests, because making its tables takes seconds; tests differ by experiment and names."""
    return TrackingConfig(uri=f"sqlite:///{tmp_path_factory.mktemp('tracking')}/mlflow.db")
