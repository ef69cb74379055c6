"""The generated short-video world."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from pipelines.prepare.synthetic import HISTORIES, prepare, raw_data, schema
from pipelines.prepare.synthetic_feedback import RATES
from pipelines.prepare.synthetic_history import History
from pipelines.prepare.synthetic_log import DAY_MS, Log, bayes_auc, expected_auc, simulate
from pipelines.prepare.synthetic_world import zipf
from recsys_mtl.config import ConfigError
from recsys_mtl.data.dataset import write_dataset
from recsys_mtl.data.raw import SPLITS, RawData, raw_columns
from recsys_mtl.tasks import BinaryTask

ROWS = 40_000


@pytest.fixture(scope="module")
def log() -> Log:
    return simulate(ROWS, seed=3)


@pytest.fixture(scope="module")
def raw(log: Log) -> RawData:
    return raw_data(log)


def read(raw: RawData) -> Any:
    return pa.concat_tables([table for split in SPLITS for table in raw.splits[split]()]).combine_chunks()


def ipc_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def test_same_seed_same_bytes() -> None:
    assert ipc_bytes(read(prepare(2_000, seed=1))) == ipc_bytes(read(prepare(2_000, seed=1)))
    assert ipc_bytes(read(prepare(2_000, seed=1))) != ipc_bytes(read(prepare(2_000, seed=2)))


def test_a_split_can_be_read_again(raw: RawData) -> None:
    for split in SPLITS:
        assert all(a.equals(b) for a, b in itertools.zip_longest(raw.splits[split](), raw.splits[split]()))


def test_tables_have_the_columns_of_the_schema_and_a_bounded_size() -> None:
    tables = list(prepare(100_000).splits["train"]())
    assert [table.num_rows for table in tables] == [65_536, 80_000 - 65_536]
    assert all(set(table.column_names) == set(raw_columns(prepare(1_000).schema)) for table in tables)


def test_splits_follow_time(log: Log) -> None:
    parts = [log.shown.time_ms[rows] for rows in log.splits().values()]
    assert [len(part) for part in parts] == [ROWS * 8 // 10, ROWS // 10, ROWS // 10]
    assert (np.diff(np.concatenate(parts)) >= 0).all()


@pytest.mark.parametrize("name", RATES)
def test_base_rates_hit_their_targets(log: Log, raw: RawData, name: str) -> None:
    label = read(raw)[name].drop_null().to_numpy()
    deviation = np.sqrt(RATES[name] / len(label))
    assert abs(label.mean() - RATES[name]) < 4 * deviation
    probability = log.feedback.truth[name] * (log.feedback.truth["click"] if name == "follow" else 1)
    assert probability.mean() == pytest.approx(RATES[name], rel=1e-3)


def test_events_happen_as_often_as_their_probabilities_say(log: Log) -> None:
    for name, probability in log.feedback.truth.items():
        rows = log.feedback.events["click"] if name == "follow" else np.full(ROWS, True)
        p, happened = probability[rows].astype(float), log.feedback.events[name][rows]
        for part in np.array_split(np.argsort(p), 8):
            assert abs(happened[part].sum() - p[part].sum()) < 4.5 * np.sqrt((p[part] * (1 - p[part])).sum()) + 1


def test_signals_are_nested_and_watch_time_agrees(log: Log) -> None:
    events, watched = log.feedback.events, log.feedback.watch_time_s
    assert not (events["long_view"] & ~events["click"]).any()
    assert not (events["follow"] & ~events["click"]).any()
    long_enough = np.minimum(log.world.items.duration_s[log.shown.item], 18)
    np.testing.assert_array_equal(events["long_view"], watched >= long_enough)
    assert (watched[~events["click"]] <= 3).all()
    assert watched.max() <= 900


def test_the_funnel_and_the_sample_spaces_are_those_of_the_world(log: Log) -> None:
    events = log.feedback.events
    tasks = {task.name: task for task in schema().tasks if isinstance(task, BinaryTask)}
    assert {name for name, task in tasks.items() if task.after == "click"} == {"long_view"}
    assert {name for name, task in tasks.items() if task.space == "click"} == {"follow"}
    needs_a_click = {name for name in tasks if not (events[name] & ~events["click"]).any()}
    assert needs_a_click == {"click", "long_view", "follow"}


def test_signals_are_correlated_but_pull_apart(log: Log) -> None:
    labels = np.corrcoef(np.stack(list(log.feedback.events.values())))
    assert labels.min() > 0
    truth, clickbait = log.feedback.truth, log.world.items.clickbait[log.shown.item]
    with_bait = {name: np.corrcoef(p / truth["click"], clickbait)[0, 1] for name, p in truth.items() if name != "click"}
    assert np.corrcoef(truth["click"], clickbait)[0, 1] > 0.2
    assert with_bait["long_view"] < -0.2


def test_bayes_auc_is_what_the_true_probabilities_reach(log: Log) -> None:
    for name, bayes in bayes_auc(log).items():
        rows = log.feedback.events["click"] if name == "follow" else np.full(ROWS, True)
        happened = log.feedback.events[name][rows]
        observed = roc_auc_score(happened, log.feedback.truth[name][rows])
        assert 0.8 < bayes < 0.97
        assert abs(observed - bayes) < 4 * np.sqrt(bayes * (1 - bayes) / happened.sum())


@given(st.lists(st.tuples(st.floats(0.01, 0.99), st.floats(0.1, 2)), min_size=2, max_size=12, unique_by=lambda x: x[0]))
def test_expected_auc_counts_pairs(rows: list[tuple[float, float]]) -> None:
    won = total = 0.0
    for (p, w), (q, v) in itertools.product(rows, rows):
        pairs = p * w * (1 - q) * v
        total += pairs
        won += pairs * (p > q) + pairs / 2 * (p == q)
    assert expected_auc(*np.array(rows).T) == pytest.approx(won / total)


def test_labels_are_missing_where_the_logger_did_not_know(log: Log, raw: RawData) -> None:
    table = read(raw)
    unknown = {name: table[name].is_null().to_numpy() for name in (*RATES, "watch_time")}
    np.testing.assert_array_equal(unknown["comment"], log.shown.time_ms < 3 * DAY_MS)
    assert unknown["share"].mean() == pytest.approx(0.2, abs=0.02)
    assert unknown["watch_time"].mean() == pytest.approx(0.03, abs=0.01)
    assert not any(unknown[name].any() for name in ("click", "long_view", "like", "follow"))


def before(log: Log, row: int, happened: npt.NDArray[np.bool_], limit: int) -> list[int]:
    """Collect the items of a row's history with a walk through the log."""
    user, time = log.shown.user[row], log.shown.time_ms[row]
    earlier = (
        other
        for other in range(log.rows)
        if happened[other] and log.shown.user[other] == user and log.shown.time_ms[other] < time
    )
    return [int(log.shown.item[other]) for other in earlier][-limit:]


