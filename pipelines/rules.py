"""Rules: what the numbers say under a policy, one by one, and what follows from it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pipelines.policy import DecidedBy

Decision = Literal["promote", "keep", "reject"]


class Estimate(NamedTuple):
    """A number with its interval; NaN where the rows do not define it, or are too few for an interval."""

    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Finding:
    """What came of one rule."""

    rule: str
    """Such as ``is_like gauc``."""
    limit: str
    """Such as ``>= -0.001``."""
    champion: float
    candidate: float
    estimate: Estimate
    """Of what is limited: a difference from the champion, or the candidate's own number."""
    passes: bool
    harm: bool = False
    """Whether the version is shown to be bad, and not only not to be good."""
    note: str = ""


def decide(findings: Sequence[Finding]) -> Decision:
    """Promote what passes every rule; reject what is shown to do harm; keep the champion otherwise."""
    if any(finding.harm for finding in findings):
        return "reject"
    return "promote" if all(finding.passes for finding in findings) else "keep"


def gains(gain: Estimate, margin: float) -> tuple[bool, bool]:
    """Tell whether a gain is enough, and whether it is shown to be a loss.

    A gain whose interval reaches down to the margin may be noise. A loss that is surely within a negative margin is
    allowed, and no harm.
    """
    passes = gain.low > margin
    return passes, not passes and gain.high < 0


def stays_above(difference: Estimate, least: float, decided_by: DecidedBy) -> tuple[bool, bool]:
    """Tell whether a difference keeps to its limit, and whether it is shown not to."""
    harm = difference.high < least
    outside = harm or not difference.value >= least
    unsafe = outside or not difference.low >= least
    return not {"harm": harm, "estimate": outside, "safety": unsafe}[decided_by], harm


def stays_within(
    ratio: Estimate, within: tuple[float, float], champion: float, decided_by: DecidedBy
) -> tuple[bool, bool]:
    """Tell whether a ratio is in its range, and whether it is shown not to be.

    The range reaches at least as far as the champion's own ratio: to refuse what is no farther off would keep the
    worse of the two.
    """
    low, high = within
    if champion > 0:
        low, high = min(low, champion), max(high, champion)
    harm = ratio.high < low or ratio.low > high
    outside = harm or not low <= ratio.value <= high
    unsafe = outside or not (low <= ratio.low and ratio.high <= high)
    return not {"harm": harm, "estimate": outside, "safety": unsafe}[decided_by], harm
