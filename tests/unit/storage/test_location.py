"""Disks and object stores behave alike."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from recsys_mtl.config import ConfigError
from recsys_mtl.storage import Location, absolute, locate
from tests.s3 import ObjectStore


@pytest.fixture(params=["disk", "file://", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    if request.param == "s3":
        return locate(f"{request.getfixturevalue('store').address}/a/b")
    return locate(tmp_path / "a" / "b" if request.param == "disk" else f"file://{tmp_path}/a/b")


def test_what_is_written_is_read_and_whole(place: Location) -> None:
    file = place / "sub" / "text.txt"
    assert not file.exists()
    file.write_text("größer")
    file.write_text("größer still")
    assert file.exists()
    assert (file.read_text(), file.read_bytes()) == ("größer still", "größer still".encode())
    assert [child.name for child in (place / "sub").children()] == ["text.txt"], "no draft is left"
    with file.open() as source:
        source.seek(8)
        assert source.read(6) == b" still"


def test_children_are_listed_by_name_and_pattern(place: Location) -> None:
    assert place.children() == []
    for name in ("part-10.x", "part-9.x", "other", "sub/deep.x"):
        file = place
        for part in name.split("/"):
            file /= part
        file.write_text(name)
    assert [child.name for child in place.children()] == ["other", "part-10.x", "part-9.x", "sub"]
    assert [child.read_text() for child in place.children("*.x")] == ["part-10.x", "part-9.x"]
    assert [child.is_directory() for child in place.children()] == [False, False, False, True]
    assert place.is_directory()


def test_files_and_trees_are_removed(place: Location) -> None:
    for name in ("one", "two"):
        (place / "sub" / name).write_text(name)
    (place / "stays").write_text("")
    (place / "sub" / "one").remove()
    assert [child.name for child in (place / "sub").children()] == ["two"]
    (place / "sub").remove()
    (place / "sub").remove()
    assert [child.name for child in place.children()] == ["stays"]


def test_trees_are_copied_from_and_to_disks(place: Location, tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(os.urandom(100_000))
    (place / "first").write_text("")
    (place / "file").upload(source)
    (place / "sub" / "text").write_text("text")
    place.download(tmp_path / "copy")
    assert (tmp_path / "copy" / "file").read_bytes() == source.read_bytes()
    assert (tmp_path / "copy" / "sub" / "text").read_text() == "text"


def test_a_place_is_called_as_the_user_called_it(place: Location) -> None:
    assert str(place / "x" / "y") == f"{place}/x/y"
    assert (place / "x").name == "x"
    assert locate(place) is place
    assert locate(str(place)) == locate(str(place)) != place / "x"
    assert pickle.loads(pickle.dumps(place)) == place


def test_fsspec_sees_the_same_files(place: Location) -> None:
    (place / "text").write_text("text")
    files = place.fsspec()
    assert files.cat((place / "text").path) == b"text"
    with files.open((place / "more").path, "wb") as file:
        file.write(b"more")
    assert (place / "more").read_text() == "more"


def test_what_is_not_there_is_named(place: Location) -> None:
    place.children()
    with pytest.raises(ConfigError) as caught:
        (place / "none").read_text()
    assert str(caught.value) == f"{place}/none: No such file or directory"


def test_paths_become_absolute_and_addresses_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("data/x") == absolute(Path("data/x")) == str(tmp_path / "data" / "x")
    assert absolute("s3://bucket/x?region=eu-west-1") == "s3://bucket/x?region=eu-west-1"
    assert str(locate("data") / "x") == "data/x"
    assert locate("data").local == Path("data")


def test_a_local_file_that_cannot_be_written_is_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = locate(tmp_path / "file")
    file.write_text("before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match=r"file: No space left on device$"):
        file.write_text("after")
    assert [child.read_text() for child in locate(tmp_path).children()] == ["before"]


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("s3://", "s3://: the name of a bucket is missing; expected a path, s3://"),
        ("ftp://host/x", "ftp://host/x: .*; expected a path, s3://"),
        ("s3://key:secret@bucket/x", r"s3://\*\*\*@\.\.\.: no passwords in addresses"),
    ],
)
def test_addresses_of_no_store_are_refused(address: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=f"^{problem}") as caught:
        locate(address)
    assert "secret" not in str(caught.value)


ACTIONS: dict[str, Callable[[Location], object]] = {
    "read": lambda place: (place / "x").read_text(),
    "write": lambda place: (place / "x").write_text("x"),
    "list": lambda place: place.children(),
    "ask": lambda place: place.require_bucket(),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_a_bucket_that_is_not_there_is_named(store: ObjectStore, action: str) -> None:
    del store
    with pytest.raises(ConfigError, match=r"^s3://other-bucket/a(/x)?: there is no (such )?bucket"):
        ACTIONS[action](locate("s3://other-bucket/a"))


@pytest.mark.parametrize("action", ACTIONS)
def test_refused_credentials_say_where_they_come_from(store: ObjectStore, action: str) -> None:
    store.admit_after(0)
    try:
        with pytest.raises(ConfigError, match=rf"^{store.address}.*AWS_ACCESS_KEY_ID"):
            ACTIONS[action](locate(store.address + "/a"))
    finally:
        store.admit_after(float("inf"))


def test_an_overloaded_store_is_asked_again(store: ObjectStore) -> None:
    place = locate(store.address)
    (place / "x").write_text("x")
    store.busy_for(2)
    assert (place / "x").read_text() == "x"


def test_nobody_answers(store: ObjectStore) -> None:
    place = locate(store.address)
    store.stop()
    with pytest.raises(ConfigError, match=rf"^{store.address}/x: nobody answers"):
        (place / "x").read_text()


def test_the_endpoint_of_s3_alone_goes_first(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", store.endpoint + "/")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    (locate(store.address) / "x").write_text("x")
    assert store.names() == ["x"]


def test_an_address_may_carry_options(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    host = store.endpoint.removeprefix("http://")
    place = locate(f"{store.address}/a?scheme=http&endpoint_override={host}")
    (place / "x").write_text("x")
    assert str(place / "x") == f"{store.address}/a/x?scheme=http&endpoint_override={host}"
    assert locate(str(place / "x")).read_text() == "x"
