"""Ratios, targets and the report, from results that are made up."""

from collections.abc import Iterator
from io import BytesIO
from typing import Any

from benchmarks.results import Result
from benchmarks.rounds import Figure
from benchmarks.training.figures import bytes_per_weight, over, over_peers, rate_share, rates, speed_over
from benchmarks.training.growth import curves, picture
from benchmarks.training.plan import (
    ALL_PARTS,
    DEEPCTR,
    FILES,
    GRID,
    OURS,
    PARTS,
    PEER_OF,
    PROFILE,
    QUICK,
    RAY_1,
    READING,
    RECHUB,
    STARTUP,
    Plan,
)  # fmt: skip
from benchmarks.training.report import report
from benchmarks.training.targets import Target, targets

SPEEDS = {RECHUB: 50.0, DEEPCTR: 100.0}
"""Rows per second of peers; ours has 400."""


def made_up() -> list[Result]:
    """Results of a quick plan in three rounds, the second of which is twice as fast for everyone."""
    plan = Plan(QUICK, 2, ALL_PARTS)
    return [make(one, repeat) for repeat in range(3) for one in plan]


def make(one: Any, repeat: int) -> Result:
    speed = SPEEDS.get(PEER_OF.get(one.system, ""), 400.0) * (2 if repeat == 1 else 1)
    result: Result = {"part": one.part, "case": one.case, "system": one.system, "repeat": repeat}
    result |= {"settings": one.settings, "dense": 1000, "row": 1000, "peak_bytes": 10**6}
    result |= {"tables": 0 if one.shape is None else one.shape.vocabulary}
    result["peak_bytes"] += 5 * result["tables"]
    result["rates"] = [{"batch_size": size, "rows_per_s": speed} for size in one.job.get("batch_sizes", [])]
    if one.part in (PARTS, READING, STARTUP):
        works = ("gemm", "gemm bf16", "dense", "triad", "tables", "optimiser", "step", "forward", "evaluate", "examine")
        result["seconds"] = {work: [2.0, 2.0] for work in works} | {"dense": [4.0, 2.0]}
        result["seconds"] |= {"scan": [1.0, 1.0], "read": [1.0, 1.0], "prepare": [1.0, 1.0]}
        result["amounts"] = dict.fromkeys(result["seconds"], 1e9)
    if one.part == PROFILE:
        result |= {"shares": [["aten::mm", 0.5, 2.0]], "ms": 10.0}
    if one.job["kind"] == "train":
        result |= {"command_s": 30.0, "trained_s": 10.0, "begins_s": 5.0, "first_batch_s": 12.0, "waited": 0.1}
    return result


def test_a_figure_is_a_median_with_its_range() -> None:
    assert Figure((3.0, 1.0, 2.0)).text(1) == "2.0 (1.0–3.0)"
    assert Figure((1234.5,)).text(0) == "1,234"


def test_ratios_are_made_within_rounds_with_the_best_of_each() -> None:
    found = over({0: 10.0, 1: 30.0, 2: 5.0}, [{0: 1.0, 1: 3.0}, {0: 2.0, 3: 9.0}])
    assert found == Figure((5.0, 10.0))
    assert over({0: 10.0}, [{1: 1.0}]) is None
    assert over_peers({OURS: {0: 8.0}, RAY_1: {0: 100.0}, DEEPCTR: {0: 2.0}}, OURS) == Figure((4.0,))


def test_a_machine_that_is_twice_as_fast_for_a_while_changes_no_ratio() -> None:
    for systems in rates(made_up(), GRID).values():
        assert over_peers(systems, OURS) == Figure((4.0, 4.0, 4.0))


def test_shares_of_limits_are_made_turn_by_turn() -> None:
    result = {"seconds": {"a": [1.0, 2.0], "b": [4.0, 4.0]}, "amounts": {"a": 10.0, "b": 20.0}}
    assert rate_share(result, "b", "a") == Figure((5 / 10, 5 / 5))
    assert speed_over(result, "a", "b") == Figure((4.0, 2.0))


def test_memory_per_weight_is_that_of_larger_tables() -> None:
    assert bytes_per_weight(made_up(), OURS, "MMoE") == Figure((5 / 4,) * 3)
    assert bytes_per_weight([], OURS, "MMoE") is None


def test_targets_are_judged_by_their_worst_case() -> None:
    found = {"a": Figure((2.0, 3.0, 4.0)), "b": Figure((1.0,))}
    assert not Target("speed", 1.5, found).is_met
    assert Target("speed", 1.5, found).row()[2:] == ["1.00, b", "1.00–3.00", "**no**"]
    assert Target("memory", 3.0, found, at_most=True).worst[0] == "a"
    assert Target("memory", 3.0, found, at_most=True).is_met
    assert Target("nothing", 1.0, {}).row()[-1] == "–"


def test_targets_find_their_results() -> None:
    found = {target.name: target for target in targets(made_up())}
    assert len(found) == 9
    unknown = [name for name, target in found.items() if not target.found]
    assert unknown == ["compute only: ours / best peer, rows of each table 1,000,000"]  # which is not in a quick plan
    met = {name for name, target in found.items() if target.found and target.is_met}
    assert not [name for name in met if "memory per table weight" in name]
    assert [target.worst[1].median for name, target in found.items() if "GEMM" in name] == [0.75]
    assert [target.worst[1].median for name, target in found.items() if "Parquet / compute" in name] == [1.0]


def test_the_report_has_every_part() -> None:
    text = report(made_up(), {"a": "no memory"}, "python -m benchmarks.training", 2, "Load before 0.1.")
    for expected in ("- a: no memory", "deepctr-torch 0.3.0", "4.00 (4.00–4.00)", "`aten::mm`", "GEMM", "KuaiRand"):
        assert expected in text
    assert not list(broken_rows(text))


def test_a_report_of_nothing_is_one() -> None:
    text = report([], {}, "python -m benchmarks.training", 2, "")
    assert "not measured" in text
    assert not list(broken_rows(text))
    picture([]).savefig(BytesIO())


def broken_rows(text: str) -> Iterator[str]:
    """Yield lines of tables that have not as many cells as the one before."""
    before = 0
    for line in text.splitlines():
        cells = line.count("|") if line.startswith("|") else 0
        if cells and before and cells != before:
            yield line
        before = cells


def test_curves_are_in_the_order_of_their_sizes() -> None:
    found = curves(made_up())
    assert list(found["experts"]) == sorted(QUICK.curves["experts"])
    assert list(found["rows"]) == sorted(QUICK.rows)
    assert found["experts"][4].median == 400
    picture(made_up()).savefig(BytesIO())


def test_files_are_compared_with_the_fastest_loader() -> None:
    ((_, systems),) = rates(made_up(), FILES).items()
    assert over_peers(systems, RAY_1) == Figure((4.0, 4.0, 4.0))
