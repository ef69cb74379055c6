from dataclasses import replace

import pytest

from recsys_mtl.config import ConfigError, validate
from recsys_mtl.training.optim import SparseConfig
from recsys_mtl.training.sharding_rules import ShardingConfig, Site, TableFacts, attempts, settled

USER, ITEM = TableFacts("user", "pooled", 1000, 16), TableFacts("item", "events", 600, 16)
NARROW = TableFacts("hour", "pooled", 26, 4)
TABLES = [USER, ITEM, NARROW]


def site(kind: str = "rowwise_adagrad", *, workers: int = 4, device: str = "cpu", budget: float = 1e9) -> Site:
    return Site(workers, device, workers, 1, budget, 1.0, validate(SparseConfig, {"kind": kind}))


def config(default: str = "auto", **tables: str) -> ShardingConfig:
    return validate(ShardingConfig, {"default": default, "tables": tables})


def refusals(sharding: ShardingConfig, where: Site) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        settled(TABLES, sharding, where)
    return caught.value.problems


def test_what_the_backends_can_do() -> None:
    columns = ["table_wise", "column_wise", "table_column_wise"]
    assert site().possible(USER) == ["data_parallel", *columns]
    assert site().possible(ITEM) == ["table_wise", "column_wise", "row_wise"]
    gpu = site(device="cuda")
    assert gpu.possible(USER) == ["data_parallel", *columns, "row_wise", "table_row_wise", "grid_shard"]


def test_what_is_not_possible_is_refused_with_table_backend_and_what_is() -> None:
    problems = refusals(config(user="row_wise", item="data_parallel", shop="auto"), site("sgd"))
    assert problems == (
        "cluster.sharding.tables.shop: no such table; there are user, item, hour",
        "cluster.sharding.tables.user: row_wise is not possible on cpu for tables that no sequence reads; "
        "possible are data_parallel, table_wise, column_wise, table_column_wise",
        "cluster.sharding.tables.item: data_parallel is not possible on cpu for tables that a sequence reads; "
        "possible are table_wise, column_wise, row_wise",
    )
    assert settled(TABLES, config(user="row_wise"), site(device="cuda"))["user"] == "row_wise"


def test_a_refused_default_names_its_tables() -> None:
    (problem,) = refusals(config("row_wise"), site())
    assert problem.startswith("cluster.sharding.default: row_wise is not possible on cpu for tables that no sequence")
    assert problem.endswith("(tables user, hour)")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("way", ["column_wise", "table_column_wise"])
def test_columns_are_not_cut_where_each_part_would_have_its_own_moment(device: str, way: str) -> None:
    (problem,) = refusals(config(user=way), site(device=device))
    assert "does not go with optim.sparse.kind=rowwise_adagrad" in problem
    assert problem.endswith("Use adagrad or sgd")
    assert settled(TABLES, config(user=way), site("adagrad", device=device))["user"] == way


def test_narrow_tables_are_not_cut() -> None:
    (problem,) = refusals(config(hour="column_wise"), site("sgd"))
    assert problem == "cluster.sharding.tables.hour: column_wise needs a width that is a multiple of 8; it is 4"


@pytest.mark.parametrize(("workers", "parts"), [(1, 1), (2, 2), (3, 2), (4, 4), (64, 4)])
def test_columns_are_cut_into_equal_parts_of_whole_words(workers: int, parts: int) -> None:
    assert site(workers=workers).parts(USER, "column_wise") == parts
    assert site(workers=workers).parts(USER, "row_wise") == 1


def test_workers_fill_nodes() -> None:
    (problem,) = refusals(config(), replace(site(workers=6), node=4))
    assert problem == "cluster.sharding.workers_per_node: 6 workers do not fill nodes of 4"


def ways(where: Site, sharding: ShardingConfig | None = None) -> list[dict[str, str]]:
    return list(attempts(TABLES, settled(TABLES, sharding or config(), where), where))


def test_auto_keeps_tables_whole_and_then_splits_the_largest() -> None:
    whole = {"user": "table_wise", "item": "table_wise", "hour": "table_wise"}
    user, both = whole | {"user": "column_wise"}, whole | {"user": "column_wise", "item": "row_wise"}
    assert ways(site("sgd")) == [whole, user, both]
    assert ways(site("sgd", budget=50_000)) == [user, both], "user has 64,000 bytes, and item 38,400"
    assert ways(site("adagrad", budget=50_000)) == [both]


def test_auto_never_gives_up_exactness() -> None:
    whole = {"user": "table_wise", "item": "table_wise", "hour": "table_wise"}
    assert ways(site()) == [whole, whole | {"item": "row_wise"}]


def test_auto_leaves_alone_what_is_settled() -> None:
    found = ways(site("sgd", budget=10), config(user="table_wise", item="column_wise"))
    assert found == [{"user": "table_wise", "item": "column_wise", "hour": "table_wise"}]


def test_auto_on_gpus_keeps_pooled_tables_on_one_machine_if_it_can() -> None:
    two_nodes = replace(site(device="cuda", budget=45_000), node=2)
    first, *_, last = ways(two_nodes)
    assert (first["user"], first["item"]) == ("table_row_wise", "table_wise")
    assert (last["user"], last["item"]) == ("row_wise", "row_wise")
    assert ways(site(device="cuda", budget=40_000))[0]["user"] == "row_wise"


def test_unknown_ways_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"tables\.user: input should be 'auto', 'data_parallel'"):
        config(user="by_hand")
