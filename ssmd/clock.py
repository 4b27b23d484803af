"""Time, handed in: the machine's own, or the one a recording tells."""

import time
from typing import Protocol

SECOND_NS = 1_000_000_000
DAY_NS = 86_400 * SECOND_NS


class Clock(Protocol):
    def now_ns(self) -> int:
        """Nanoseconds since the epoch, UTC."""
        ...


class SystemClock:
    """The machine's wall clock."""

    def now_ns(self) -> int:
        return time.time_ns()


class RecordedClock:
    """Stands at the latest time it was told; never goes back.

    A replay under the recording's own time tells it with every frame, so a day's midnight falls
    between the same two frames as it did when they were recorded.
    """

    def __init__(self, start_ns: int) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        return self._now_ns

    def tell(self, now_ns: int) -> None:
        self._now_ns = max(self._now_ns, now_ns)


def date_of(ts_ns: int) -> str:
    """The UTC date of a time, as YYYY-MM-DD."""
    t = time.gmtime(ts_ns // SECOND_NS)
    return f"{t.tm_year:04d}-{t.tm_mon:02d}-{t.tm_mday:02d}"
