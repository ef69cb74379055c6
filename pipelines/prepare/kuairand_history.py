"""What lay before each KuaiRand impression: exact running totals, and each user's earlier behaviours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from pydantic import PositiveInt

from pipelines.prepare.columns import Column, list_column
from recsys_mtl.config import Config

BEHAVIOURS: Mapping[str, str] = {"clicked": "is_click", "liked": "is_like", "long_viewed": "long_view"}
"""Each behaviour that is remembered in order, and the label that marks it. An unknown label is no behaviour."""

EVENT_COLUMNS = ("video_id", "author_id", "tag")
"""What is remembered of a behaviour."""


class HistoryLengths(Config):
    """How many of a user's most recent behaviours an impression sees."""

    clicked: PositiveInt = 50
    liked: PositiveInt = 20
    """Likes are rare: 20 reach back as far as hundreds of views."""
    long_viewed: PositiveInt = 50


def earlier_sums(rows: pl.DataFrame, key: Sequence[str], amounts: Sequence[str]) -> pl.DataFrame:
    """Sum ``amounts`` over the rows of the same key with a strictly smaller ``time_ms``.

    Rows with an empty key have nothing before them and are left out. Amounts are whole numbers, so that the difference
    of two running totals is exact: rows that do not belong to it cannot change it.

    Returns:
        ``row`` and the sums, in the order of ``row``.
    """
    rows = rows.select("row", "time_ms", *key, *amounts).drop_nulls(key).sort(*key, "time_ms", "row")
    new_key = pl.any_horizontal(pl.col(key).ne_missing(pl.col(key).shift())) | (pl.int_range(pl.len()) == 0)
    new_time = new_key | pl.col("time_ms").ne_missing(pl.col("time_ms").shift())
    start = rows.select(run_start(new_key).alias("key"), run_start(new_time).alias("time"))
    total = pl.col(amounts).cast(pl.Int64).cum_sum().shift(fill_value=0)
    return rows.select("row", total.gather(start["time"]) - total.gather(start["key"])).sort("row")


def run_start(is_new: pl.Expr) -> pl.Expr:
    """Position of the first row of the run that a row belongs to."""
    return pl.when(is_new).then(pl.int_range(pl.len())).forward_fill()


@dataclass(frozen=True)
class Behaviours:
    """All behaviours of one kind, user after user and oldest first, and where each impression's history lies in them.

    An impression holds two positions instead of a list, so that only the table being handed over holds lists.
    """

    name: str
    events: pl.DataFrame
    positions: pl.DataFrame
    """Per impression, in its order: its history's first event and the one after its last."""

    def lists(self, impressions: pl.DataFrame) -> dict[str, Column]:
        """Cut the aligned list columns of some impressions, which carry their positions, out of the events."""
        first, end = (impressions[name] for name in self.positions.columns)
        offsets = np.append(0, (end - first).cum_sum().to_numpy()).astype(np.int32)
        wanted = pl.select(pl.int_ranges(first, end).explode().drop_nulls()).to_series()
        found = self.events[wanted]
        return {f"{self.name}_{name}": list_column(offsets, arrow(found[name])) for name in EVENT_COLUMNS}


def arrow(values: pl.Series) -> Column:
    """Hand a column over to Arrow, text as plain text rather than views."""
    return values.to_arrow(compat_level=pl.CompatLevel.oldest())


def behaviours(impressions: pl.DataFrame, name: str, max_length: int) -> Behaviours:
    """Collect one kind of behaviour and each impression's part of it: earlier ones of its user, the latest last."""
    done = pl.col(BEHAVIOURS[name]).fill_null(0)
    rows = impressions.select("row", "user_id", "time_ms", done.cast(pl.Int64).alias("done"))
    earlier = earlier_sums(rows, ["user_id"], ["done"])["done"]
    per_user = rows.group_by("user_id").agg(pl.col("done").sum()).sort("user_id")
    user_start = per_user.select("user_id", pl.col("done").cum_sum().shift(fill_value=0).alias("start"))
    start = rows.join(user_start, on="user_id", how="left", maintain_order="left")["start"]
    positions = pl.select(
        pl.max_horizontal(start, start + earlier - max_length).alias(f"{name}_first"),
        (start + earlier).alias(f"{name}_end"),
    )
    events = impressions.filter(done == 1).sort("user_id", "time_ms", "row").select(EVENT_COLUMNS)
    return Behaviours(name, events, positions)
