"""Data sets in an object store: whole or not there, like those on a disk."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from recsys_mtl.config import ConfigError
from recsys_mtl.data.dataset import write_dataset
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.raw import RawData
from recsys_mtl.data.shards import read, row_groups
from recsys_mtl.storage import locate
from tests import builders
from tests.s3 import ObjectStore


def files(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def test_a_data_set_is_the_same_as_on_a_disk(store: ObjectStore, data: Path, tmp_path: Path) -> None:
    seen: Counter[str] = Counter()
    out = f"{store.address}/data"
    write_dataset(builders.raw_data(), out, progress=lambda stage, done: seen.update({stage: done}))
    locate(out).download(tmp_path / "copy")
    assert files(tmp_path / "copy") == files(data)
    assert seen["upload"] >= sum(map(len, files(data).values())) / 1024
    assert Encoder.load(out).spec == Encoder.load(data).spec
    remote, local = row_groups(out, "valid"), row_groups(data, "valid")
    assert [group.path.name for group in remote] == [group.path.name for group in local]
    columns = ["user", "tags", "quality"]
    assert [read(group, columns) for group in remote] == [read(group, columns) for group in local]


def test_the_specification_goes_first_and_comes_last(store: ObjectStore) -> None:
    out = f"{store.address}/data"
    write_dataset(builders.raw_data(40), out)
    store.requests.clear()
    write_dataset(builders.raw_data(60, seed=1), out)
    spec, others = f"{store.bucket}/data/spec.yaml", f"{store.bucket}/data/train"
    touched = [request for request in store.requests if request.split()[0] in {"PUT", "POST", "DELETE"}]
    changes = [request for request in touched if spec in request or others in request or "delete" in request]
    assert changes[0] == f"DELETE /{spec}"
    assert spec in changes[-1]
    assert "data/_unfinished" not in store.names()


def test_nothing_is_left_of_what_fails_and_what_was_there_stays(store: ObjectStore) -> None:
    out = f"{store.address}/data"
    spec = write_dataset(builders.raw_data(40), out)
    before = store.names()
    with pytest.raises(ConfigError, match="no space"):
        write_dataset(failing(ConfigError(["no space"])), out)
    assert store.names() == before
    assert Encoder.load(out).spec == spec


def test_an_upload_that_is_broken_off_leaves_nothing(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    out = locate(f"{store.address}/data")
    write_dataset(builders.raw_data(40), out)
    upload = type(out).upload

    def interrupted(self: object, file: Path) -> None:
        if file.name == "stats.json":
            raise KeyboardInterrupt
        upload(self, file)  # type: ignore[arg-type]

    monkeypatch.setattr(type(out), "upload", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(builders.raw_data(60), out)
    assert store.names() == []


def test_what_a_killed_process_left_is_replaced(store: ObjectStore) -> None:
    out = locate(f"{store.address}/data")
    for name in ("_unfinished", "train", "stats.json"):
        (out / name).write_text("")
    spec = write_dataset(builders.raw_data(40), out)
    assert Encoder.load(out).spec == spec


@pytest.mark.parametrize("name", ["thesis.txt", "train", "spec.yaml"])
def test_other_places_are_left_alone(store: ObjectStore, name: str) -> None:
    out = locate(f"{store.address}/data")
    (out / name).write_text("precious")
    with pytest.raises(ConfigError, match=rf"^{out}: exists and is not a prepared data set"):
        write_dataset(failing(AssertionError("too late")), out)
    assert (out / name).read_text() == "precious"


def test_a_bucket_that_is_not_there_is_found_out_first(store: ObjectStore) -> None:
    del store
    with pytest.raises(ConfigError, match=r"^s3://other-bucket/data.*: there is no (such )?bucket"):
        write_dataset(failing(AssertionError("too late")), "s3://other-bucket/data")


def test_a_store_that_vanishes_is_named_by_its_reader(store: ObjectStore) -> None:
    out = f"{store.address}/data"
    write_dataset(builders.raw_data(40), out)
    (group,) = row_groups(out, "test")
    store.stop()
    with pytest.raises(ConfigError, match=rf"^{out}/test/part-00000.parquet: row group 0 .*: nobody answers"):
        read(group, ["user"])


def test_a_row_group_is_read_in_few_requests(store: ObjectStore) -> None:
    out = f"{store.address}/data"
    write_dataset(builders.raw_data(40), out)
    (group,) = row_groups(out, "train")
    store.requests.clear()
    assert read(group, ["user", "item", "tags", "quality", "hour"]).num_rows == 40
    assert Counter(request.split()[0] for request in store.requests) == {"HEAD": 1, "GET": 1}


def failing(error: BaseException) -> RawData:
    """Raw data whose validation split cannot be read."""
    whole = builders.raw_data(40)

    def broken() -> Iterator[pa.Table]:
        raise error
        yield

    return RawData(whole.schema, {**whole.splits, "valid": broken})
