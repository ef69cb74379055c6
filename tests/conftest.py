"""What tests of every kind share."""

from collections.abc import Iterator

import pytest

from tests.s3 import ObjectStore, object_store


@pytest.fixture
def store() -> Iterator[ObjectStore]:
    """An object store with one empty bucket, for one test."""
    with object_store() as running:
        yield running
