"""The log of the generated world: who was shown what, when, and what followed."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.prepare.synthetic_feedback import Bools, Feedback, draw_feedback
from pipelines.prepare.synthetic_world import DAYS, DEVICES, Codes, Ints, Items, Reals, World, draw_world
from recsys_mtl.config import ConfigError

BLOCK_ROWS = 65_536
"""Rows worked on at a time."""
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
TABS = ("recommended", "following", "nearby")
TAB_SHARES = (0.7, 0.2, 0.1)
LEAST_ROWS = 1_000
LEAST_USERS = 100
LARGEST_DEFAULT = 100_000
"""Users and items of a long log, unless told otherwise."""


@dataclass(frozen=True)
class Impressions:
    """Who was shown what, in order of time; users and items by position in the world."""

    user: Codes
    item: Codes
    time_ms: Ints
    """Milliseconds since the log began at midnight."""
    tab: Codes
    """Position in `TABS`: the part of the app."""


@dataclass(frozen=True)
class Log:
    """Impressions with everything that happened, known to the logger or not."""

    world: World
    shown: Impressions
    feedback: Feedback
    known: Mapping[str, Bools]
    """Where the logger knew a signal; signals that are not listed were always known."""

    @property
    def rows(self) -> int:
        """Number of impressions."""
        return len(self.shown.user)

    def splits(self) -> dict[str, slice]:
        """Cut the log in order of time: 80 % to learn from, then 10 % to validate on and 10 % to test on."""
        first, second = self.rows * 8 // 10, self.rows * 9 // 10
        return {"train": slice(0, first), "valid": slice(first, second), "test": slice(second, self.rows)}


def simulate(rows: int, *, seed: int = 0, users: int | None = None, items: int | None = None) -> Log:
    """Write a log of ``rows`` impressions; a tenth as many users and items unless told otherwise, up to 100,000 each.

    Raises:
        ConfigError: a size that is too small for a world, or a negative seed.
    """
    users, items = _size(users, rows), _size(items, rows)
    least = {"rows": LEAST_ROWS, "users": LEAST_USERS, "items": LEAST_USERS, "seed": 0}
    refuse_below(least, rows=rows, users=users, items=items, seed=seed)
    streams = [np.random.default_rng(stream) for stream in np.random.SeedSequence(seed).spawn(4)]
    world = draw_world(streams[0], users=users, items=items)
    shown = draw_impressions(streams[1], world, rows)
    feedback = draw_feedback(streams[2], effects_of(world, shown), world.items.duration_s[shown.item])
    return Log(world, shown, feedback, _known(streams[3], shown))


def draw_impressions(rng: np.random.Generator, world: World, rows: int) -> Impressions:
    """Draw users by activity; half of their videos by popularity within their topic of the day, half by popularity."""
    by_hour = 1.2 - np.cos(2 * np.pi * (np.arange(24) - 4) / 24)  # quiet at four, busy at four in the afternoon
    hour = rng.choice(24, rows, p=by_hour / by_hour.sum())
    time_ms = np.sort(rng.integers(DAYS, size=rows) * DAY_MS + hour * HOUR_MS + rng.integers(HOUR_MS, size=rows))
    user = _pick(rng.random(rows), world.users.activity)
    mood = world.users.mood[user, time_ms // DAY_MS]
    item = np.where(
        rng.random(rows) < 0.5, _pick_by_topic(rng, world.items, mood), _pick(rng.random(rows), world.items.popularity)
    )
    return Impressions(user, item, time_ms, rng.choice(len(TABS), rows, p=TAB_SHARES).astype(np.int32))


def effects_of(world: World, shown: Impressions) -> Reals:
    """Return what moves the signals at every impression, in the order of `synthetic_feedback.EFFECTS`."""
    starts = range(0, len(shown.user), BLOCK_ROWS)
    return np.concatenate([_effects(world, shown, slice(start, start + BLOCK_ROWS)) for start in starts])


def bayes_auc(log: Log, rows: slice = slice(None)) -> dict[str, float]:
    """Return the AUC that a model expects which knows every true probability: no model does better on average.

    That of ``follow`` is over clicked impressions, its sample space.
    """
    truth = {name: probability[rows].astype(np.float64) for name, probability in log.feedback.truth.items()}
    weight = {"follow": truth["click"]}
    return {name: expected_auc(p, weight.get(name, np.ones_like(p))) for name, p in truth.items()}


def expected_auc(probability: npt.NDArray[np.float64], weight: npt.NDArray[np.float64]) -> float:
    """Return the AUC of true probabilities as scores, with every row's label weighed by its probability."""
    order = np.argsort(probability)
    positive = (probability * weight)[order]
    negative = ((1 - probability) * weight)[order]
    beaten = np.cumsum(negative) - negative / 2
    return float((positive * beaten).sum() / (positive.sum() * negative.sum()))


def refuse_below(least: Mapping[str, int], **values: int) -> None:
    """Refuse numbers that are smaller than they may be.

    Raises:
        ConfigError: all of them at once.
    """
    small = [name for name, value in values.items() if value < least[name]]
    if small:
        raise ConfigError(f"{name}: {values[name]:,} is too small, allowed: {least[name]:,} or more" for name in small)


def _size(given: int | None, rows: int) -> int:
    return given if given is not None else min(max(rows // 10, LEAST_USERS), LARGEST_DEFAULT)


def _pick(uniform: npt.NDArray[np.float64], shares: npt.NDArray[np.float64]) -> Codes:
    edges = np.cumsum(shares)
    positions = np.searchsorted(edges, uniform * edges[-1], side="right")
    picks: Codes = np.minimum(positions, len(shares) - 1).astype(np.int32)
    return picks


def _pick_by_topic(rng: np.random.Generator, items: Items, topic: Codes) -> Codes:
    """Pick by popularity among the items of each row's topic; of any topic where there is none."""
    edges = np.concatenate([[0.0], np.cumsum(items.popularity)])
    first = edges[np.searchsorted(items.topic, topic, side="left")]
    last = edges[np.searchsorted(items.topic, topic, side="right")]
    empty = first == last
    first, last = np.where(empty, 0.0, first), np.where(empty, 1.0, last)
    return _pick((first + rng.random(len(topic)) * (last - first)) / edges[-1], items.popularity)


def _effects(world: World, shown: Impressions, rows: slice) -> Reals:
    users, items = world.users, world.items
    user, item, time_ms = shown.user[rows], shown.item[rows], shown.time_ms[rows]
    match_BK = users.taste_UK[user] * items.taste_IK[item]
    age_days = (time_ms - items.uploaded_ms[item]) / DAY_MS
    columns = (
        match_BK[:, :5].sum(axis=1) / np.sqrt(5),
        match_BK[:, 3:].sum(axis=1) / np.sqrt(5),
        users.mood[user, time_ms // DAY_MS] == items.topic[item],
        items.quality[item],
        items.clickbait[item],
        users.watcher[user],
        users.engager[user],
        np.exp(-age_days / 3),
        users.device[user] == DEVICES.index("tv"),
        shown.tab[rows] == TABS.index("following"),
    )
    return np.stack(columns, axis=1).astype(np.float32)


def _known(rng: np.random.Generator, shown: Impressions) -> dict[str, Bools]:
    """Say what the logger knew: comments from the fourth day on, four shares of five, nearly every watch time."""
    return {
        "comment": shown.time_ms >= 3 * DAY_MS,
        "share": rng.random(len(shown.user)) < 0.8,
        "watch_time": rng.random(len(shown.user)) < 0.97,
    }
