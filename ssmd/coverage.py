"""What of a day an instrument's data covers: pure functions of what an archive says of a day.

A day lasts from UTC midnight to the next, or as far as it has come. Of an instrument, each of its moments is

covered    a connection that was subscribed to the instrument stood (from its `connected` row until it was last
           heard), and no gap concerns the instrument
in a gap   a row of the gap ledger concerns it: one that names it, or one that names no instrument and is about a
           connection subscribed to it, or about the place of one such that ended while the gap lasted. An open gap
           lasts until the end of the day. Where gaps overlap, the moment belongs to the one that began first.
uncovered  neither: nobody listened, and nothing is known to be missing (before the first start, after the last stop,
           before the instrument was subscribed to)

and the three add up to the day's length. An instrument that no subscription names but of which frames came was
brought by a channel that brings all: it is covered wherever a connection stood.

Its condition is `missing` if nothing is covered, `degraded` if a gap concerns it, `repaired` if all of those have
been repaired, else `available`.
"""

import calendar
import re
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import msgspec

from ssmd import frames
from ssmd.archive import Cursor, DayState, Manifest, Ranges, TimedSession
from ssmd.clock import DAY_NS, SECOND_NS
from ssmd.events import Gap, GapCause

Span = tuple[int, int]  # ns since the epoch, the end not included
Condition = Literal["missing", "degraded", "repaired", "available"]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)  # worst first


@dataclass(frozen=True)
class Watch:
    """A connection stood and was subscribed to `symbols` (None: to all there are)."""

    conn: str
    start: int
    end: int
    symbols: frozenset[str] | None


@dataclass(frozen=True)
class Day:
    """What is known of a feed's day; `symbols` are those of which frames came, `end` is how far it has come."""

    feed: str
    date: str
    start: int
    end: int
    watches: Sequence[Watch]
    gaps: Sequence[Gap]
    symbols: frozenset[str]


@dataclass(frozen=True)
class Coverage:
    """What a day holds of `symbols`, whose data share one fate."""

    symbols: tuple[str, ...]
    condition: Condition
    covered: tuple[Span, ...]
    in_gaps: tuple[tuple[GapCause, Span], ...]  # each moment once
    gaps: tuple[Gap, ...]
    day_ns: int

    @property
    def covered_ns(self) -> int:
        return _length(self.covered)

    @property
    def gap_ns(self) -> int:
        return _length(span for _, span in self.in_gaps)

    @property
    def uncovered_ns(self) -> int:
        return self.day_ns - self.covered_ns - self.gap_ns

    @property
    def gap_ns_by_cause(self) -> dict[GapCause, int]:
        found: defaultdict[GapCause, int] = defaultdict(int)
        for cause, (start, end) in self.in_gaps:
            found[cause] += end - start
        return dict(sorted(found.items()))


def coverage(day: Day) -> list[Coverage]:
    """Every instrument's coverage, worst first; instruments with the same fate together."""
    watched = {s for w in day.watches for s in w.symbols or ()}
    named = {s for gap in day.gaps for s in gap.symbols}
    watching, concerning = _watching(day), _concerning(day)
    every = tuple(range(len(day.watches)))
    fates: defaultdict[tuple[tuple[int, ...], tuple[int, ...]], list[str]] = defaultdict(list)
    for symbol in watched | named | day.symbols:  # by watches and the gaps that name it: what decides all the rest
        fates[watching.get(symbol, every), tuple(concerning.get(symbol, ()))].append(symbol)
    found = []
    for (watches, own), symbols in fates.items():
        gaps = {*own, *(gap for key in (None, *watches) for gap in concerning[key])}
        found.append(_fate(day, symbols, [day.watches[i] for i in watches], [day.gaps[i] for i in sorted(gaps)]))
    return sorted(found, key=_badness)


def _badness(c: Coverage) -> tuple[int, int, int, tuple[str, ...]]:
    return CONDITIONS.index(c.condition), -c.gap_ns, c.covered_ns, c.symbols


def _watching(day: Day) -> dict[str, tuple[int, ...]]:
    """Which watches an instrument has that a subscription names."""
    of_all = [i for i, w in enumerate(day.watches) if w.symbols is None]
    named: defaultdict[str, list[int]] = defaultdict(list)
    for i, watch in enumerate(day.watches):
        for symbol in watch.symbols or ():
            named[symbol].append(i)
    return {symbol: tuple(sorted([*some, *of_all])) for symbol, some in named.items()}


