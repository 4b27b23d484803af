"""The gap ledger of one feed while it is captured: which gaps are open, and the rows that open and close them."""

from collections.abc import Iterable

import msgspec

from ssmd.events import Gap, GapCause

Key = tuple[str, tuple[str, ...]]
# The connection is away: one outage is under way or none, whatever began it.
OUTAGES: frozenset[GapCause] = frozenset({"disconnect", "restart", "overflow", "maintenance"})


def _key(cause: GapCause, symbols: tuple[str, ...]) -> Key:
    return ("outage" if cause in OUTAGES else cause, symbols)


class Ledger:
    """Open gaps by cause and instruments. What it returns is to be written down as `_gap` frames."""

    def __init__(self, feed: str) -> None:
        self._feed = feed
        self._open: dict[Key, Gap] = {}
        self._count = 0
        self.closed = 0

    def adopt(self, gaps: Iterable[Gap]) -> None:
        """Gaps that a former run left open: they end when this run's first connection is up."""
        for gap in gaps:
            self._open.setdefault(_key(gap.cause, tuple(gap.symbols)), gap)

    @property
    def open_gaps(self) -> list[Gap]:
        return list(self._open.values())

    @property
    def open_count(self) -> int:
        return len(self._open)

    def open(self, conn: str, cause: GapCause, start: int, evidence: str, symbols: tuple[str, ...] = ()) -> list[Gap]:
        """Frames are missing from `start` (ns) on. Nothing new if such a gap is open already."""
        key = _key(cause, symbols)
        if key in self._open:
            return []
        gap = self._new(conn, cause, start, None, evidence, symbols)
        self._open[key] = gap
        return [gap]

    def closed_one(self, conn: str, cause: GapCause, start: int, end: int, evidence: str) -> Gap:
        """A gap that is over by the time it is known."""
        self.closed += 1
        return self._new(conn, cause, start, end, evidence, ())

    def _new(
        self, conn: str, cause: GapCause, start: int, end: int | None, evidence: str, symbols: tuple[str, ...]
    ) -> Gap:
        self._count += 1
        return Gap(f"{conn}-g{self._count}", self._feed, conn, list(symbols), start, end, cause, evidence)

    def close(self, cause: GapCause, end: int, symbols: tuple[str, ...] = ()) -> list[Gap]:
        """Nothing is missing after `end`; nothing to write if no such gap is open."""
        gap = self._open.pop(_key(cause, symbols), None)
        if gap is None:
            return []
        self.closed += 1
        start, end = min(gap.start, end), max(gap.start, end)  # the clock may have been set back meanwhile
        return [msgspec.structs.replace(gap, start=start, end=end)]

    def close_all(self, end: int) -> list[Gap]:
        """A new connection starts everything afresh: every open gap ends."""
        gaps = list(self._open.values())
        return [row for gap in gaps for row in self.close(gap.cause, end, tuple(gap.symbols))]
