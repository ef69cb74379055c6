"""The generated short-video world: who watches, what there is to watch, and who likes what."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.prepare.columns import Column, list_column, text_column

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]
Reals = npt.NDArray[np.float32]

DAYS = 14
"""Length of the log."""
TASTE_DIM = 8
"""K, the width of the latent tastes."""
FAVOURITES = 3
"""Topics that a user comes back to."""
AGE_BANDS = ("12-17", "18-24", "25-34", "35-49", "50+")
CITY_TIERS = ("metropolis", "city", "town", "village")
DEVICES = ("android", "ios", "tablet", "tv")
DEVICE_SHARES = (0.6, 0.25, 0.1, 0.05)


@dataclass(frozen=True)
class Users:
    """Everybody who watches, by position; ids carry no meaning."""

    ids: Ints
    taste_UK: Reals
    activity: npt.NDArray[np.float64]
    """Share of the impressions."""
    watcher: Reals
    """Inclination to watch."""
    engager: Reals
    """Inclination to like, follow, comment and share; hardly related to watching."""
    favourites: Codes
    """``(U, FAVOURITES)`` topics of interest."""
    mood: Codes
    """``(U, DAYS)`` topic of the day, one of the favourites: what recent clicks give away."""
    age_band: Codes
    """Position in `AGE_BANDS`; -1 where the user did not say."""
    city_tier: Codes
    device: Codes
    registered_days: Codes


@dataclass(frozen=True)
class Items:
    """Every video, by position, ordered by main topic."""

    ids: Ints
    taste_IK: Reals
    popularity: npt.NDArray[np.float64]
    """Share of the impressions that are not chosen by topic."""
    topic: Codes
    """Main tag."""
    tags: Column
    """All tags, the main one first."""
    author: Ints
    author_followers: Reals
    """NaN where the count is not known."""
    quality: Reals
    """What everybody likes; authors differ in it."""
    clickbait: Reals
    """What makes people click and then leave."""
    duration_s: Reals
    uploaded_ms: Ints
    """Upload, in milliseconds before the log begins; negative."""


@dataclass(frozen=True)
class World:
    """All that stays the same while the log is written."""

    users: Users
    items: Items
    num_tags: int


def draw_world(rng: np.random.Generator, *, users: int, items: int) -> World:
    """Draw a world in which videos resemble their authors and tags, and users their age and city."""
    num_tags = int(np.clip(items // 500, 20, 200))
    tag_taste = _normal(rng, num_tags, TASTE_DIM)
    return World(_draw_users(rng, users, tag_taste), _draw_items(rng, items, tag_taste), num_tags)


def zipf(rng: np.random.Generator, size: int, *, exponent: float, offset: float) -> npt.NDArray[np.float64]:
    """Return shares that fall with rank as ``1 / (rank + offset) ** exponent``, in random order."""
    weights = 1.0 / (rng.permutation(size) + 1.0 + offset) ** exponent
    return weights / weights.sum()  # type: ignore[no-any-return]


def _draw_users(rng: np.random.Generator, size: int, tag_taste: Reals) -> Users:
    age, city = _codes(rng, len(AGE_BANDS), size), _codes(rng, len(CITY_TIERS), size)
    by_age, by_city = _normal(rng, len(AGE_BANDS), TASTE_DIM), _normal(rng, len(CITY_TIERS), TASTE_DIM)
    taste = 0.55 * by_age[age] + 0.35 * by_city[city] + 0.75 * _normal(rng, size, TASTE_DIM)
    favourites = _favourites(rng, taste, tag_taste)
    mood = np.take_along_axis(favourites, rng.integers(FAVOURITES, size=(size, DAYS)), axis=1)
    young = (2 - age) / 2
    return Users(
        ids=1_000_000 + rng.permutation(size),
        taste_UK=taste,
        activity=zipf(rng, size, exponent=0.7, offset=20),
        watcher=_normal(rng, size),
        engager=(0.5 * young + _normal(rng, size)).astype(np.float32),
        favourites=favourites,
        mood=mood,
        age_band=np.where(rng.random(size) < 0.15, -1, age).astype(np.int32),
        city_tier=city,
        device=rng.choice(len(DEVICES), size, p=DEVICE_SHARES).astype(np.int32),
        registered_days=rng.gamma(1.5, 300, size).astype(np.int32),
    )


def _favourites(rng: np.random.Generator, taste_UK: Reals, tag_taste: Reals) -> Codes:
    """Pick each user's tags: the ones of highest affinity, with some luck, a block of users at a time."""
    picks = []
    for block in np.array_split(taste_UK, max(1, len(taste_UK) // 8192)):
        affinity = np.einsum("uk,tk->ut", block, tag_taste) + rng.gumbel(size=(len(block), len(tag_taste)))
        picks.append(np.argpartition(-affinity, FAVOURITES, axis=1)[:, :FAVOURITES])
    return np.concatenate(picks).astype(np.int32)


def _draw_items(rng: np.random.Generator, size: int, tag_taste: Reals) -> Items:
    num_tags, num_authors = len(tag_taste), max(10, size // 20)
    author_of = rng.choice(num_authors, size, p=zipf(rng, num_authors, exponent=0.8, offset=10))
    author_topic = _codes(rng, num_tags, num_authors)
    author_quality, author_taste = _normal(rng, num_authors), _normal(rng, num_authors, TASTE_DIM)
    topic = np.where(rng.random(size) < 0.75, author_topic[author_of], _codes(rng, num_tags, size))
    order = np.argsort(topic, kind="stable")
    author_of, topic = author_of[order], topic[order].astype(np.int32)
    followers = np.expm1(5 + 1.2 * author_quality + 0.8 * _normal(rng, num_authors)).clip(0)
    followers[rng.random(num_authors) < 0.05] = np.nan
    noise = 0.35 * _normal(rng, size, TASTE_DIM)
    return Items(
        ids=5_000_000 + rng.permutation(size),
        taste_IK=0.75 * tag_taste[topic] + 0.55 * author_taste[author_of] + noise,
        popularity=zipf(rng, size, exponent=1.0, offset=10),
        topic=topic,
        tags=_tag_lists(rng, topic, num_tags),
        author=9_000 + rng.permutation(num_authors)[author_of],
        author_followers=np.round(followers[author_of]).astype(np.float32),
        quality=0.8 * author_quality[author_of] + 0.6 * _normal(rng, size),
        clickbait=_normal(rng, size),
        duration_s=np.exp(3.0 + 0.7 * _normal(rng, size)).clip(5, 300).round(1).astype(np.float32),
        uploaded_ms=-rng.integers(1, 30 * 86_400_000, size),
    )


def _tag_lists(rng: np.random.Generator, topic: Codes, num_tags: int) -> Column:
    """Give every video its topic and up to two other tags."""
    shift = 1 + rng.integers((num_tags - 1) // 2, size=(len(topic), 2))
    tags = np.stack([topic, topic + shift[:, 0], topic + shift.sum(axis=1)], axis=1) % num_tags
    counts = 1 + rng.integers(3, size=len(topic))
    kept = tags[np.arange(3) < counts[:, None]]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return list_column(offsets, tag_names(kept))


def tag_names(codes: npt.NDArray[np.integer]) -> Column:
    """Write tags as text."""
    return text_column([f"tag_{code}" for code in range(int(codes.max(initial=0)) + 1)], codes)


def _normal(rng: np.random.Generator, *shape: int) -> Reals:
    return rng.standard_normal(shape, dtype=np.float32)


def _codes(rng: np.random.Generator, count: int, size: int) -> Codes:
    return rng.integers(count, size=size).astype(np.int32)
