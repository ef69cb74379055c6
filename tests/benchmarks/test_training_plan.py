"""What is measured, in which order, and when it counts."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from benchmarks.quality.flops import off_target, size_of
from benchmarks.results import Result
from benchmarks.training.__main__ import chosen
from benchmarks.training.commands import rate_between
from benchmarks.training.models import COMPARED, MODELS, generated_run
from benchmarks.training.peers.environment import REQUIREMENTS
from benchmarks.training.plan import (
    ALL_PARTS,
    EVERY_ROUND,
    GRID,
    KUAI,
    OURS,
    PEER_OF,
    QUICK,
    STARTUP,
    Plan,
    Scale,
    grown,
)
from benchmarks.training.runner import Runner, require_memory
from benchmarks.training.shapes import Shape
from benchmarks.training.stopwatch import Pace, Timed
from benchmarks.training.turns import in_turn
from recsys_mtl.config import ConfigError
from recsys_mtl.data.spec import make_spec

AT_ONCE = Pace(warm_up_steps=2, warm_up_s=0.0, fewest=3, seconds=0.0)
FULL = Plan(Scale(), 2, ALL_PARTS)
PINS = Path(__file__).parent.parent.parent / "requirements" / "cpu.txt"


def test_batches_in_memory_come_again_until_the_measurement_is_over() -> None:
    timed = Timed(["a", "b"], AT_ONCE)
    assert list(timed) == ["a", "b", "a", "b", "a"]
    found = timed.measured(10)
    assert found["steps"] == 3
    assert found["seconds"] == pytest.approx(timed.moments[-1] - timed.moments[0])


def test_a_step_that_went_astray_does_not_count_in_memory_but_counts_behind_a_loader() -> None:
    for batches, rate in (([0], 10 / 1), (iter([0]), 10 / 3)):
        timed: Timed[int] = Timed(batches, AT_ONCE)
        timed.moments = [0.0, 1.0, 2.0, 9.0]
        assert timed.measured(10)["rows_per_s"] == pytest.approx(rate)


def test_batches_of_a_loader_come_once() -> None:
    timed = Timed(iter(range(100)), replace(AT_ONCE, seconds=1e9))
    assert list(timed) == list(range(100))
    assert timed.measured(1)["steps"] == 98


def test_too_few_batches_are_no_measurement() -> None:
    timed = Timed(iter(range(2)), AT_ONCE)
    assert list(timed) == [0, 1]
    with pytest.raises(ValueError, match="too few batches"):
        timed.measured(1)


def test_work_takes_turns() -> None:
    calls: list[str] = []
    found = in_turn({name: partial(calls.append, name) for name in "abc"}, turns=2, seconds=0.0)
    assert "".join(calls) == "abcabcabc"
    assert {name: len(seconds) for name, seconds in found.items()} == {"a": 2, "b": 2, "c": 2}


def test_every_measurement_has_a_name_of_its_own_and_survives_json() -> None:
    for plan in (FULL, Plan(QUICK, 2, ALL_PARTS)):
        names = [one.name for one in plan]
        assert len(set(names)) == len(names)
        assert all(json.loads(json.dumps(one.settings)) == one.settings for one in plan)
        assert {one.part for one in plan} == set(ALL_PARTS)


def test_the_grid_is_whole_and_what_is_compared_stands_together() -> None:
    grid = [one for one in FULL if one.part == GRID]
    cases = [one.case for one in grid]
    assert cases == sorted(cases, key=cases.index)
    systems = {case: [one.system for one in grid if one.case == case] for case in cases}
    assert len(systems) == len(COMPARED) * 3
    assert all(found[0] == OURS and {"torch-rechub", "deepctr-torch"} <= set(found) for found in systems.values())
    assert all(one.job["batch_sizes"] == [1024, 4096, 16384] for one in grid)
    jobs = {case: [one.settings["job"] for one in grid if one.case == case] for case in cases}
    assert all(job == same[0] for same in jobs.values() for job in same)


def test_without_peers_there_are_none() -> None:
    assert not [one for one in Plan(Scale(), 2, ALL_PARTS, peers=False) if one.system in PEER_OF]


def test_batches_of_every_size_fit_into_the_data() -> None:
    for one in FULL:
        if one.shape is not None:
            assert all(one.shape.rows >= 8 * size for size in one.job["batch_sizes"])


@pytest.mark.parametrize("model", MODELS)
def test_dense_parts_are_of_one_size(model: str) -> None:
    sizes = [
        size_of(generated_run("x", MODELS[name], 64), make_spec(Shape().schema, {}, {})) for name in ("MMoE", model)
    ]
    assert abs(off_target(sizes[1].dense, sizes[0].dense)) < 0.06
    assert sizes[1].tables == 26 * 100_002 * 16


def test_mmoe_has_the_weights_that_the_report_says() -> None:
    size = size_of(generated_run("x", MODELS["MMoE"], 64), make_spec(Shape().schema, {}, {}))
    experts = 8 * (26 * 16 * 256 + 256 + 256 * 128 + 128)
    assert size.dense == experts + 4 * 8 * 26 * 16 + 4 * (128 * 64 + 64 + 64 + 1)


@pytest.mark.parametrize(("curve", "value"), [(curve, values[0]) for curve, values in Scale().curves.items()])
def test_growth_changes_one_thing(curve: str, value: int) -> None:
    (shape, model, more), (other, larger, _) = grown(curve, value), grown(curve, 2 * value)
    changed = [name for name in vars(shape) if getattr(shape, name) != getattr(other, name)]
    assert changed == {"fields": ["fields"], "vocabulary": ["vocabulary"], "history": ["events"]}.get(curve, [])
    assert (model != larger) == (curve == "experts")
    assert (len(more["settings"]["tasks"]["include"]) == value) if curve == "tasks" else not more


def test_rates_leave_out_what_came_before_the_first_report() -> None:
    found = rate_between([(20, 100.0), (60, 150.0)], 10)
    assert found["steps"] == 40
    assert found["seconds"] == pytest.approx(600 / 150 - 200 / 100)
    assert rate_between([(20, 100.0), (20, 100.0)], 10)["rows_per_s"] == pytest.approx(100)


def test_peers_share_our_torch_and_arrow() -> None:
    pins = [line for line in PINS.read_text().splitlines() if line.startswith(("torch==", "pyarrow==", "numpy=="))]
    assert len(pins) == 3
    assert set(pins) <= set(REQUIREMENTS.read_text().splitlines())


def test_an_unknown_part_is_refused() -> None:
    assert chosen("grid, files") == ("grid", "files")
    with pytest.raises(ConfigError, match="no part 'speed'"):
        chosen("grid,speed")


def test_absent_data_are_a_reason_and_no_failure(tmp_path: Path) -> None:
    runner = Runner(tmp_path / "out", tmp_path / "absent", print)
    runner.run(Plan(QUICK, 1, (KUAI,)), repeats=3)
    assert runner.results == []
    assert len(runner.missing) == 2
    assert all("no prepared KuaiRand data" in reason for reason in runner.missing.values())


def test_what_was_measured_is_found_again_round_by_round(tmp_path: Path) -> None:
    plan = Plan(QUICK, 1, (GRID, STARTUP))
    for repeat in range(2):
        for one in plan:
            same = replace(one, repeat=repeat)
            result: Result = {"rates": [], "seconds": {}}
            Runner(tmp_path, tmp_path, print).store.save(same.name, same.settings, result)
    runner = Runner(tmp_path, tmp_path, print, only_find=True)
    runner.run(plan, repeats=3)
    measured = list(plan)
    in_rounds = [one for one in measured if one.part in EVERY_ROUND]
    assert len(runner.results) == len(measured) + len(in_rounds)
    assert set(runner.missing) == {replace(one, repeat=2).name for one in in_rounds}


def test_tables_that_cannot_fit_are_not_tried() -> None:
    grid = next(one for one in FULL if one.part == GRID)
    require_memory(grid)
    with pytest.raises(Exception, match="GiB for tables"):
        require_memory(replace(grid, shape=Shape(vocabulary=10**9)))
