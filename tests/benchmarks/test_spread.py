"""Means, errors and paired differences."""

import math

import pytest

from benchmarks.spread import Spread, needed_errors, paired


def test_a_spread_is_that_of_the_sample() -> None:
    spread = Spread.of([0.70, 0.72, 0.77])
    assert spread.mean == pytest.approx(0.73)
    assert spread.deviation == pytest.approx(math.sqrt((0.03**2 + 0.01**2 + 0.04**2) / 2))
    assert spread.error == pytest.approx(spread.deviation / math.sqrt(3))
    assert spread.in_errors == pytest.approx(0.73 / spread.error)
    assert (spread.count, spread.median) == (3, 0.72)


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.5]])
def test_what_few_values_do_not_tell_is_unknown(values: list[float]) -> None:
    spread = Spread.of(values)
    assert spread.count == len(values)
    assert math.isnan(spread.in_errors)
    assert math.isnan(spread.deviation) == (len(values) < 2)


def test_differences_are_of_equal_seeds() -> None:
    spread = paired({0: 0.8, 1: 0.7, 3: 0.1}, {1: 0.6, 0: 0.5, 2: 0.9})
    assert spread.count == 2
    assert spread.mean == pytest.approx(0.2)
    assert spread.deviation == pytest.approx(0.1 * math.sqrt(2))
    assert paired({0: 1.0}, {1: 1.0}).count == 0


def test_few_seeds_need_many_errors() -> None:
    found = [needed_errors(count) for count in (2, 3, 5, 1000)]
    assert found == pytest.approx([12.706, 4.303, 2.776, 1.962], abs=1e-3)
    assert math.isnan(needed_errors(1))