def _concerning(day: Day) -> defaultdict[str | int | None, list[int]]:
    """Which gaps concern an instrument by name, by one of its watches, or (None) because they concern all."""
    found: defaultdict[str | int | None, list[int]] = defaultdict(list)
    of_conn: defaultdict[str, list[int]] = defaultdict(list)
    ends = sorted((w.end, i) for i, w in enumerate(day.watches))
    for i, watch in enumerate(day.watches):
        of_conn[watch.conn].append(i)
    for number, gap in enumerate(day.gaps):
        if gap.symbols:
            for symbol in gap.symbols:
                found[symbol].append(number)
            continue
        last = day.end if gap.end is None else gap.end
        place = frames.place(gap.conn)
        ended = [
            i
            for end, i in ends[bisect_left(ends, (gap.start, 0)) :]
            if end <= last and end < day.end and frames.place(day.watches[i].conn) == place
        ]
        own = of_conn[gap.conn]
        during = [i for i in own if day.watches[i].start <= last and gap.start <= day.watches[i].end]
        for watch_number in {*(during or own), *ended}:
            found[watch_number].append(number)
        if not (own or ended):
            found[None].append(number)
    return found


def _fate(day: Day, symbols: list[str], watches: list[Watch], gaps: list[Gap]) -> Coverage:
    gaps = sorted(gaps, key=lambda g: (g.start, g.gap))
    in_gaps: list[tuple[GapCause, Span]] = []
    done = day.start
    for gap in gaps:
        start, end = max(gap.start, done), min(day.end if gap.end is None else gap.end, day.end)
        if start < end:
            in_gaps.append((gap.cause, (start, end)))
            done = end
    stood = united(_cut((w.start, w.end), day.start, day.end) for w in watches)
    covered = without(stood, [span for _, span in in_gaps])
    return Coverage(
        symbols=tuple(sorted(symbols)),
        condition=_condition(covered, gaps),
        covered=tuple(covered),
        in_gaps=tuple(in_gaps),
        gaps=tuple(gaps),
        day_ns=day.end - day.start,
    )


def _condition(covered: list[Span], gaps: list[Gap]) -> Condition:
    if not covered:
        return "missing"
    if not gaps:
        return "available"
    return "repaired" if all(gap.repaired for gap in gaps) else "degraded"


# --------------------------------------------------------------------------------------------- spans


def united(spans: Iterable[Span]) -> list[Span]:
    """The same moments as spans that neither overlap nor touch, in order."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if start >= end:
            continue
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def without(spans: Sequence[Span], others: Sequence[Span]) -> list[Span]:
    """What of `spans` none of `others` holds; both in order and free of overlaps."""
    found: list[Span] = []
    first = 0
    for start, end in spans:
        at = start
        while first < len(others) and others[first][1] <= start:
            first += 1
        for low, high in others[first:]:
            if low >= end:
                break
            if at < low:
                found.append((at, low))
            at = max(at, high)
        if at < end:
            found.append((at, end))
    return found


def _cut(span: Span, low: int, high: int) -> Span:
    return max(span[0], low), min(span[1], high)


def _length(spans: Iterable[Span]) -> int:
    return sum(end - start for start, end in spans)


# --------------------------------------------------------------------------------- what an archive says of a day


def of_manifest(manifest: Manifest, now_ns: int | None = None) -> Day:
    """A day as its manifest has it: it has come as far as its seal, else to `now_ns`, else to midnight."""
    heard = {c.conn: c.heard for c in manifest.connections}
    gaps = [msgspec.json.decode(raw, type=Gap) for raw in manifest.gaps]
    sessions = [msgspec.json.decode(raw, type=TimedSession) for raw in manifest.sessions]
    holes = {c.conn: c.holes for c in manifest.connections if c.holes}
    until = manifest.sealed_at if manifest.sealed else now_ns
    return _day(manifest.feed, manifest.date, sessions, heard, gaps, holes, manifest.symbols, until)


def of_archive(manifest: Manifest, cursor: Cursor | None, ledger: Iterable[Gap], now_ns: int) -> Day:
    """A day as all that is known tells it: its manifest, what the archiver has not in segments yet, the whole ledger.

    So it knows of repairs and of ends that were written down on later days.
    """
    state = cursor.days.get(manifest.date) if cursor is not None else None
    unfinished = cursor is not None and any(part.date == manifest.date for part in cursor.parts)
    if cursor is None or state is None or (manifest.sealed and not unfinished):
        day = of_manifest(manifest, now_ns)
    else:
        heard = {conn: cursor.conns[conn].last_ts_recv if conn in cursor.conns else 0 for conn in state.conns}
        sessions = [msgspec.json.decode(raw, type=TimedSession) for raw in state.sessions]
        parts = [symbol for part in cursor.parts if part.date == manifest.date for symbol in part.symbols]
        day = _day(manifest.feed, manifest.date, sessions, heard, [], {}, [*manifest.symbols, *parts], now_ns)
    return replace(day, gaps=_touching(ledger, day.start, day.end))


def _day(
    feed: str,
    date: str,
    sessions: Sequence[TimedSession],
    heard: Mapping[str, int],
    gaps: Sequence[Gap],
    holes: Mapping[str, Ranges],
    symbols: Iterable[str],
    until: int | None,
) -> Day:
    start = midnight(date)
    latest = max([0, *heard.values()])
    end = start + DAY_NS if until is None else max(start, min(start + DAY_NS, max(until, latest)))
    watches = _watches(sessions, heard, start, end)
    lost = lost_holes(feed, date, holes, gaps, watches)
    touching = _touching([*gaps, *lost], start, end)
    return Day(feed, date, start, end, watches, touching, frozenset(symbols) - {frames.ALL})


def _touching(gaps: Iterable[Gap], start: int, end: int) -> list[Gap]:
    return [gap for gap in gaps if gap.start < end and (gap.end is None or gap.end >= start)]


def _watches(sessions: Sequence[TimedSession], heard: Mapping[str, int], start: int, end: int) -> list[Watch]:
    """When connections stood, and subscribed to what. A `connected` row said again changes the subscription.

    The `close` row of a connection whose process died is its successor's, so what it was last heard says when it ended.
    """
    rows: defaultdict[str, list[tuple[int, TimedSession]]] = defaultdict(list)
    closed: dict[str, int] = {}
    for session in sessions:
        ts = session.ts or frames.opened_ms(session.conn) * 1_000_000
        if session.type == "connected":
            rows[session.conn].append((ts, session))
        elif session.type == "close" and session.ts:
            closed[session.conn] = ts
    watches = []
    for conn, connected in rows.items():
        connected.sort(key=lambda row: row[0])
        last = min(heard.get(conn) or closed.get(conn, end), end)
        for (since, session), until in zip(connected, [ts for ts, _ in connected[1:]] + [last], strict=True):
            symbols = frozenset(session.subscription.get("symbols", ())) or None
            if max(since, start) < min(until, last):
                watches.append(Watch(conn, max(since, start), min(until, last), symbols))
    return sorted(watches, key=lambda w: (w.start, w.conn))


def midnight(date: str) -> int:
    """The ns at which a UTC date begins."""
    return calendar.timegm(time.strptime(date, "%Y-%m-%d")) * SECOND_NS


# ------------------------------------------------------------------------------------------------- the ledger


def holes_left(manifest: Manifest, cursor: Cursor) -> dict[str, Ranges]:
    """The manifest's holes less those that have been filled since."""
    left: dict[str, Ranges] = {}
    for c in manifest.connections:
        state = cursor.conns.get(c.conn)
        archived = [(a, b + 1) for a, b in state.archived] if state is not None else []
        still = without([(a, b + 1) for a, b in c.holes], archived)
        if still:
            left[c.conn] = [(a, b - 1) for a, b in still]
    return left


