"""Measures and alarms of layers whose health is known."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from recsys_mtl.experts.home import HoMEConfig
from recsys_mtl.experts.mmoe import MMoE, MMoEConfig
from recsys_mtl.experts.ple import PLE, PLEConfig
from recsys_mtl.health import Health, HealthConfig, LayerHealth, Recorder, RowSample, alarms, measure
from recsys_mtl.health.measures import spearman
from recsys_mtl.health.report import charts, positive_rates, tables, tags
from recsys_mtl.layers import ExpertBank, Gate
from tests import dense

TASKS = ("click", "like", "share")
RATES = {"click": 0.4, "like": 0.02, "share": 0.001}
IN = 4
QUIET = HealthConfig(scale_ratio=1e6, zero_ratio=1, dead_weight=0, occupancy=1, own_mass=0)


def mmoe(num_experts: int = 3) -> MMoE:
    torch.manual_seed(0)
    return MMoEConfig(num_experts=num_experts).build(IN, dense.events(*TASKS))


def ple(**fields: Any) -> PLE:
    torch.manual_seed(0)
    return PLEConfig(num_levels=2, task_experts=1, shared_experts=2, **fields).build(IN, dense.events(*TASKS))


def inputs(rows: int = 50) -> Tensor:
    """Positive, so that a gate's weights can be set by the signs of its map."""
    return torch.rand(rows, 1, IN, generator=torch.Generator().manual_seed(1)) + 0.5


def health(model: nn.Module) -> Health:
    with Recorder(model, dense.events(*TASKS), RowSample(0, 0)) as recorder, torch.no_grad():
        model(inputs())
    return measure(recorder.record, RATES)


def draw_from(gate: Gate, choices: Mapping[str, tuple[str, ...]]) -> None:
    """Make readers draw from these experts only, in equal parts."""
    with torch.no_grad():
        gate.linear.weight_IKO.zero_()
        for row, (reader, experts) in enumerate(zip(gate.readers, gate.experts, strict=True)):
            for place, expert in enumerate(experts):
                if reader in choices and expert not in choices[reader]:
                    gate.linear.weight_IKO[:, row, place] = -50


def said(state: Health, config: HealthConfig) -> list[tuple[str, str]]:
    return [(alarm.kind, alarm.text) for alarm in alarms(state, config)]


def expert(layer: LayerHealth, name: str) -> Any:
    return next(expert for expert in layer.experts if expert.name == name)


def reader(layer: LayerHealth, name: str) -> Any:
    return next(reader for reader in layer.readers if reader.name == name)


# Collapse


def test_an_expert_of_zeros_is_found() -> None:
    model = mmoe()
    with torch.no_grad():
        last: Any = model.bank.rest.layers[0]
        last.weight_IKO[:, 1] = 0
        last.bias_KO[1] = -1  # ReLU makes zeros of it
    (layer,) = health(model).layers
    assert [round(e.zero_ratio, 1) == 1 for e in layer.experts] == [False, True, False]
    assert expert(layer, "expert 1").mean == expert(layer, "expert 1").sd == 0
    assert layer.scale_ratio == math.inf
    (zeros, scale) = said(health(model), HealthConfig())
    assert zeros == ("collapse", ": expert 'expert 1': 100.0% of its outputs are zero, more than 90%")
    assert scale[0] == "collapse"
    assert "infinitely many times as much as that of 'expert 1'" in scale[1]


def test_a_loud_expert_is_found() -> None:
    model = mmoe()
    with torch.no_grad():
        last: Any = model.bank.rest.layers[0]
        last.weight_IKO[:, 2] *= 40
        last.bias_KO[2] *= 40
    (layer,) = health(model).layers
    sds = [e.sd for e in layer.experts]
    assert layer.scale_ratio == pytest.approx(max(sds) / min(sds))
    ((kind, text),) = said(health(model), HealthConfig())
    assert kind == "collapse"
    assert "expert 'expert 2' varies" in text


def test_an_expert_that_no_gate_draws_from_is_dead() -> None:
    model = mmoe()
    draw_from(model.gate, dict.fromkeys(TASKS, ("expert 0", "expert 2")))
    (layer,) = health(model).layers
    assert expert(layer, "expert 1").weight < 1e-9
    assert expert(layer, "expert 0").weight == pytest.approx(0.5)
    ((kind, text),) = said(health(model), HealthConfig())
    assert kind == "collapse"
    assert "'expert 1': no gate's mean weight on it reaches 0.01" in text


def test_an_expert_with_one_reader_left_is_not_dead() -> None:
    model = mmoe()
    draw_from(model.gate, dict.fromkeys(TASKS[:2], ("expert 0", "expert 2")))
    (layer,) = health(model).layers
    assert expert(layer, "expert 1").weight == pytest.approx(1 / 3, rel=1e-5)


def test_readers_that_settle_on_one_expert_have_no_entropy() -> None:
    model = mmoe()
    draw_from(model.gate, {"click": ("expert 1",)})
    (layer,) = health(model).layers
    assert reader(layer, "click").entropy == pytest.approx(0, abs=1e-6)
    assert reader(layer, "click").top1_share == 1
    assert reader(layer, "like").entropy == pytest.approx(1)


