"""Learning rates over a run, and optimisers by name."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchrec.optim import SGD, Adagrad, RowWiseAdagrad

from recsys_mtl.training.optim import DenseConfig, SparseConfig


def rates(total: int, **fields: object) -> list[float]:
    config = DenseConfig.model_validate(fields)
    return [config.factor(step, total) for step in range(total)]


def test_it_rises_then_falls_linearly() -> None:
    assert rates(40, warmup_steps=4, decay="linear", final=0.0)[:6] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 35 / 36])
    assert rates(40, warmup_steps=4, decay="linear", final=0.5)[-1] == pytest.approx(0.5 + 0.5 / 36)


def test_a_cosine_ends_at_its_share() -> None:
    factors = rates(1000, warmup_steps=0, decay="cosine", final=0.1)
    assert factors[0] == 1
    assert factors[500] == pytest.approx(0.55)
    assert factors[-1] == pytest.approx(0.1, abs=1e-4)


def test_without_decay_it_stays() -> None:
    assert rates(50, warmup_steps=2, decay="none") == [0.5] + [1.0] * 49


def test_a_short_run_warms_up_for_a_tenth_of_it() -> None:
    assert rates(20, warmup_steps=100, decay="none")[:3] == [0.5, 1, 1]


@given(st.integers(1, 300), st.integers(0, 200), st.sampled_from(["none", "linear", "cosine"]), st.floats(0, 1))
def test_it_is_a_share_that_never_falls_below_the_final_one(total: int, warmup: int, decay: str, final: float) -> None:
    factors = rates(total, warmup_steps=warmup, decay=decay, final=final)
    assert all(0 < factor <= 1 + 1e-12 or factor == pytest.approx(final) for factor in factors)
    after = factors[min(warmup, total // 10) :]
    assert all(one >= other - 1e-12 for one, other in pairwise(after))
    assert min(after) >= final - 1e-12


def test_the_schedule_drives_the_optimiser() -> None:
    parameter = torch.nn.Parameter(torch.ones(1))
    config = DenseConfig(lr=0.1, warmup_steps=2, decay="linear", final=0.0)
    optimizer = config.build([parameter])
    schedule = config.schedule(optimizer, 20)
    seen = []
    for _ in range(3):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert seen == pytest.approx([0.05, 0.1, 0.1])


@pytest.mark.parametrize(
    ("kind", "optimizer"), [("rowwise_adagrad", RowWiseAdagrad), ("adagrad", Adagrad), ("sgd", SGD)]
)
def test_sparse_optimisers_by_name(kind: str, optimizer: type) -> None:
    found, arguments = SparseConfig.model_validate({"kind": kind, "lr": 0.3}).optimizer
    assert found is optimizer
    assert arguments["lr"] == 0.3
    assert ("eps" in arguments) == (kind != "sgd")


def test_gates_learn_at_their_own_rate_through_warm_up_and_decay() -> None:
    rest, gate = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    config = DenseConfig(lr=0.1, gates=0.25, warmup_steps=2, decay="linear", final=0.0)
    optimizer = config.build([rest, gate], [gate])
    schedule = config.schedule(optimizer, 10)
    for _ in range(5):
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        assert rates[id(gate)] == pytest.approx(0.25 * rates[id(rest)])
        for parameter in (rest, gate):
            parameter.grad = torch.ones(3)
        optimizer.step()
        schedule.step()
    assert [group["params"] for group in config.build([rest]).param_groups] == [[rest]]
