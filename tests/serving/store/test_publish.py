import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from recsys_mtl.config import ConfigError
from recsys_mtl.data.newest import FEATURES
from recsys_mtl.storage import locate
from serving.run import run
from serving.settings import read_settings
from serving.store.address import read_address
from serving.store.desk import open_store
from serving.store.publication import FILE, read_published
from tests.redis_server import RedisServer
from tests.s3 import object_store
from tests.serving.conftest import Start
from tests.serving.store.conftest import publish, served
from tests.serving.store.test_completion import bare, full, score


def command(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["publish-features", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


def contents(address: str, redis: RedisServer) -> dict[str, str]:
    """Everything that a store holds, hashed."""
    if address.startswith("parquet:"):
        place = Path(address.removeprefix("parquet:"))
        files = {path.name: path.read_bytes() for path in place.iterdir()} if place.exists() else {}
        return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return {key.decode(): hashlib.sha256(redis.client.dump(key) or b"").hexdigest() for key in redis.client.scan_iter()}


def test_the_command_says_what_it_publishes(data: Path, address: str) -> None:
    output = command("--data", data, "--to", address)
    assert "users: 40 rows by user, 4 features\n" in output
    assert "items: 60 rows by video, 4 features\n" in output
    assert f"published to {address} in " in output


def test_publishing_again_changes_nothing(data: Path, address: str, redis: RedisServer) -> None:
    command("--data", data, "--to", address)
    before = contents(address, redis)
    assert "has exactly these rows already" in command("--data", data, "--to", address)
    assert contents(address, redis) == before


def test_a_dry_run_writes_nothing(data: Path, address: str, redis: RedisServer) -> None:
    output = command("--data", data, "--to", address, "--dry-run")
    assert "users: 40 rows" in output
    assert "nothing was written" in output
    assert contents(address, redis) == {}


def test_a_publication_takes_the_place_of_the_one_before(
    data: Path, address: str, redis: RedisServer, tmp_path: Path, start: Start
) -> None:
    publish(data, address)
    users = pq.read_table(data / FEATURES / "users.parquet").slice(0, 10)
    pq.write_table(users, tmp_path / "users.parquet")
    before = contents(address, redis)
    publish(data, address, users=str(tmp_path / "users.parquet"))
    assert not {key for key in contents(address, redis) if ":g:" in key or key.endswith("parquet")} & set(before)
    known, forgotten = users["user"][3].as_py(), 99
    forgotten = next(user for user in range(40) if user not in users["user"].to_pylist())
    with served(start, address) as client, start() as without:
        assert score(client, bare(known)).equal(score(without, full(data, known)))
        expected = full(data, forgotten)
        expected["user"] = {"user": forgotten}
        assert score(client, bare(forgotten)).equal(score(without, expected))


def test_an_update_leaves_all_other_keys(data: Path, address: str, tmp_path: Path, start: Start) -> None:
    publish(data, address)
    items = pq.read_table(data / FEATURES / "items.parquet")
    changed = items.filter(pa.compute.is_in(items["video"], pa.array([5, 22])))
    changed = changed.set_column(changed.column_names.index("author"), "author", pa.array([1, 1]))
    new = pa.table({"video": [777], "author": [3], "tags": [["a"]], "duration": [2.0], "quality": [0.5]})
    pq.write_table(pa.concat_tables([changed, new.cast(changed.schema)]), tmp_path / "items.parquet")
    publish(data, address, items=str(tmp_path / "items.parquet"), update=True)
    body = full(data, videos=[5, 22, 47, 3])
    body["candidates"][0]["author"] = body["candidates"][1]["author"] = 1
    body["candidates"].append({"item_id": 777, "author": 3, "tags": ["a"], "duration": 2.0, "quality": 0.5})
    with served(start, address) as client, start() as without:
        assert score(client, bare(videos=[5, 22, 47, 3, 777])).equal(score(without, body))
    publish(data, address)  # what was updated is not what the data set has
    with served(start, address) as client, start() as without:
        assert score(client, bare()).equal(score(without, full(data)))


def test_an_update_needs_the_columns_that_are_published(data: Path, address: str, tmp_path: Path) -> None:
    publish(data, address)
    items = pq.read_table(data / FEATURES / "items.parquet")
    pq.write_table(items.drop_columns(["tags"]), tmp_path / "items.parquet")
    output = command("--data", data, "--to", address, "--items", tmp_path / "items.parquet", "--update", code=2)
    assert "--update: other columns are published" in output


def test_data_sets_of_one_redis_are_apart(data: Path, redis: RedisServer, start: Start) -> None:
    redis.client.flushall()
    publish(data, f"{redis.url}?name=one")
    publish(data, f"{redis.url}?name=one.more")
    with served(start, f"{redis.url}?name=other") as client, start() as without:
        assert score(client, bare()).equal(score(without, bare()))
    with served(start, f"{redis.url}?name=one") as client, start() as without:
        assert score(client, bare()).equal(score(without, full(data)))


def test_a_publisher_that_was_killed_is_tidied_up_after(data: Path, redis: RedisServer) -> None:
    redis.client.flushall()
    redis.client.set("recsys:default:v1:g:half-written:user:1", b"left")
    redis.client.set("recsys:default:v1:e:history:1", b"an event")
    redis.client.set("recsys:another:v1:g:1:user:1", b"of others")
    publish(data, redis.url)
    keys = {key.decode() for key in redis.client.scan_iter()}
    assert "recsys:default:v1:g:half-written:user:1" not in keys
    assert {"recsys:default:v1:e:history:1", "recsys:another:v1:g:1:user:1"} <= keys


def test_one_publishes_at_a_time(data: Path, redis: RedisServer) -> None:
    redis.client.flushall()
    with redis.client.lock("recsys:default:v1:publishing", timeout=60):
        assert "somebody else is publishing" in command("--data", data, "--to", redis.url, code=2)


def test_features_can_be_in_an_object_store(data: Path, start: Start) -> None:
    with object_store() as store:
        address = f"parquet:{store.address}/features"
        publish(data, address)
        publish(data, address, users=str(data / FEATURES / "users.parquet"))
        assert len(store.names("features/")) == 3
        with served(start, address) as client, start() as without:
            assert score(client, bare()).equal(score(without, full(data)))


def test_a_reader_gets_one_publication_while_another_takes_its_place(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "features"
    publish(data, f"parquet:{place}")
    old = json.loads((place / FILE).read_text())
    users = pq.read_table(data / FEATURES / "users.parquet").slice(0, 3)
    pq.write_table(users, tmp_path / "users.parquet")
    publish(data, f"parquet:{place}", users=str(tmp_path / "users.parquet"))
    new = (place / FILE).read_text()
    (place / FILE).write_text(json.dumps(old))  # as a reader may have found it just before
    with pytest.raises(ConfigError, match="No such file"):
        read_published(locate(place))

    from serving.store import publication

    found = publication.read_publication

    def read(at: object) -> object:
        answer = found(at)  # type: ignore[arg-type]
        (place / FILE).write_text(new)
        return answer

    monkeypatch.setattr(publication, "read_publication", read)
    assert read_published(locate(place))[1]["user"].num_rows == 3


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"city": ["a"]}, "needs columns: the key 'user' and some of city"),
        ({"user": [1]}, "needs columns: the key 'user' and some of city"),
        ({"user": [1], "age": ["old"]}, "age: 'old' is not a number (row 1)"),
        ({"user": [1], "history_item": [[1]], "history_author": [[1, 2]]}, "history_author: 2 events where"),
        ({"user": [[1]], "age": [1]}, "user: expected one value in each cell"),
    ],
)
def test_tables_that_a_model_could_not_read_are_refused(
    data: Path, tmp_path: Path, table: dict[str, object], problem: str
) -> None:
    pq.write_table(pa.table(table), tmp_path / "users.parquet")
    to = tmp_path / "features"
    output = command("--data", data, "--to", f"parquet:{to}", "--users", tmp_path / "users.parquet", code=2)
    assert f"{tmp_path / 'users.parquet'}: {problem}" in output
    assert not to.exists()