# Degradation


def test_a_shared_expert_of_one_task_is_occupied() -> None:
    model = mmoe()
    draw_from(model.gate, {"click": ("expert 0",), "like": ("expert 1", "expert 2"), "share": ("expert 1", "expert 2")})
    (layer,) = health(model).layers
    taken, between = expert(layer, "expert 0"), expert(layer, "expert 1")
    assert (taken.occupancy, taken.effective_readers) == pytest.approx((1, 1))
    assert (between.occupancy, between.effective_readers) == pytest.approx((0.5, 2))
    ((kind, text),) = said(health(model), HealthConfig())
    assert kind == "degradation"
    assert text == ": shared expert 'expert 0': 'click', one of 3 readers, has 100.0% of it, more than 90%"


def test_evenly_shared_experts_serve_all_tasks() -> None:
    model = mmoe()
    draw_from(model.gate, {})
    (layer,) = health(model).layers
    for each in layer.experts:
        assert (each.occupancy, each.effective_readers) == pytest.approx((1 / 3, 3))
        assert each.readers == TASKS


def test_a_task_s_own_experts_are_not_shared() -> None:
    first, _ = health(ple()).layers
    own = expert(first, "like 0")
    assert own.readers == ("like",)  # the gate of the shared part, which may choose it too, takes it from nobody
    assert math.isnan(own.occupancy)
    assert expert(first, "shared 1").readers == TASKS


# Underfitting


def test_own_mass_against_the_uniform_share() -> None:
    model = ple()
    own = {task: (f"{task} 0", "shared 0", "shared 1") for task in TASKS} | {"like": ("shared 0", "shared 1")}
    for level in model.levels:
        gate: Any = level.get_submodule("task_gate")
        draw_from(gate, own)
    layers = health(model).layers
    assert [layer.name for layer in layers] == ["levels.0", "levels.1"]
    for layer in layers:
        assert [reader(layer, task).own_mass for task in TASKS] == pytest.approx([1 / 3, 0, 1 / 3])
        assert [reader(layer, task).uniform_mass for task in TASKS] == pytest.approx([1 / 3] * 3)
        assert [reader(layer, task).positive_rate for task in TASKS] == list(RATES.values())
    found = [text for kind, text in said(health(model), HealthConfig()) if kind == "underfitting"]
    want = "'like': weight 0.0000 on its own experts, below 0.0833 (0.25 of what equal weights would give them)"
    assert found == [f"levels.{level}: {want}" for level in range(2)]


def test_own_mass_by_positive_rate() -> None:
    model = ple()
    gate: Any = model.levels[0].get_submodule("task_gate")
    with torch.no_grad():
        gate.linear.weight_IKO.zero_()
        for row, push in enumerate((0.5, 0.1, -0.3)):  # dense tasks draw more from their own
            gate.linear.weight_IKO[:, row, 0] = push
    assert health(model).layers[0].own_mass_by_rate == pytest.approx(1)


def test_the_shared_reader_has_no_experts_of_its_own() -> None:
    first, last = health(ple()).layers
    assert math.isnan(reader(first, "shared").own_mass)
    assert "shared" not in {r.name for r in last.readers}


def test_without_a_mask_there_are_no_own_experts() -> None:
    (layer,) = health(mmoe()).layers
    assert all(math.isnan(each.own_mass) for each in layer.readers)
    assert math.isnan(layer.own_mass_by_rate)


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ([1, 2, 3], [10, 20, 90], 1),
        ([1, 2, 3], [3, 2, 1], -1),
        ([1, 2, 2, 5], [4, 3, 3, 7], 0.3333),  # tied ranks are 1, 2.5, 2.5, 4 and 3, 1.5, 1.5, 4
        ([1, 1, 1], [1, 2, 3], math.nan),
    ],
)
def test_rank_correlation(x: list[float], y: list[float], expected: float) -> None:
    assert spearman(torch.tensor(x), torch.tensor(y)) == pytest.approx(expected, abs=1e-3, nan_ok=True)


def test_every_measure_as_a_naive_loop() -> None:
    model = ple()
    outputs: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _m, _i, out, name=name: outputs.update({name: out.detach().double()}))
        for name, module in model.named_modules()
        if isinstance(module, ExpertBank | Gate)
    ]
    state = health(model)
    for hook in hooks:
        hook.remove()
    for level, layer in enumerate(state.layers):
        gate: Any = model.levels[level].get_submodule("task_gate")
        mean_TE = outputs[f"levels.{level}.task_gate"].mean(0).numpy()
        for row, task in enumerate(TASKS):
            own = [i for i, name in enumerate(gate.experts[row]) if name == f"{task} 0"]
            p = mean_TE[row]
            assert reader(layer, task).own_mass == pytest.approx(p[own].sum(), rel=1e-5)
            assert reader(layer, task).entropy == pytest.approx(-(p * np.log(p)).sum() / np.log(len(p)), rel=1e-5)
        for place, name in ((1, "shared 0"), (2, "shared 1")):
            part = mean_TE[:, place] / mean_TE[:, place].sum()
            assert expert(layer, name).occupancy == pytest.approx(part.max(), rel=1e-5)
            assert expert(layer, name).effective_readers == pytest.approx(
                np.exp(-(part * np.log(part)).sum()), rel=1e-5
            )


