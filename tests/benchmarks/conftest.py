"""A prepared data set and a runner that trains nothing."""

import pytest

from benchmarks.quality.plan import Data
from tests import builders


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    path = tmp_path_factory.mktemp("benchmarks") / "data"
    builders.prepared(path, rows=100)
    return Data.load(path)
