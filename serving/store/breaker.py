"""The circuit breaker: who has not answered several times in a row is left alone for a while."""

import time
from dataclasses import dataclass

FAILURES = 3
"""In a row, after which nobody asks for a while."""
PAUSE_SECONDS = 1.0


@dataclass
class Breaker:
    """Says whether to ask. After a pause a single request tries, and the others wait for what it finds."""

    failures: int = 0
    until: float = 0.0

    def allows(self) -> bool:
        """Tell whether to ask; who is told yes must say what came of it."""
        if self.failures < FAILURES:
            return True
        if time.monotonic() < self.until:
            return False
        self.until = time.monotonic() + PAUSE_SECONDS
        return True

    def succeeded(self) -> None:
        """Note an answer."""
        self.failures = 0

    def failed(self) -> None:
        """Note that there was none."""
        self.failures += 1
        self.until = time.monotonic() + PAUSE_SECONDS