# Alarms, charts, tables, tags


def test_thresholds_can_be_moved() -> None:
    model = mmoe()
    draw_from(model.gate, {"click": ("expert 0",), "like": ("expert 1",), "share": ("expert 1",)})
    assert {kind for kind, _ in said(health(model), HealthConfig())} == {"collapse", "degradation"}
    assert said(health(model), QUIET) == []


def test_tags_name_the_kinds_once() -> None:
    model = mmoe(5)
    draw_from(model.gate, dict.fromkeys(TASKS, ("expert 0",)))  # four are dead
    state = health(model)
    found = alarms(state, HealthConfig())
    assert len(found) == 4
    assert tags(state, found)["health"] == "collapse"
    assert len(tags(state, found)["health.alarms"].splitlines()) == 4
    assert tags(state, ()) == {"health": "ok", "health.alarms": "none"}
    assert tags(health(nn.Linear(IN, 1)), ())["health"] == "no experts"


def test_charts_and_tables_have_every_layer() -> None:
    state = health(ple())
    values = charts(state, HealthConfig())
    assert values["health/levels.0/dead_experts"] == 0
    assert values["health/levels.1/occupancy/shared 1"] == expert(state.layers[1], "shared 1").occupancy
    assert values["health/levels.0/own_mass/like"] == reader(state.layers[0], "like").own_mass
    assert all(math.isfinite(value) for value in values.values())
    rows = tables(state, (), split="valid", step=7)
    assert len(rows["health/experts.json"]) == 2 * 5
    assert {(row["split"], row["step"]) for these in rows.values() for row in these} == {("valid", 7)}
    assert len(rows["health/readers.json"]) == 4 + 3


def test_positive_rates_are_those_of_events() -> None:
    metrics = {"click": {"rows": 10, "positives": 4}, "never": {"rows": 0, "positives": 0}, "watch": {"rows": 10}}
    assert positive_rates(metrics) == {"click": 0.4}


# Which parts make a layer


class Flat(nn.Module):
    """Two layers side by side in one module, whose gates are a level deeper."""

    def __init__(self) -> None:
        super().__init__()
        self.meta_bank = ExpertBank((("group 0", "group 1"),), IN, (3,))
        self.task_bank = ExpertBank((("own 0",), ("own 1",)), IN, (3,))
        self.task_shared = ExpertBank((("all 0",),), IN, (3,))
        self.meta_gates = nn.ModuleList([Gate(IN, ("a",), (("group 0", "group 1"),))])
        self.task_gate = Gate(IN, ("x", "y"), (("own 0", "all 0"), ("own 1", "all 0")))
        self.lonely = ExpertBank((("alone 0",),), IN, (3,))

    def forward(self, x_B1R: Tensor) -> None:
        for part in (self.meta_bank, self.task_bank, self.task_shared, self.task_gate, self.lonely):
            part(x_B1R)
        for gate in self.meta_gates:
            gate(x_B1R)


def test_layers_of_one_module_are_told_apart() -> None:
    layers = health(Flat()).layers
    assert [layer.name for layer in layers] == ["meta", "task", "lonely"]
    assert [[e.name for e in layer.experts] for layer in layers] == [
        ["group 0", "group 1"],
        ["own 0", "own 1", "all 0"],
        ["alone 0"],
    ]
    assert [[r.name for r in layer.readers] for layer in layers] == [["a"], ["x", "y"], []]
    (alone,) = layers[2].experts
    assert math.isnan(alone.weight)  # without a gate nobody can tell whether it is used
    assert said(Health((layers[2],), health(Flat()).gradients), HealthConfig()) == []


# Self gates


@pytest.mark.parametrize(("self_gates", "past"), [(("task",), 0.5), ((), 0.0)])
def test_weights_past_the_main_gate_count_for_a_readers_own_experts(self_gates: Any, past: float) -> None:
    torch.manual_seed(0)
    model = HoMEConfig(self_gates=self_gates, task_experts=1).build(IN, dense.events(*TASKS)).eval()
    with torch.no_grad():
        for parameter in model.task.gate.parameters():
            parameter.zero_()  # equal weights: one of five experts is a task's own
        if model.task.own_self is not None:
            model.task.own_self.linear.weight_IKO.zero_()  # a sigmoid of one half
    layer = health(model).layers[-1]
    assert layer.name == "task"
    for task in TASKS:
        assert expert(layer, f"{task} 0").weight == pytest.approx(max(0.2, past))
        assert reader(layer, task).own_mass == pytest.approx(0.2 + past)
        assert reader(layer, task).uniform_mass == pytest.approx(0.2)
    assert expert(layer, "shared 0").occupancy == pytest.approx(1 / 3)
