"""Packed histories against loops over rows, sequences and events."""

from itertools import product

import pytest
import torch
from torch import Tensor

from recsys_mtl.features import FeatureLayout, Features, Sequence, SequenceColumn
from recsys_mtl.histories import Packing, mean_of_rows, sum_of_rows
from tests import dense

ROWS = 7
MAX_EVENTS = 4
EVENTS = [(s, b, k) for s, b, k in product(range(2), range(ROWS), range(MAX_EVENTS))]


def packed(features: Features) -> dict[tuple[int, int, int], int]:
    """Where the event of a sequence, a row and a position is among those that are computed."""
    packing = pack(features)
    assert packing.present_N.all()
    sequence_N, row_N = packing.history_N // ROWS, packing.history_N % ROWS
    events = zip(sequence_N.tolist(), row_N.tolist(), packing.position_N.tolist(), strict=True)
    return {event: n for n, event in enumerate(events)}


def pack(features: Features) -> Packing:
    return Packing.of(features.lengths, MAX_EVENTS)


def long_history(rows: int, longest: int) -> Features:
    layout = FeatureLayout(dense.LAYOUT.fields, (Sequence("seen", (SequenceColumn(4, "item"),), longest),), 0)
    return dense.features(rows, layout)


def test_exactly_the_most_recent_events_are_computed() -> None:
    features = dense.features(ROWS)
    assert features.lengths[0].max() > MAX_EVENTS
    expected = {(s, b, k) for s, b, k in EVENTS if k < features.lengths[s][b]}
    assert set(packed(features)) == expected
    assert len(packed(features)) == len(expected)


def test_events_are_counted_from_the_most_recent() -> None:
    features = dense.features(ROWS)
    events = list(pack(features).events(features.sequences, features.lengths))
    first, histories = [0, len(events[0])], dense.histories(features)
    for (s, b, k), n in packed(features).items():
        assert torch.equal(events[s][n - first[s]], histories[s][b][-1 - k])


def test_a_grid_holds_histories_as_a_whole() -> None:
    features = dense.features(ROWS)
    packing, index = pack(features), packed(features)
    grids = packing.padded(torch.arange(len(index)), fill=-1)
    rows = [row for grid_PL in grids for row in grid_PL.tolist()]
    histories = [[index[s, b, k] for k in range(MAX_EVENTS) if (s, b, k) in index] for s, b, _ in EVENTS[::MAX_EVENTS]]
    assert sorted([n for n in row if n >= 0] for row in rows) == sorted(events for events in histories if events)
    assert all(row[: len([n for n in row if n >= 0])] == [n for n in row if n >= 0] for row in rows)


@pytest.mark.parametrize("longest", [1, 2, 3, 5, 8, 50])
def test_little_of_a_grid_is_padding(longest: int) -> None:
    features = long_history(200, longest)
    packing = Packing.of(features.lengths, 50)
    events, places = len(packing.history_N), sum(histories * room for histories, room in packing.grids)
    assert events == features.lengths[0].sum()
    assert events <= places <= 1.6 * events


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_grids_can_be_undone(shape: tuple[int, ...]) -> None:
    packing = pack(dense.features(ROWS))
    x = torch.randn(len(packing.history_N), *shape)
    assert torch.equal(packing.unpadded(packing.padded(x)), x)


def test_sums_are_by_history() -> None:
    features = dense.features(ROWS)
    packing, index = pack(features), packed(features)
    x_N3 = torch.randn(len(index), 3)
    sums_SB3 = packing.summed(x_N3).view(2, ROWS, 3)
    for s, b in product(range(2), range(ROWS)):
        events: list[Tensor] = [x_N3[index[s, b, k]] for k in range(MAX_EVENTS) if (s, b, k) in index]
        torch.testing.assert_close(sums_SB3[s, b], torch.stack([torch.zeros(3), *events]).sum(0))


def test_a_compiled_program_computes_every_place(monkeypatch: pytest.MonkeyPatch) -> None:
    features = dense.features(ROWS)
    index = packed(features)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    packing = pack(features)
    assert packing.grids == ((2 * ROWS, MAX_EVENTS),)
    assert packing.per_sequence == (ROWS * MAX_EVENTS,) * 2
    assert packing.present_N.tolist() == [event in index for event in EVENTS]
    assert torch.equal(packing.place_N, torch.arange(len(EVENTS)))
    assert torch.equal(packing.order_P, torch.arange(2 * ROWS))


def test_a_place_without_an_event_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    features = dense.features(ROWS)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    events = torch.stack([e_ND.abs().sum(1) for e_ND in pack(features).events(features.sequences, features.lengths)])
    assert torch.equal(events.flatten() > 0, pack(features).present_N)
    none = dense.with_histories(features, [[e_LD[:0] for e_LD in rows] for rows in dense.histories(features)])
    assert not any(e_ND.any() for e_ND in pack(none).events(none.sequences, none.lengths))


def test_rows_stand_where_their_history_lies() -> None:
    features = dense.features(ROWS)
    packing = pack(features)
    history_N = [grid_PL.amax(1) for grid_PL in packing.padded(packing.history_N, fill=-1)]
    for rows_P, history_P in zip(packing.rows(torch.arange(2 * ROWS)), history_N, strict=True):
        assert torch.equal(rows_P, history_P)
    x_J3 = torch.randn(2 * ROWS, 3)
    without_J = torch.cat(features.lengths) == 0
    assert without_J.any()
    assert torch.equal(packing.unrowed(packing.rows(x_J3)), x_J3.masked_fill(without_J.unsqueeze(1), 0.0))


def test_means_and_sums_of_rows() -> None:
    features = dense.features(ROWS)
    for e_ND, length_B, rows in zip(features.sequences, features.lengths, dense.histories(features), strict=True):
        for b, e_LD in enumerate(rows):
            torch.testing.assert_close(sum_of_rows(e_ND, length_B)[b], e_LD.sum(0))
            mean_D = e_LD.mean(0) if len(e_LD) else torch.zeros(e_LD.shape[1])
            torch.testing.assert_close(mean_of_rows(e_ND, length_B)[b], mean_D)