_LOST = re.compile(r"(.+)-lost-([0-9]+)-([0-9]+)")


def lost_holes(
    feed: str, date: str, holes: Mapping[str, Ranges], gaps: Iterable[Gap], watches: Iterable[Watch] = ()
) -> list[Gap]:
    """A row of cause `lost` for each hole that no row of the ledger names (`CONN-lost-FIRST-LAST` does).

    When those frames came nobody knows, so the row is as long as the connection stood that day.
    """
    named: defaultdict[str, Ranges] = defaultdict(list)
    for gap in gaps:
        if match := _LOST.fullmatch(gap.gap):
            named[match[1]].append((int(match[2]), int(match[3])))
    found = []
    for conn, ranges in holes.items():
        spans = [(w.start, w.end) for w in watches if w.conn == conn]
        start = min((a for a, _ in spans), default=midnight(date))
        end = max((b for _, b in spans), default=start + DAY_NS)
        for a, b in ranges:
            if not any(first <= a and b <= last for first, last in named[conn]):
                evidence = f"frames {a} to {b} are not in the archive, and no row of the ledger says so"
                found.append(Gap(f"{conn}-lost-{a}-{b}", feed, conn, [], start, end, "lost", evidence))
    return found


def ledger(days: Iterable[tuple[Manifest, DayState | None, Mapping[str, Ranges]]]) -> list[Gap]:
    """The latest row of every gap that days (in order, with what the archiver's cursor adds, and their holes) tell of.

    A gap that is opened on one day and closed on the next is one gap.
    """
    latest: dict[str, Gap] = {}
    holes: list[tuple[Manifest, Mapping[str, Ranges], list[Watch]]] = []
    for manifest, state, left in days:
        for raw in [*manifest.gaps, *(state.gaps.values() if state is not None else ())]:
            gap = msgspec.json.decode(raw, type=Gap)
            known = latest.get(gap.gap)
            if known is None or gap.end is not None or known.end is None:
                latest[gap.gap] = gap
        if left:
            watches = of_manifest(msgspec.structs.replace(manifest, gaps=[])).watches
            holes.append((manifest, left, list(watches)))
    named = list(latest.values())
    lost = [row for m, left, watches in holes for row in lost_holes(m.feed, m.date, left, named, watches)]
    return sorted([*named, *lost], key=lambda g: (g.start, g.gap))
