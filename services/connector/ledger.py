"""The gap ledger of one feed while it is captured: which gaps are open, and the rows that open and close them."""

from collections.abc import Iterable

import msgspec

from ssmd.events import Gap, GapCause

Key = tuple[str, tuple[str, ...], str]  # what is wrong, with which instruments (none: all), on which connection
# The connection is away: one outage is under way or none, whatever began it.
OUTAGES: frozenset[GapCause] = frozenset({"disconnect", "restart", "overflow", "maintenance"})


def _key(conn: str, cause: GapCause, symbols: tuple[str, ...]) -> Key:
    return ("outage" if cause in OUTAGES else cause, symbols, conn if symbols else "")


class Ledger:
    """Open gaps by cause, instruments and connection. What it returns is to be written down as `_gap` frames."""

    def __init__(self, feed: str) -> None:
        self._feed = feed
        self._open: dict[Key, Gap] = {}
        self._count = 0
        self.closed = 0

    def adopt(self, gaps: Iterable[Gap]) -> None:
        """Gaps that a former run left open: they end when this run's first connection is up."""
        for gap in gaps:
            self._open.setdefault(_key(gap.conn, gap.cause, tuple(gap.symbols)), gap)

    @property
    def open_gaps(self) -> list[Gap]:
        return list(self._open.values())

    @property
    def open_count(self) -> int:
        return len(self._open)

    @property
    def outage(self) -> bool:
        """Whether a gap is open because no connection stood."""
        return ("outage", (), "") in self._open

    def open(self, conn: str, cause: GapCause, start: int, evidence: str, symbols: tuple[str, ...] = ()) -> list[Gap]:
        """Frames are missing from `start` (ns) on. Nothing new if such a gap is open already."""
        key = _key(conn, cause, symbols)
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

    def close(self, conn: str, cause: GapCause, end: int, symbols: tuple[str, ...] = ()) -> list[Gap]:
        """Nothing is missing after `end`; nothing to write if no such gap is open."""
        gap = self._open.pop(_key(conn, cause, symbols), None)
        if gap is None:
            return []
        self.closed += 1
        start, end = min(gap.start, end), max(gap.start, end)  # the clock may have been set back meanwhile
        return [msgspec.structs.replace(gap, start=start, end=end)]

    def close_all(self, end: int) -> list[Gap]:
        """A new connection starts everything afresh: every open gap ends."""
        return self._close_each(self.open_gaps, end)

    def close_of(self, conn: str, end: int) -> list[Gap]:
        """Another connection has taken over from this one, whole: gaps of this one alone end."""
        return self._close_each([gap for gap in self.open_gaps if gap.conn == conn], end)

    def _close_each(self, gaps: Iterable[Gap], end: int) -> list[Gap]:
        return [row for gap in gaps for row in self.close(gap.conn, gap.cause, end, tuple(gap.symbols))]
