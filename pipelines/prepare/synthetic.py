"""A generated data set: a short-video world with several kinds of feedback, or the MMoE paper's two regressions."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.prepare import synthetic_mmoe
from pipelines.prepare.columns import Column, column, list_column, text_column
from pipelines.prepare.synthetic_history import History
from pipelines.prepare.synthetic_log import BLOCK_ROWS, DAY_MS, HOUR_MS, TABS, Log, simulate
from pipelines.prepare.synthetic_world import AGE_BANDS, CITY_TIERS, DEVICES, Items, tag_names
from recsys_mtl.config import ConfigError
from recsys_mtl.data.raw import RawData
from recsys_mtl.data.schema import (
    Feature,
    IdFeature,
    IdsFeature,
    NumberFeature,
    Schema,
    SequenceColumn,
    SequenceFeature,
    Table,
    Vocabulary,
)
from recsys_mtl.tasks import BinaryTask, RegressionTask

HISTORIES = {"clicked": ("click", 20), "liked": ("like", 10)}
"""Behaviour sequences: the signal that makes an event, and how many are kept."""


def prepare(
    rows: int = 1_000_000,
    *,
    seed: int = 0,
    users: int | None = None,
    items: int | None = None,
    correlation: float | None = None,
) -> RawData:
    """Generate a data set; the same arguments give the same rows.

    Args:
        rows: Impressions, or examples of the paper's data.
        seed: Where all randomness comes from.
        users: A tenth of the rows, at most 100,000, where it is not given.
        items: As for users.
        correlation: The MMoE paper's data with this cosine between its two tasks instead of the short-video world.

    Raises:
        ConfigError: a size or a correlation that is out of range.
    """
    if correlation is None:
        return raw_data(simulate(rows, seed=seed, users=users, items=items))
    if users is not None or items is not None:
        raise ConfigError(["correlation: the MMoE paper's data has no users or items; leave them out"])
    return synthetic_mmoe.prepare(rows, correlation=correlation, seed=seed)


def raw_data(log: Log) -> RawData:
    """Split a log in order of time and describe its columns."""
    histories = {
        name: History.of(log.feedback.events[signal], user=log.shown.user, item=log.shown.item, time=log.shown.time_ms)
        for name, (signal, _) in HISTORIES.items()
    }
    return RawData(schema(), {split: _tables(log, histories, rows) for split, rows in log.splits().items()})


def schema() -> Schema:
    """Describe the short-video world."""
    rare, seldom = Table(encoding=Vocabulary(min_count=5)), Table(encoding=Vocabulary(min_count=3))
    return Schema(
        features=(*_user_features(), *_item_features(), *_context_features()),
        tasks=(
            BinaryTask(name="click", group="watch"),
            BinaryTask(name="long_view", group="watch", after="click"),
            RegressionTask(name="watch_time", group="watch", unit="s", upper=900),
            BinaryTask(name="like", group="interaction"),
            BinaryTask(name="follow", group="interaction", space="click"),
            BinaryTask(name="comment", group="interaction"),
            BinaryTask(name="share", group="interaction"),
        ),
        tables={"user_id": rare, "video_id": rare, "author_id": seldom, "tag": Table(dim=8)},
        group="user_id",
        item="video_id",
    )


def _user_features() -> tuple[Feature, ...]:
    return (
        IdFeature(name="user_id", entity="user"),
        IdFeature(name="age_band", entity="user"),
        IdFeature(name="city_tier", entity="user", default="city"),
        NumberFeature(name="registered_days", entity="user", log1p=True, standardise=True),
        *(_history_feature(name, limit) for name, (_, limit) in HISTORIES.items()),
    )


def _history_feature(name: str, limit: int) -> SequenceFeature:
    parts = {"video": "video_id", "author": "author_id", "tag": "tag"}
    columns = tuple(SequenceColumn(name=f"{name}_{part}", table=table) for part, table in parts.items())
    return SequenceFeature(name=name, entity="user", columns=columns, max_length=limit)


def _item_features() -> tuple[Feature, ...]:
    return (
        IdFeature(name="video_id", entity="item"),
        IdFeature(name="author_id", entity="item"),
        IdFeature(name="topic", entity="item", table="tag"),
        IdsFeature(name="tags", entity="item", table="tag", pooling="mean", max_length=3),
        NumberFeature(name="duration_s", entity="item", log1p=True, standardise=True),
        NumberFeature(name="author_followers", entity="item", log1p=True, standardise=True),
        NumberFeature(name="video_age_days", entity="item", boundaries=(1, 3, 7, 14, 30)),
    )


def _context_features() -> tuple[Feature, ...]:
    names = ("hour", "weekday", "device", "tab")
    return tuple(IdFeature(name=name, entity="context") for name in names)


def _tables(log: Log, histories: dict[str, History], rows: slice) -> Callable[[], Iterator[pa.Table]]:
    def start() -> Iterator[pa.Table]:
        for first in range(rows.start, rows.stop, BLOCK_ROWS):
            block = slice(first, min(first + BLOCK_ROWS, rows.stop))
            columns = _user_columns(log, block) | _item_columns(log, block) | _context_columns(log, block)
            yield pa.table(columns | _history_columns(log, histories, block) | _label_columns(log, block))

    return start


def _user_columns(log: Log, rows: slice) -> dict[str, Column]:
    users, user = log.world.users, log.shown.user[rows]
    return {
        "user_id": column(users.ids[user]),
        "age_band": text_column(AGE_BANDS, users.age_band[user]),
        "city_tier": text_column(CITY_TIERS, users.city_tier[user]),
        "registered_days": column(users.registered_days[user]),
    }


def _item_columns(log: Log, rows: slice) -> dict[str, Column]:
    items, item = log.world.items, log.shown.item[rows]
    age_ms = log.shown.time_ms[rows] - items.uploaded_ms[item]
    return {
        **_video_columns(items, item),
        "tags": items.tags.take(column(item)),
        "duration_s": column(items.duration_s[item]),
        "author_followers": column(items.author_followers[item]),
        "video_age_days": column((age_ms / DAY_MS).round(2)),
    }


def _video_columns(items: Items, item: npt.NDArray[np.int32]) -> dict[str, Column]:
    columns = {"video_id": column(items.ids[item]), "author_id": column(items.author[item])}
    return columns | {"topic": tag_names(items.topic[item])}


def _context_columns(log: Log, rows: slice) -> dict[str, Column]:
    time_ms = log.shown.time_ms[rows]
    return {
        "hour": column(time_ms // HOUR_MS % 24),
        "weekday": column(time_ms // DAY_MS % 7),
        "device": text_column(DEVICES, log.world.users.device[log.shown.user[rows]]),
        "tab": text_column(TABS, log.shown.tab[rows]),
    }


def _history_columns(log: Log, histories: dict[str, History], rows: slice) -> dict[str, Column]:
    columns: dict[str, Column] = {}
    for name, (_, limit) in HISTORIES.items():
        offsets, item = histories[name].before(log.shown.user[rows], log.shown.time_ms[rows], limit=limit)
        values = dict(zip(("video", "author", "tag"), _video_columns(log.world.items, item).values(), strict=True))
        columns |= {f"{name}_{part}": list_column(offsets, flat) for part, flat in values.items()}
    return columns


def _label_columns(log: Log, rows: slice) -> dict[str, Column]:
    events = log.feedback.events.items()
    labels: dict[str, npt.NDArray[Any]] = {name: happened[rows].astype(np.int8) for name, happened in events}
    labels["watch_time"] = log.feedback.watch_time_s[rows]
    known = {name: mask[rows] for name, mask in log.known.items()}
    return {name: column(values, known=known.get(name)) for name, values in labels.items()}
