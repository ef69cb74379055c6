from pathlib import Path

import pytest

from tests import builders


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The builders' data set; tests that change it make a copy."""
    path = tmp_path_factory.mktemp("prepared") / "data"
    builders.prepared(path)
    return path
