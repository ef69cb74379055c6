"""What tests of every kind share."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.s3 import ObjectStore, object_store

settings.register_profile("untimed", deadline=None)  # a busy machine fails no test
settings.load_profile("untimed")


@pytest.fixture
def store() -> Iterator[ObjectStore]:
    """An object store with one empty bucket, for one test."""
    with object_store() as running:
        yield running
