"""Point-in-time counters of KuaiRand: how often a user, a video or a topic was shown before, and with what result."""

from collections.abc import Mapping

import polars as pl

from pipelines.prepare.kuairand_files import LABELS
from pipelines.prepare.kuairand_history import earlier_sums

COUNTED: Mapping[str, tuple[str, ...]] = {
    "user": ("user_id",),
    "video": ("video_id",),
    "author": ("author_id",),
    "tag": ("one_tag",),
    "user_tag": ("user_id", "one_tag"),
}
"""What is counted and the columns that identify it. A video with several tags counts under each of them."""

PRIOR_IMPRESSIONS = 10.0
PRIOR_POSITIVES = 1.0
"""The global rate weighs as much as ten impressions and those that hold one positive. Without the second part, a
hundred impressions without a like, where two are the average, would pass for strong evidence against liking."""

WATCH_UPPER_S = 300.0
"""Watch time counts up to five minutes: .28 % of the impressions before 2022-05-02 are longer, up to a quarter of an
hour, and these few would decide means and squared errors."""


def counter_columns(entity: str) -> tuple[str, ...]:
    """Name the counters of one counted thing."""
    lifts = (f"{entity}_{signal}_lift" for signal in (*LABELS, "watch_time"))
    return (f"{entity}_impressions", f"{entity}_clicks_known", *lifts)


CROSSES = frozenset(counter_columns("user_tag"))
"""Counters of user and video together, which no row of a video can hold."""


def counters(impressions: pl.DataFrame) -> pl.DataFrame:
    """Compute every counter of every impression from the impressions with a strictly smaller ``time_ms``.

    A rate is handed over as a lift: log-odds of the smoothed rate less log-odds of the global rate, both as of that
    moment. 0 stands for no evidence, and the rate of a whole day, which drifts, is not in it.

    Args:
        impressions: ``row``, keys, ``time_ms``, labels and ``play_time_ms``; an empty label is unknown and counts
            neither as shown nor as positive.
    """
    rows = impressions.select("row", "time_ms", "user_id", "video_id", "author_id", "tag", *amounts(), everyone=0)
    rows = rows.with_columns(pl.col("tag").str.split(",").list.unique(maintain_order=True).alias("one_tag"))
    by_tag = rows.explode("one_tag")
    world = earlier_sums(rows, ["everyone"], list(amount_names())).select(pl.exclude("row").name.prefix("all_"))
    blocks = []
    for entity, key in COUNTED.items():
        sums = earlier_sums(by_tag if "one_tag" in key else rows, key, list(amount_names()))
        sums = sums.group_by("row").sum() if "one_tag" in key else sums
        sums = rows.select("row").join(sums, on="row", how="left", maintain_order="left").fill_null(0)
        blocks.append(pl.concat([sums, world], how="horizontal").select(named(entity)))
    return pl.concat(blocks, how="horizontal")


def amounts() -> list[pl.Expr]:
    """What an impression adds to the totals; milliseconds stay whole so that the totals are exact."""
    known = [pl.col(label).is_not_null().cast(pl.Int64).alias(f"known_{label}") for label in LABELS]
    positive = [pl.col(label).fill_null(0).cast(pl.Int64).alias(f"positive_{label}") for label in LABELS]
    played = pl.col("play_time_ms")
    watched = played.clip(upper_bound=1000 * WATCH_UPPER_S).round().fill_null(0).cast(pl.Int64).alias("watched_ms")
    timed = played.is_not_null().cast(pl.Int64).alias("timed")
    return [pl.lit(1, pl.Int64).alias("impressions"), timed, watched, *known, *positive]


def amount_names() -> tuple[str, ...]:
    """Name the totals, in the order of `amounts`."""
    pairs = [f"{part}_{label}" for part in ("known", "positive") for label in LABELS]
    return ("impressions", "timed", "watched_ms", *pairs)


def named(entity: str) -> list[pl.Expr]:
    """Turn the totals into the counters of one counted thing."""
    parts = [pl.col("impressions"), pl.col("known_is_click"), *(lift(label) for label in LABELS), watch_time_lift()]
    pairs = zip(parts, counter_columns(entity), strict=True)
    return [part.cast(pl.Float32).alias(name) for part, name in pairs]


def lift(label: str) -> pl.Expr:
    """Log-odds of the smoothed rate over the global rate so far; half a positive keeps the latter off 0 and 1."""
    world = (pl.col(f"all_positive_{label}") + 0.5) / (pl.col(f"all_known_{label}") + 1)
    weight = PRIOR_IMPRESSIONS + PRIOR_POSITIVES / world
    rate = (pl.col(f"positive_{label}") + weight * world) / (pl.col(f"known_{label}") + weight)
    return log_odds(rate) - log_odds(world)


def log_odds(rate: pl.Expr) -> pl.Expr:
    """Map a rate strictly between 0 and 1 to the whole axis."""
    return (rate / (1 - rate)).log()


def watch_time_lift() -> pl.Expr:
    """Smoothed mean watch time over the global mean so far, both as log(1 + seconds)."""
    world = pl.col("all_watched_ms") / 1000 / pl.max_horizontal(pl.col("all_timed"), 1)
    seconds = pl.col("watched_ms") / 1000 + PRIOR_IMPRESSIONS * world
    return (seconds / (pl.col("timed") + PRIOR_IMPRESSIONS)).log1p() - world.log1p()
