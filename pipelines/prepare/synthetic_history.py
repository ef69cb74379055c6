"""What a user did before an impression, taken from the log itself."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.prepare.synthetic_world import Codes, Ints


@dataclass(frozen=True)
class History:
    """Events of one kind, ordered by user and time, ready to be looked up for many impressions at once."""

    keys: Ints
    """User and time in one number, increasing."""
    items: Codes
    span: int
    """More than any time: the distance between the keys of two users."""

    @classmethod
    def of(cls, happened: npt.NDArray[np.bool_], *, user: Codes, item: Codes, time: Ints) -> "History":
        """Collect the impressions where something happened."""
        span = int(time.max(initial=0)) + 1
        keys = user[happened].astype(np.int64) * span + time[happened]
        order = np.argsort(keys, kind="stable")
        return cls(keys[order], item[happened][order], span)

    def before(self, user: Codes, time: Ints, *, limit: int) -> tuple[npt.NDArray[np.int32], Codes]:
        """Return offsets and items of each row's last ``limit`` events strictly before its time, oldest first."""
        start_of_user = user.astype(np.int64) * self.span
        end = np.searchsorted(self.keys, start_of_user + time, side="left")
        start = np.maximum(np.searchsorted(self.keys, start_of_user, side="left"), end - limit)
        lengths = end - start
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        positions = np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], lengths)
        return offsets.astype(np.int32), self.items[positions]
