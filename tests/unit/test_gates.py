"""Gate records against all weights kept and averaged at the end."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from recsys_mtl.experts.direct import DirectConfig
from recsys_mtl.experts.mmoe import MMoEConfig
from recsys_mtl.experts.ple import PLEConfig
from recsys_mtl.gates import GateRecord, record_gates
from recsys_mtl.layers import Gate
from tests import dense

TASKS = ("click", "like")
IN = 4


def ple() -> nn.Module:
    torch.manual_seed(0)
    return PLEConfig(task_experts=1, shared_experts=2).build(IN, dense.events(*TASKS))


def batches() -> list[Tensor]:
    torch.manual_seed(1)
    return [3 * torch.randn(rows, 1, IN) for rows in (5, 1, 8)]


def kept_weights(model: nn.Module, inputs: list[Tensor]) -> dict[str, Tensor]:
    """Every weight of every gate, one batch after another."""
    seen: dict[str, list[Tensor]] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda _gate, _inputs, weights_BTE: seen.setdefault(name, []).append(weights_BTE)

    handles = [m.register_forward_hook(keep(n)) for n, m in model.named_modules() if isinstance(m, Gate)]
    with torch.no_grad():
        for x_B1R in inputs:
            model(x_B1R)
    for handle in handles:
        handle.remove()
    return {name: torch.cat(weights) for name, weights in seen.items()}


def recorded(model: nn.Module, inputs: list[Tensor]) -> dict[str, GateRecord]:
    with record_gates(model) as records, torch.no_grad():
        for x_B1R in inputs:
            model(x_B1R)
    return {record.name: record for record in records}


def assert_same(record: GateRecord, weights_BTE: Tensor) -> None:
    assert record.rows == len(weights_BTE)
    torch.testing.assert_close(record.mean_TE, weights_BTE.double().mean(0))
    torch.testing.assert_close(record.std_TE, weights_BTE.double().std(0, correction=0))


def test_mean_and_spread_are_those_of_all_rows() -> None:
    model = ple()
    records, weights = recorded(model, batches()), kept_weights(model, batches())
    assert list(records) == list(weights) == ["levels.0.task_gate", "levels.0.shared_gate", "levels.1.task_gate"]
    for name, record in records.items():
        assert_same(record, weights[name])
        assert record.std_TE.max() > 0.01


def test_axes_are_named() -> None:
    records = recorded(ple(), batches())
    task, shared = records["levels.0.task_gate"], records["levels.0.shared_gate"]
    assert task.readers == TASKS
    assert task.experts == (("click 0", "shared 0", "shared 1"), ("like 0", "shared 0", "shared 1"))
    assert shared.readers == ("shared",)
    assert shared.experts == (("click 0", "like 0", "shared 0", "shared 1"),)
    for record in records.values():
        assert record.mean_TE.shape == (len(record.readers), len(record.experts[0]))


def test_parts_of_the_rows_merge_into_the_whole() -> None:
    model = ple()
    first, *rest = batches()
    mine, theirs, weights = recorded(model, [first]), recorded(model, rest), kept_weights(model, batches())
    for name, record in mine.items():
        record.merge(theirs[name])
        assert_same(record, weights[name])


def test_states_of_workers_add_up() -> None:
    model = ple()
    first, *rest = batches()
    mine, theirs, weights = recorded(model, [first]), recorded(model, rest), kept_weights(model, batches())
    for name, record in mine.items():
        for part, other in zip(record.state().values(), theirs[name].state().values(), strict=True):
            part += other  # what a sum over workers does, in place
        assert_same(record, weights[name])


def test_the_size_of_a_record_does_not_depend_on_the_rows() -> None:
    few, many = recorded(ple(), batches()), recorded(ple(), [torch.randn(1000, 1, IN) for _ in range(5)])
    for name, record in many.items():
        sizes = [[tensor.shape for tensor in r.state().values()] for r in (few[name], record)]
        assert sizes[0] == sizes[1]
        assert record.rows == 5000


def test_a_gate_that_never_wavers_has_no_spread() -> None:
    model = MMoEConfig(num_experts=3).build(IN, dense.events(*TASKS))
    with torch.no_grad():
        model.gate.linear.weight_IKO.zero_()
    (record,) = recorded(model, batches()).values()
    torch.testing.assert_close(record.mean_TE, torch.full((2, 3), 1 / 3, dtype=torch.float64))
    torch.testing.assert_close(record.std_TE, torch.zeros(2, 3, dtype=torch.float64))


def test_recording_ends_with_the_context_even_after_an_error() -> None:
    model = ple()
    with pytest.raises(RuntimeError), record_gates(model) as records:
        model(torch.randn(5, 1, IN + 1))
    model(batches()[0])
    assert {record.rows for record in records} == {0}


def test_recording_changes_neither_outputs_nor_gradients() -> None:
    model, x_B1R = ple(), batches()[0]
    with record_gates(model) as records:
        watched = model(x_B1R)
    assert torch.equal(watched, model(x_B1R))
    gradients = torch.autograd.grad(watched.sum(), list(model.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert not any(tensor.requires_grad for record in records for tensor in record.state().values())


def test_no_rows_is_not_a_number() -> None:
    with record_gates(ple()) as records:
        pass
    assert all(record.rows == 0 and record.mean_TE.isnan().all() and record.std_TE.isnan().all() for record in records)


def test_wrapped_models_have_the_names_of_plain_ones() -> None:
    class Wrapper(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

    with record_gates(Wrapper(ple())) as records:
        assert [record.name for record in records] == [
            "levels.0.task_gate",
            "levels.0.shared_gate",
            "levels.1.task_gate",
        ]


def test_a_model_without_gates_has_no_records() -> None:
    assert recorded(DirectConfig().build(IN, dense.events(*TASKS)), batches()) == {}