def test_a_data_set_without_features_says_what_to_do(data: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    for part in data.iterdir():
        if part.name != FEATURES:
            (old / part.name).symlink_to(part)
    output = command("--data", old, "--to", f"parquet:{tmp_path / 'features'}", code=2)
    assert "has no features/: prepare it again" in output


@pytest.mark.parametrize("address", ["", "features", "parquet:", "http://localhost", "redis://localhost?name=a:b"])
def test_addresses_that_are_none_are_refused(address: str) -> None:
    with pytest.raises(ConfigError):
        read_address(address)


def test_a_password_is_not_shown() -> None:
    assert str(read_address("redis://me:secret@host:1/2?name=x")) == "redis://me:***@host:1/2"
    with pytest.raises(ConfigError) as error:
        read_address("http://me:secret@host")
    assert "secret" not in str(error.value)


def test_a_redis_that_does_not_answer_is_an_error_of_the_user(data: Path) -> None:
    output = command("--data", data, "--to", "redis://me:secret@127.0.0.1:1/0", code=2)
    assert "redis://me:***@127.0.0.1:1/0: Error" in output
    assert "secret" not in output


def test_a_wrong_store_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="RECSYS_MTL_STORE: 'here' is no feature store; expected parquet:DIRECTORY"):
        read_settings(store="here")
    with pytest.raises(ConfigError, match="holds no published features"):
        open_store(f"parquet:{tmp_path}")


def test_a_server_does_not_start_without_its_store(
    bundle_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(model=str(bundle_path), port=0, workers=2, store=f"parquet:{tmp_path}") == 2
    assert (
        capsys.readouterr().err == f"store: {tmp_path} holds no published features; see `recsys-mtl publish-features`\n"
    )
