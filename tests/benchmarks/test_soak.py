"""What a soak computes: the fate of requests, figures by phase, and whether promises were kept."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from benchmarks.soak.judgement import (
    AFTER,
    STEADY,
    SWAPS,
    Observed,
    fate,
    judge,
    late_growth,
    memory,
    percentile,
    swap_times,
    traffic,
)
from benchmarks.soak.records import Killed, Phase, Record, Sample, Swap

FINE = Record(due=1.0, seconds=0.01, ask="x", port=1, version="1", failure="")


def sample(at: float, pss: float) -> Sample:
    return Sample(at, processes=3, pss=pss, rss=2 * pss, files=10, threads=5)


@pytest.fixture
def observed() -> Observed:
    """A soak in which all is as it should be."""
    names = (STEADY, SWAPS, AFTER)
    phases = [Phase(name, 10.0 * number, 10.0 * number + 10) for number, name in enumerate(names)]
    records = [replace(FINE, due=0.1 * i, version=str(1 + (100 <= i < 150))) for i in range(300)]
    samples = [sample(0.5 + i, 100.0) for i in range(30)]
    swaps = [Swap("2", 10.0, 0.5), Swap("1", 15.0, 1.5)]
    return Observed(phases, records, samples, swaps)


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        ("", ""),
        ("refused: [Errno 111]", "refused"),
        ("reset: 0 bytes", "reset"),
        ("timeout", "timeout"),
        ("wrong answer: 3 candidates instead of 4", "wrong answer"),
        ('503 {"detail": "x: y"}', "503"),
        ("429 ", "429"),
    ],
)
def test_failures_are_told_apart(failure: str, kind: str) -> None:
    assert replace(FINE, failure=failure).kind == kind


def test_percentiles_are_values_that_were_seen() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1, 50, 99, 100]
    assert percentile([7.0], 0.99) == 7
    assert math.isnan(percentile([], 0.5))


def test_requests_belong_to_the_phase_in_which_they_were_due(observed: Observed) -> None:
    observed.records = [replace(FINE, due=due, seconds=due) for due in (-1, 0, 9.99, 10, 29.9, 30)]
    found = traffic(observed)
    assert [(one.phase, one.requests) for one in found] == [(STEADY, 2), (SWAPS, 1), (AFTER, 1)]
    assert [one.max_ms for one in found] == [9990, 10000, 29900]


def test_times_are_those_of_answers_alone(observed: Observed) -> None:
    observed.records.append(replace(FINE, due=5, seconds=10.0, failure="timeout"))
    found = traffic(observed)[0]
    assert (found.requests, found.max_ms, found.failures) == (101, 10.0, {"timeout": 1})


def test_only_connections_of_the_killed_worker_may_break() -> None:
    observed = Observed(killed=[Killed(10.0, frozenset({7}), 3.0)])
    broken = replace(FINE, due=9.9, port=7, failure="reset: x")
    assert fate(broken, observed) == "lost"
    assert fate(replace(broken, port=8), observed) == "reset"
    assert fate(replace(broken, due=50), observed) == "reset"  # the port is another connection's by now
    assert fate(replace(broken, port=0, failure="refused: x"), observed) == "refused"


def test_only_events_may_be_refused_and_only_without_a_store() -> None:
    observed = Observed(phases=[Phase("there", 0, 10), Phase("away", 10, 20, store_away=True)])
    event = replace(FINE, due=15, ask="event", failure="503 x")
    assert fate(event, observed) == "refused event"
    assert fate(replace(event, due=9.995), observed) == "refused event"  # its answer was due when the store had gone
    assert fate(replace(event, due=5), observed) == "503"
    assert fate(replace(event, failure="500 x"), observed) == "500"
    assert fate(replace(event, ask="/v1/rank"), observed) == "503"


def broken_promises(observed: Observed) -> list[str]:
    return [verdict.promise.split(",")[0] for verdict in judge(observed) if not verdict.is_kept]


def test_nothing_is_wrong_with_a_good_run(observed: Observed) -> None:
    assert broken_promises(observed) == []
    assert [verdict.found for verdict in judge(observed)][:2] == ["0", "2 of 2, median 1.0 s, longest 1.5 s"]


def test_one_failed_request_is_too_many(observed: Observed) -> None:
    observed.records.append(replace(FINE, due=29.0, failure="500 x"))
    assert broken_promises(observed) == ["no request fails"]
    assert judge(observed)[0].found == "1 500"


def test_requests_between_two_phases_count(observed: Observed) -> None:
    observed.phases[1] = replace(observed.phases[1], start=11.0)
    observed.records.append(replace(FINE, due=10.5, failure="500 x"))
    assert broken_promises(observed) == ["no request fails"]


def test_a_swap_counts_when_all_workers_and_a_client_have_seen_it(observed: Observed) -> None:
    late = replace(observed, swaps=[observed.swaps[0], replace(observed.swaps[1], seconds=None)])
    assert broken_promises(late) == ["every swap reaches all workers and clients"]
    observed.records = [replace(record, version="1") for record in observed.records]
    assert broken_promises(observed) == ["every swap reaches all workers and clients"]
    assert judge(observed)[1].found.startswith("1 of 2")


def test_a_spike_is_reported_and_marked_as_timing(observed: Observed) -> None:
    observed.records = [replace(r, seconds=0.021 if 10 <= r.due < 20 else 0.01) for r in observed.records]
    (verdict,) = (verdict for verdict in judge(observed) if not verdict.is_kept)  # and not the other comparison
    assert (verdict.found, verdict.is_timing) == ("2.10", True)


def test_swaps_are_compared_with_the_pauses_between_them(observed: Observed) -> None:
    observed.records = [replace(r, seconds=0.021 if 10 <= r.due < 10.45 else 0.01) for r in observed.records]
    observed.records.append(replace(FINE, due=10.2, seconds=9.0, failure="timeout"))
    within, between = swap_times(observed)
    assert within == [0.01] * 15 + [0.021] * 5
    assert between == [0.01] * 80
    assert "p99 within a swap at most 2 times that between two of them" in broken_promises(observed)


def test_growth_of_memory_is_found(observed: Observed) -> None:
    def size(pss: Callable[[float], float]) -> list[str]:
        observed.samples = [sample(one.at, pss(one.at)) for one in observed.samples]
        return broken_promises(observed)

    at_the_end = "memory at the end at most 1.15 times that before"
    in_the_swaps = "memory late in the swaps at most 1.05 times that early in them"
    assert size(lambda at: 100 + at) == [at_the_end, in_the_swaps]
    assert [one.slope for one in memory(observed)] == pytest.approx([60.0] * 3)
    assert size(lambda at: 100.0 if at < 12 else 110.0) == []  # what the first swaps take is kept, and no more
    assert size(lambda at: 100.0 + at if at < 20 else 100.0) == [in_the_swaps]  # a new worker hides it later
    assert size(lambda at: 100.0 if at < 20 else 120.0) == [at_the_end]


def test_late_growth_leaves_out_the_first_quarter() -> None:
    assert late_growth([1, 1, 100, 100, 100, 100, 110, 110]) == pytest.approx(1.1)
    assert math.isnan(late_growth([1, 2, 3]))


def test_a_short_run_is_not_judged_by_memory_that_was_not_sampled(observed: Observed) -> None:
    observed.samples = [sample(1, 100), sample(12, 100), sample(13, 200), sample(25, 100)]
    assert broken_promises(observed) == []
