"""The policy's rules: what they make of any numbers, and what must hold of all policies."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.pareto import dominates, pareto
from pipelines.policy import Policy
from pipelines.rules import Estimate, Finding, decide, gains, stays_above, stays_within
from recsys_mtl.config import ConfigError, load, read_yaml, validate

POLICIES = sorted(Path("pipelines/configs/policy").glob("*.yaml"))
LEVELS: tuple[Any, ...] = ("harm", "estimate", "safety")
NUMBERS = st.floats(-0.1, 0.1)


@st.composite
def estimates(draw: st.DrawFn, numbers: st.SearchStrategy[float] = NUMBERS) -> Estimate:
    low, value, high = sorted(draw(st.tuples(numbers, numbers, numbers)))
    return Estimate(value, *((low, high) if draw(st.booleans()) else ()))


RATIOS = st.floats(0.5, 2)


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_every_policy_that_comes_along_is_valid(path: Path) -> None:
    assert load(Policy, [str(path)]).objective.maximise


def test_the_default_file_says_what_holds_without_any() -> None:
    assert validate(Policy, read_yaml(Path("pipelines/configs/policy/default.yaml"))) == Policy()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("objective.maximise=[]", "objective.maximise: "),
        ("objective.maximise=[{metric: fame}]", "objective.maximise.0.metric: "),
        ("constraints=[{kind: calibration, within: [1.1, 0.9]}]", "constraints.0: within: 1.1 is not below 0.9"),
        ("constraints=[{kind: latency}]", "constraints.0: limits nothing: give p50_ms, p99_ms"),
        ("constraints=[{kind: luck}]", "constraints.0.kind: expected one of"),
        ("confidence=0.9999", "configuration: 1000 replicates do not reach the ends"),
        ("split=test", "split: unknown field"),
    ],
)
def test_policies_that_make_no_sense_are_refused(change: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(Policy, [change])
    assert any(problem.startswith(message) for problem in error.value.problems), error.value.problems


@given(st.floats(0, 0.1))
def test_an_equal_candidate_is_never_promoted_and_never_rejected(margin: float) -> None:
    equal = Estimate(0.0, 0.0, 0.0)
    assert gains(equal, margin) == (False, False)


@given(estimates(), NUMBERS)
def test_what_is_good_enough_is_not_shown_to_be_bad(gain: Estimate, margin: float) -> None:
    passes, harm = gains(gain, margin)
    assert not (passes and harm)
    if math.isnan(gain.low):
        assert not passes, "numbers without an interval may be noise"
        assert not harm


@given(estimates(), NUMBERS, st.floats(0, 0.1))
def test_asking_for_more_never_promotes_more(gain: Estimate, margin: float, more: float) -> None:
    assert gains(gain, margin)[0] or not gains(gain, margin + more)[0]


@given(estimates(), NUMBERS, st.floats(0, 0.1), st.sampled_from(LEVELS))
def test_a_tighter_limit_never_lets_more_pass(difference: Estimate, least: float, more: float, level: Any) -> None:
    loose, tight = (stays_above(difference, limit, level) for limit in (least, least + more))
    assert loose[0] or not tight[0]
    assert tight[1] or not loose[1], "what is harm stays harm"


@given(estimates(RATIOS), RATIOS, st.tuples(RATIOS, RATIOS), st.floats(1, 2), st.sampled_from(LEVELS))
def test_a_wider_range_never_lets_less_pass(
    ratio: Estimate, champion: float, ends: tuple[float, float], factor: float, level: Any
) -> None:
    low, high = min(ends), max(ends)
    narrow = stays_within(ratio, (low, high), champion, level)
    wide = stays_within(ratio, (low / factor, high * factor), champion, level)
    assert wide[0] or not narrow[0]
    assert narrow[1] or not wide[1]


@given(estimates(), NUMBERS)
def test_more_doubt_against_a_candidate_never_lets_more_pass(difference: Estimate, least: float) -> None:
    by_harm, by_estimate, by_safety = (stays_above(difference, least, level)[0] for level in LEVELS)
    assert by_harm >= by_estimate >= by_safety
    by_harm, by_estimate, by_safety = (
        stays_within(Estimate(*(1 + x for x in difference)), (0.95, 1.05), 1.0, level)[0] for level in LEVELS
    )
    assert by_harm >= by_estimate >= by_safety


def test_a_limit_is_broken_by_harm_by_the_estimate_or_by_doubt() -> None:
    in_doubt = Estimate(-0.002, -0.004, 0.001)
    found = {level: stays_above(in_doubt, -0.001, level) for level in LEVELS}
    assert found == {"harm": (True, False), "estimate": (False, False), "safety": (False, False)}
    assert stays_above(Estimate(-0.003, -0.004, -0.002), -0.001, "harm") == (False, True)
    assert stays_above(Estimate(0.002, -0.0005, 0.004), -0.001, "safety") == (True, False)
    assert stays_above(Estimate(math.nan), -0.001, "harm") == (True, False)
    assert stays_above(Estimate(math.nan), -0.001, "estimate") == (False, False)


def test_a_range_reaches_as_far_as_the_champion() -> None:
    away, within = Estimate(1.3, 1.2, 1.4), (0.95, 1.05)
    assert stays_within(away, within, 1.0, "harm") == (False, True)
    assert stays_within(away, within, 1.1, "harm") == (False, True)
    assert stays_within(away, within, 1.25, "harm") == (True, False), "it may be no farther off than the champion"
    assert stays_within(away, within, 1.25, "estimate") == (False, False)
    assert stays_within(away, within, 1.5, "safety") == (True, False)
    assert stays_within(away, within, 0.5, "harm") == (False, True), "too little is not as bad as too much"
    assert stays_within(away, within, math.nan, "harm") == (False, True)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=6))
def test_a_version_is_promoted_if_all_pass_and_rejected_if_anything_is_harm(kinds: list[tuple[bool, bool]]) -> None:
    findings = [Finding("r", "l", 0, 0, Estimate(0), passes and not harm, harm) for passes, harm in kinds]
    expected = "reject" if any(harm for _, harm in kinds) else "promote" if all(one for one, _ in kinds) else "keep"
    assert decide(findings) == expected
    if findings and decide(findings[1:]) != "promote":
        assert decide(findings) != "promote", "one more rule never promotes"


VALUES = st.dictionaries(
    st.integers(0, 9), st.fixed_dictionaries({"a": st.integers(0, 3), "b": st.integers(0, 3)}), min_size=1
)


@given(VALUES)
def test_whatever_is_not_pareto_optimal_is_dominated_by_something_that_is(values: dict[int, dict[str, float]]) -> None:
    best = pareto(values)
    assert best
    for key, own in values.items():
        assert (key in best) != any(dominates(values[other], own) for other in best)


def test_what_was_measured_of_other_things_is_not_compared() -> None:
    assert pareto({1: {"a": 1.0}, 2: {"a": 2.0}, 3: {"b": 0.0}}) == {2, 3}
