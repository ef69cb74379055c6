"""Records against all weights and outputs kept and averaged at the end."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from recsys_mtl.experts.direct import DirectConfig
from recsys_mtl.experts.mmoe import MMoEConfig
from recsys_mtl.experts.ple import PLEConfig
from recsys_mtl.health import GateRecord, Recorder, RowSample
from recsys_mtl.health.records import CHUNK_ROWS, ZERO
from recsys_mtl.layers import ExpertBank, Gate
from tests import dense

TASKS = ("click", "like")
IN = 4
NO_GRADIENTS = RowSample(limit=0, total=0)


def ple() -> nn.Module:
    torch.manual_seed(0)
    return PLEConfig(task_experts=1, shared_experts=2).build(IN, dense.events(*TASKS))


def batches() -> list[Tensor]:
    torch.manual_seed(1)
    return [3 * torch.randn(rows, 1, IN) for rows in (5, 1, 8)]


def recorder(model: nn.Module) -> Recorder:
    return Recorder(model, dense.events(*TASKS), NO_GRADIENTS)


def kept(model: nn.Module, inputs: list[Tensor], kind: type[nn.Module]) -> dict[str, Tensor]:
    """All outputs of every module of a kind, one batch after another."""
    seen: dict[str, list[Tensor]] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: seen.setdefault(name, []).append(output)

    handles = [m.register_forward_hook(keep(n)) for n, m in model.named_modules() if isinstance(m, kind)]
    with torch.no_grad():
        for x_B1R in inputs:
            model(x_B1R)
    for handle in handles:
        handle.remove()
    return {name: torch.cat(outputs) for name, outputs in seen.items()}


def kept_weights(model: nn.Module, inputs: list[Tensor]) -> dict[str, Tensor]:
    return kept(model, inputs, Gate)


def watched(model: nn.Module, inputs: list[Tensor]) -> Recorder:
    with recorder(model) as watching, torch.no_grad():
        for x_B1R in inputs:
            model(x_B1R)
    return watching


def recorded(model: nn.Module, inputs: list[Tensor]) -> dict[str, GateRecord]:
    return {gate.name: gate for gate in watched(model, inputs).record.gates}


def assert_same(record: GateRecord, weights_BTE: Tensor) -> None:
    assert record.rows == len(weights_BTE)
    close: Any = {"rtol": 1e-5, "atol": 1e-6}  # a batch is summed in single precision
    torch.testing.assert_close(record.mean_TE, weights_BTE.double().mean(0), **close)
    torch.testing.assert_close(record.std_TE, weights_BTE.double().std(0, correction=0), **close)
    firsts_TE = (weights_BTE == weights_BTE.amax(2, keepdim=True)).double().mean(0)
    torch.testing.assert_close(record.first_TE, firsts_TE, rtol=0, atol=1e-12)


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
        for part, other in zip(record.state(), theirs[name].state(), strict=True):
            part += other  # what a sum over workers does, in place
        assert_same(record, weights[name])


def test_the_size_of_a_record_does_not_depend_on_the_rows() -> None:
    few, many = recorded(ple(), batches()), recorded(ple(), [torch.randn(1000, 1, IN) for _ in range(5)])
    for name, record in many.items():
        sizes = [[tensor.shape for tensor in r.state()] for r in (few[name], record)]
        assert sizes[0] == sizes[1]
        assert record.rows == 5000


def test_a_gate_that_never_wavers_has_no_spread() -> None:
    model = MMoEConfig(num_experts=3).build(IN, dense.events(*TASKS))
    with torch.no_grad():
        model.gate.linear.weight_IKO.zero_()
    (record,) = recorded(model, batches()).values()
    torch.testing.assert_close(record.mean_TE, torch.full((2, 3), 1 / 3, dtype=torch.float64), rtol=1e-6, atol=0)
    torch.testing.assert_close(record.std_TE, torch.zeros(2, 3, dtype=torch.float64), rtol=0, atol=1e-3)


def test_recording_ends_with_the_context_even_after_an_error() -> None:
    model = ple()
    with pytest.raises(RuntimeError), recorder(model) as watching:
        model(torch.randn(5, 1, IN + 1))
    model(batches()[0])
    assert {gate.rows for gate in watching.record.gates} == {0}


def test_recording_changes_neither_outputs_nor_gradients() -> None:
    model, x_B1R = ple(), batches()[0]
    with recorder(model) as watching:
        output = model(x_B1R)
    assert torch.equal(output, model(x_B1R))
    gradients = torch.autograd.grad(output.sum(), list(model.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert not any(tensor.requires_grad for part in watching.record.parts for tensor in part.state())


def test_no_rows_is_not_a_number() -> None:
    record = watched(ple(), []).record
    assert all(gate.rows == 0 and gate.mean_TE.isnan().all() and gate.std_TE.isnan().all() for gate in record.gates)
    assert all(bank.mean_K.isnan().all() and bank.zero_ratio_K.isnan().all() for bank in record.banks)


def test_wrapped_models_have_the_names_of_plain_ones() -> None:
    class Wrapper(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

    names = [gate.name for gate in recorder(Wrapper(ple())).record.gates]
    assert names == ["levels.0.task_gate", "levels.0.shared_gate", "levels.1.task_gate"]


def test_a_model_without_experts_has_no_records() -> None:
    record = watched(DirectConfig().build(IN, dense.events(*TASKS)), batches()).record
    assert (record.banks, record.gates) == ((), ())


# Experts


@pytest.mark.parametrize("rows", [5, CHUNK_ROWS, 2 * CHUNK_ROWS + 1])
def test_experts_are_measured_over_rows_and_units(rows: int) -> None:
    model = ple()
    inputs = [*batches(), torch.randn(rows, 1, IN)]
    banks, outputs = watched(model, inputs).record.banks, kept(model, inputs, ExpertBank)
    assert [bank.name for bank in banks] == list(outputs)
    for bank in banks:
        h_KN = outputs[bank.name].double().flatten(1, 2).transpose(0, 1).flatten(1)
        assert len(bank.experts) == len(h_KN)
        torch.testing.assert_close(bank.mean_K, h_KN.mean(1), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(bank.std_K, h_KN.std(1, correction=0), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(bank.zero_ratio_K, (h_KN.abs() <= ZERO).double().mean(1), rtol=0, atol=1e-12)
        assert 0.1 < bank.zero_ratio_K.min() < bank.zero_ratio_K.max() < 0.9


def test_experts_are_named_in_the_order_of_their_groups() -> None:
    own, shared, *_ = watched(ple(), []).record.banks
    assert own.experts == ("click 0", "like 0")
    assert shared.experts == ("shared 0", "shared 1")


def test_expert_records_of_parts_add_up() -> None:
    model = ple()
    first, *rest = batches()
    whole, mine = watched(model, batches()).record, watched(model, [first]).record
    mine.merge(watched(model, rest).record)
    for part, all_of_it in zip(mine.parts, whole.parts, strict=True):
        for tensor, expected in zip(part.state(), all_of_it.state(), strict=True):
            torch.testing.assert_close(tensor, expected, rtol=1e-6, atol=1e-6)


# Which rows are sampled


@pytest.mark.parametrize(("limit", "total"), [(7, 100), (100, 100), (1, 100), (300, 100), (30, 31)])
def test_a_sample_is_the_same_for_any_number_of_workers_and_any_batch_size(limit: int, total: int) -> None:
    def places(shares: list[int], batch: int) -> list[int]:
        found = []
        for index, rows in enumerate(shares):
            first = sum(shares[:index])
            sample = RowSample(limit, total, first)
            for seen in range(0, rows, batch):
                here = sample.places(seen, min(batch, rows - seen), torch.device("cpu"))
                found += [first + seen + place for place in here.tolist()]
        return found

    alone = places([total], total)
    assert 0 < len(alone) <= limit
    assert len(alone) >= min(limit, total) / 2
    assert places([total], 9) == places([total // 3, 0, total - total // 3], 4) == alone


def test_a_sample_of_no_rows_is_empty() -> None:
    assert len(NO_GRADIENTS.places(0, 10, torch.device("cpu"))) == 0
