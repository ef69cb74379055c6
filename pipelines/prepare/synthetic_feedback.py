"""What users do with what they are shown: correlated signals whose true probabilities are known."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.prepare.synthetic_world import Reals

Bools = npt.NDArray[np.bool_]

EFFECTS = (
    "watch taste", "social taste", "mood", "quality", "clickbait", "watcher", "engager", "fresh", "tv", "following",
)  # fmt: skip
"""What moves the signals; each is about one standard deviation wide."""
WATCH_NOISE = 0.5
"""Scale of the logistic noise of the logarithm of watch time."""


@dataclass(frozen=True)
class Signal:
    """One kind of feedback: how often it happens and what moves it."""

    rate: float
    """Share of all impressions that have it."""
    effects: Mapping[str, float]
    after_click: float = 0.0
    """What a click adds to the logit."""

    def logits(self, effects_BE: Reals) -> Reals:
        """Weigh the effects; the intercept is left to `calibrate`."""
        weights = np.array([self.effects.get(name, 0.0) for name in EFFECTS], dtype=np.float32)
        logits_B: Reals = np.einsum("be,e->b", effects_BE, weights)
        return logits_B


# Taste and quality are shared by all. Clickbait divides click from everything after it, comments go against the
# taste for watching, and watchers are not the engagers.
CLICK = Signal(0.40, {"watch taste": 1.0, "social taste": 0.2, "mood": 1.0, "quality": 0.5, "clickbait": 0.7,
                      "watcher": 0.7, "fresh": 0.2})  # fmt: skip
LONG_VIEW = Signal(0.20, {"watch taste": 0.35, "mood": 0.25, "quality": 0.3, "clickbait": -0.35, "watcher": 0.25,
                          "tv": 0.15})  # fmt: skip
FOLLOW = Signal(0.006, {"watch taste": 0.2, "social taste": 0.9, "quality": 0.9, "clickbait": -0.3, "engager": 0.9,
                        "following": -1.0})  # fmt: skip
INTERACTIONS = {
    "like": Signal(0.04, {"watch taste": 0.5, "social taste": 0.8, "mood": 0.4, "quality": 0.7, "clickbait": -0.3,
                          "engager": 1.0}, after_click=1.5),
    "comment": Signal(0.01, {"watch taste": -0.4, "social taste": 1.0, "clickbait": 0.5, "engager": 1.2, "fresh": 0.4,
                             "tv": -0.3, "following": 0.5}, after_click=1.0),
    "share": Signal(0.002, {"social taste": 0.9, "mood": 0.6, "quality": 1.0, "clickbait": 0.3, "engager": 1.0},
                    after_click=1.0),
}  # fmt: skip
RATES = {
    "click": CLICK.rate, "long_view": LONG_VIEW.rate, "follow": FOLLOW.rate,
    **{name: signal.rate for name, signal in INTERACTIONS.items()},
}  # fmt: skip
"""Share of all impressions that each binary signal is calibrated to."""


@dataclass(frozen=True)
class Feedback:
    """What happened at every impression, and how likely it was."""

    events: Mapping[str, Bools]
    watch_time_s: Reals
    truth: Mapping[str, Reals]
    """True probability of every binary signal; of ``follow``, given a click."""


def draw_feedback(rng: np.random.Generator, effects_BE: Reals, duration_s: Reals) -> Feedback:
    """Draw every signal; a long view and a follow need a click, a click makes the rest more likely."""
    logit = CLICK.logits(effects_BE)
    p_click = sigmoid(logit + calibrate(lambda b: sigmoid(logit + b).mean(), CLICK.rate))
    events, truth = {"click": _happens(rng, p_click)}, {"click": p_click}
    events["long_view"], truth["long_view"], watch_time_s = _watch(
        rng, effects_BE, duration_s, events["click"], p_click
    )
    logit = FOLLOW.logits(effects_BE)
    truth["follow"] = sigmoid(logit + calibrate(lambda b: (p_click * sigmoid(logit + b)).mean(), FOLLOW.rate))
    events["follow"] = events["click"] & _happens(rng, truth["follow"])
    for name, signal in INTERACTIONS.items():
        events[name], truth[name] = _interact(rng, signal, effects_BE, events["click"], p_click)
    return Feedback(events, watch_time_s, truth)


def _watch(
    rng: np.random.Generator, effects_BE: Reals, duration_s: Reals, click: Bools, p_click: Reals
) -> tuple[Bools, Reals, Reals]:
    """Draw watch times; a view is long from the video's end or 18 s on, whichever comes first.

    The logarithm of a clicked video's watch time has logistic noise, so that the chance of a long view is a sigmoid.
    """
    long_s = np.minimum(duration_s, np.float32(18))
    needed = np.log(long_s)
    median = LONG_VIEW.logits(effects_BE) + 0.5 * np.log(duration_s)
    intercept = calibrate(lambda b: (p_click * sigmoid((median + b - needed) / WATCH_NOISE)).mean(), LONG_VIEW.rate)
    median = median + np.float32(intercept)
    uniform = rng.random(len(click), dtype=np.float32).clip(1e-6, 1 - 1e-6)
    clicked_s = np.exp(median + WATCH_NOISE * np.log(uniform / (1 - uniform))).clip(0.1, 3 * duration_s)
    long_view = click & (clicked_s >= long_s)
    skipped_s = 3.0 * rng.random(len(click), dtype=np.float32)  # below every threshold: the shortest video has 5 s
    watch_time_s = np.where(click, clicked_s, skipped_s)
    return long_view, (p_click * sigmoid((median - needed) / WATCH_NOISE)).astype(np.float32), watch_time_s


def _interact(
    rng: np.random.Generator, signal: Signal, effects_BE: Reals, click: Bools, p_click: Reals
) -> tuple[Bools, Reals]:
    logit, lift = signal.logits(effects_BE), np.float32(signal.after_click)

    def marginal(intercept: float) -> Reals:
        return p_click * sigmoid(logit + intercept + lift) + (1 - p_click) * sigmoid(logit + intercept)

    intercept = calibrate(lambda b: marginal(b).mean(), signal.rate)
    return _happens(rng, sigmoid(logit + intercept + lift * click)), marginal(intercept)


def calibrate(share: Callable[[float], float | np.floating], target: float) -> float:
    """Find the intercept at which an increasing share reaches ``target``, by bisection."""
    low, high = -20.0, 20.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if share(middle) < target else (low, middle)
    return (low + high) / 2


def sigmoid(logits: npt.NDArray[np.floating]) -> Reals:
    """Return probabilities in single precision, without overflow."""
    return (1 / (1 + np.exp(-logits.clip(-60, 60).astype(np.float32)))).astype(np.float32)


def _happens(rng: np.random.Generator, probability: Reals) -> Bools:
    return rng.random(len(probability), dtype=np.float32) < probability
