import logging

import pytest
from torch import nn

from recsys_mtl.config import ConfigError
from recsys_mtl.training.plan_record import recorded_plan, tell_changes
from recsys_mtl.training.sharding import check_nodes
from recsys_mtl.training.sharding_rules import ShardingConfig


def test_an_unsharded_model_has_no_plan() -> None:
    assert recorded_plan(nn.Linear(1, 1)) == {}


def test_tables_that_go_on_in_another_way_are_named(caplog: pytest.LogCaptureFixture) -> None:
    before = {"user": {"sharding": "table_wise", "parts": []}, "item": {"sharding": "row_wise", "parts": []}}
    tell_changes(before, before)
    tell_changes({}, before)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        tell_changes(before, before | {"user": {"sharding": "data_parallel", "parts": []}})
    assert "user from table_wise to data_parallel" in caplog.text
    assert "item" not in caplog.text


def test_machines_have_as_many_workers_as_the_plan_thinks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    check_nodes(ShardingConfig(), 16)
    check_nodes(ShardingConfig(workers_per_node=4), 16)
    check_nodes(ShardingConfig(workers_per_node=8), 4)
    with pytest.raises(ConfigError) as caught:
        check_nodes(ShardingConfig(workers_per_node=8), 16)
    assert caught.value.problems == ("cluster.sharding.workers_per_node: is 8, but this machine has 4 workers",)
