"""The MMoE paper's two regressions."""

import numpy as np
import pyarrow as pa
import pytest

from pipelines.prepare.synthetic import prepare
from pipelines.prepare.synthetic_mmoe import INPUTS, SINES, draw_tasks, label_pearson
from recsys_mtl.config import ConfigError
from recsys_mtl.data.raw import SPLITS, RawData, raw_columns

CORRELATIONS = (-1.0, -0.5, 0.0, 0.5, 0.9, 1.0)


def read(raw: RawData) -> pa.Table:
    return pa.concat_tables([table for split in SPLITS for table in raw.splits[split]()]).combine_chunks()


def inputs(table: pa.Table) -> np.ndarray:
    return np.stack([table[f"x{i}"].to_numpy() for i in range(INPUTS)], axis=1).astype(np.float64)


@pytest.mark.parametrize("correlation", CORRELATIONS)
def test_weights_have_the_wanted_cosine(correlation: float) -> None:
    first, second = draw_tasks(correlation, seed=4).weights_2D
    assert np.linalg.norm(first) == pytest.approx(1)
    assert np.linalg.norm(second) == pytest.approx(1)
    assert first @ second == pytest.approx(correlation, abs=1e-12)


def test_only_the_second_weights_depend_on_the_correlation() -> None:
    low, high = draw_tasks(0.1, seed=4), draw_tasks(0.9, seed=4)
    np.testing.assert_array_equal(low.frequencies, high.frequencies)
    np.testing.assert_array_equal(low.phases, high.phases)
    np.testing.assert_array_equal(low.weights_2D[0], high.weights_2D[0])
    assert not np.allclose(low.weights_2D[1], high.weights_2D[1])
    tables = [read(prepare(1_000, correlation=p)) for p in (0.1, 0.9)]
    names = [*(f"x{i}" for i in range(INPUTS)), "y1", "group", "example"]
    assert tables[0].select(names).equals(tables[1].select(names))
    assert not tables[0]["y2"].equals(tables[1]["y2"])


def test_labels_are_the_papers_formula() -> None:
    table, tasks = read(prepare(1_000, correlation=0.5, seed=9)), draw_tasks(0.5, seed=9)
    x_BD = inputs(table)
    for task in range(2):
        noise = []
        for row in range(200):
            linear = sum(tasks.weights_2D[task, i] * x_BD[row, i] for i in range(INPUTS))
            bends = sum(np.sin(tasks.frequencies[i] * linear + tasks.phases[i]) for i in range(SINES))
            noise.append(table[f"y{task + 1}"][row].as_py() - linear - bends)
        assert np.std(noise) == pytest.approx(0.1, rel=0.25)
        assert abs(np.mean(noise)) < 0.03


def test_inputs_are_standard_normal() -> None:
    x_BD = inputs(read(prepare(4_000, correlation=0.0)))
    assert np.abs(x_BD.mean(axis=0)).max() < 5 / np.sqrt(4_000)
    assert x_BD.std() == pytest.approx(1, abs=0.01)
    assert len(np.unique(x_BD[:, 0])) > 3_900


def test_label_correlation_grows_with_the_cosine() -> None:
    pearson = [label_pearson(prepare(4_000, correlation=p)) for p in CORRELATIONS]
    assert pearson == sorted(pearson)
    assert abs(pearson[CORRELATIONS.index(0.0)]) < 0.06
    assert pearson[-1] > 0.97


def test_splits_are_the_same_on_every_pass() -> None:
    raw = prepare(1_000, correlation=0.5)
    assert read(raw).equals(read(raw))
    assert read(raw).num_rows == 1_000
    assert [sum(t.num_rows for t in raw.splits[split]()) for split in SPLITS] == [800, 100, 100]
    assert set(read(raw).column_names) == set(raw_columns(raw.schema))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"correlation": 1.5}, "correlation: 1.5 is out of range, allowed: -1 to 1"),
        ({"correlation": float("nan")}, "correlation: nan is out of range, allowed: -1 to 1"),
        (
            {"correlation": 0.5, "users": 100},
            "correlation: the MMoE paper's data has no users or items; leave them out",
        ),
        ({"correlation": 0.5, "rows": 5}, "rows: 5 is too small, allowed: 1,000 or more"),
    ],
)
def test_what_the_paper_cannot_do_is_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        prepare(**{"rows": 1_000, **settings})  # type: ignore[arg-type]