def test_sequences_are_the_log_strictly_before_the_impression() -> None:
    log = simulate(1_500, seed=5, users=100)
    table, items = read(raw_data(log)), log.world.items
    for name, (signal, limit) in HISTORIES.items():
        for row in range(0, log.rows, 7):
            expected = before(log, row, log.feedback.events[signal], limit)
            assert table[f"{name}_video"][row].as_py() == [int(items.ids[item]) for item in expected]
            assert table[f"{name}_author"][row].as_py() == [int(items.author[item]) for item in expected]
            assert table[f"{name}_tag"][row].as_py() == [f"tag_{items.topic[item]}" for item in expected]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6), st.booleans()), min_size=1, max_size=40))
def test_history_leaves_out_events_at_the_same_time(rows: list[tuple[int, int, bool]]) -> None:
    rows.sort(key=lambda row: row[1])
    user, time, happened = (np.array(column) for column in zip(*rows, strict=True))
    history = History.of(happened.astype(bool), user=user, item=np.arange(len(rows)).astype(np.int32), time=time)
    offsets, items = history.before(user, time, limit=3)
    for row, (u, t, _) in enumerate(rows):
        earlier = [i for i, (v, s, yes) in enumerate(rows) if yes and v == u and s < t]
        assert items[offsets[row] : offsets[row + 1]].tolist() == earlier[-3:]


def test_recent_clicks_say_what_is_clicked_next(raw: RawData) -> None:
    table = read(raw)
    last = [tags[-1].as_py() if len(tags) else None for tags in table["clicked_tag"]]
    same = np.array(last) == np.array(table["topic"].to_pylist())
    click = table["click"].to_numpy()
    assert click[same].mean() > click[~same].mean() + 0.05


def test_features_describe_the_world(log: Log, raw: RawData) -> None:
    table = read(raw)
    assert table["tags"][0].as_py()[0] == table["topic"][0].as_py()
    assert all(len(set(tags)) == len(tags) for tags in table["tags"].slice(0, 500).to_pylist())
    assert set(table["hour"].to_pylist()) == set(range(24))
    assert 0.05 < table["age_band"].null_count / ROWS < 0.3
    assert table["author_followers"].null_count > 0
    assert table["video_age_days"].to_numpy().min() > 0
    assert len(np.unique(log.world.users.ids)) == len(log.world.users.ids)


def test_popularity_is_zipf() -> None:
    shares = np.sort(zipf(np.random.default_rng(0), 1_000, exponent=1.0, offset=10))[::-1]
    ranks = np.arange(1, 1_001)
    np.testing.assert_allclose(shares * (ranks + 10), shares[0] * 11)
    assert shares.sum() == pytest.approx(1)


def test_few_items_get_many_impressions(log: Log) -> None:
    counts = np.sort(np.bincount(log.shown.item, minlength=len(log.world.items.ids)))[::-1]
    assert counts[: len(counts) // 100].sum() > 0.15 * ROWS


def test_the_world_shrinks_with_the_log() -> None:
    assert len(simulate(20_000).world.users.ids) == 2_000
    world = simulate(1_000, users=150, items=5_000).world
    assert (len(world.users.ids), len(world.items.ids)) == (150, 5_000)


def test_sizes_that_make_no_world_are_refused_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        prepare(10, users=5, seed=-1)
    assert error.value.problems == (
        "rows: 10 is too small, allowed: 1,000 or more",
        "users: 5 is too small, allowed: 100 or more",
        "seed: -1 is too small, allowed: 0 or more",
    )


def test_it_can_be_written(tmp_path: Path) -> None:
    spec = write_dataset(prepare(2_000), tmp_path / "data")
    assert {task.group for task in spec.tasks} == {"watch", "interaction"}
    assert [task.name for task in spec.tasks if task.space] == ["follow"]
