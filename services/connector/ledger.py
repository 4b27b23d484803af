"""The gap ledger of one feed while it is captured: which gaps are open, and the rows that open and close them.

A gap without instruments concerns all that its connection carries, and outlives the connection: it belongs to the
place that the next connection takes.
"""

from collections.abc import Iterable, Set

import msgspec

from ssmd.events import Gap, GapCause
from ssmd.frames import place

Key = tuple[str, tuple[str, ...], str]  # what is wrong, with which instruments (none: all), on which connection
# The connection is away: one outage is under way or none, whatever began it.
OUTAGES: frozenset[GapCause] = frozenset({"disconnect", "restart", "overflow", "maintenance"})


def _key(conn: str, cause: GapCause, symbols: tuple[str, ...], evidence: str = "") -> Key:
    what: str = "outage" if cause in OUTAGES else cause
    if cause == "refused":  # of the same instruments several channels may be
        what = f"{cause} {evidence}"
    return what, symbols, conn if symbols else place(conn)


class Ledger:
    """Open gaps by cause, instruments and connection. What it returns is to be written down as `_gap` frames."""

    def __init__(self, feed: str) -> None:
        self._feed = feed
        self._open: dict[Key, Gap] = {}
        self._count = 0
        self.closed = 0

    def adopt(self, gaps: Iterable[Gap]) -> None:
        """Gaps that a former run left open: they end when this run's first connection of that place is up."""
        for gap in gaps:
            self._open.setdefault(_key(gap.conn, gap.cause, tuple(gap.symbols), gap.evidence), gap)

    @property
    def open_gaps(self) -> list[Gap]:
        return list(self._open.values())

    @property
    def refused(self) -> list[Gap]:
        """What the venue does not send us though we asked."""
        return [gap for gap in self._open.values() if gap.cause == "refused"]

    @property
    def open_count(self) -> int:
        return len(self._open)

    def outage(self, conn: str) -> bool:
        """Whether a gap is open because no connection of this one's place stood."""
        return ("outage", (), place(conn)) in self._open

    def open(
        self,
        conn: str,
        cause: GapCause,
        start: int,
        evidence: str,
        symbols: tuple[str, ...] = (),
        carried: tuple[str, ...] = (),
    ) -> list[Gap]:
        """Frames are missing from `start` (ns) on. Nothing new if such a gap is open already.

        Without `symbols` it is about all that the connection carries; the row names them if `carried` does.
        """
        key = _key(conn, cause, symbols, evidence)
        if key in self._open:
            return []
        gap = self._new(conn, cause, start, None, evidence, symbols or carried)
        self._open[key] = gap
        return [gap]

    def closed_one(
        self, conn: str, cause: GapCause, start: int, end: int, evidence: str, carried: tuple[str, ...] = ()
    ) -> Gap:
        """A gap that is over by the time it is known."""
        self.closed += 1
        return self._new(conn, cause, start, end, evidence, carried)

    def _new(
        self, conn: str, cause: GapCause, start: int, end: int | None, evidence: str, symbols: tuple[str, ...]
    ) -> Gap:
        self._count += 1
        return Gap(f"{conn}-g{self._count}", self._feed, conn, list(symbols), start, end, cause, evidence)

    def close(self, conn: str, cause: GapCause, end: int, symbols: tuple[str, ...] = ()) -> list[Gap]:
        """Nothing is missing after `end`; nothing to write if no such gap is open."""
        if cause == "refused":
            return self._close_each(
                [k for k, gap in self._refused(conn) if gap.symbols and set(gap.symbols) <= set(symbols)], end
            )
        key = _key(conn, cause, symbols)
        return self._close_each([key] if key in self._open else [], end)

    def close_evident(self, conn: str, evidence: str, end: int) -> list[Gap]:
        """What was refused with these words is refused no longer, or another list of it."""
        return self._close_each([k for k, gap in self._refused(conn) if gap.evidence == evidence], end)

    def close_unwanted(self, conn: str, wanted: Set[str], end: int) -> list[Gap]:
        """Nobody misses what was refused of instruments that are not wanted any more."""
        return self._close_each(
            [k for k, gap in self._refused(conn) if gap.symbols and not wanted & set(gap.symbols)], end
        )

    def close_place(self, conn: str, end: int, *, outage: bool = True) -> list[Gap]:
        """A new connection starts its place afresh: every gap of it ends; its `outage` may last a little longer."""
        own = ("outage", (), place(conn))
        return self._close_each(
            [k for k, gap in self._open.items() if place(gap.conn) == place(conn) and (outage or k != own)], end
        )

    def close_outage(self, conn: str, end: int) -> list[Gap]:
        """A connection of this one's place stands."""
        return self._close_each([k for k in self._open if k == ("outage", (), place(conn))], end)

    def close_of(self, conn: str, end: int) -> list[Gap]:
        """Another connection has taken over from this one, whole: gaps of this one alone end."""
        return self._close_each([k for k, gap in self._open.items() if gap.conn == conn], end)

    def _refused(self, conn: str) -> list[tuple[Key, Gap]]:
        return [(k, gap) for k, gap in self._open.items() if gap.cause == "refused" and gap.conn == conn]

    def _close_each(self, keys: Iterable[Key], end: int) -> list[Gap]:
        rows = []
        for key in keys:
            gap = self._open.pop(key)
            start, stop = min(gap.start, end), max(gap.start, end)  # the clock may have been set back meanwhile
            rows.append(msgspec.structs.replace(gap, start=start, end=stop))
        self.closed += len(rows)
        return rows
