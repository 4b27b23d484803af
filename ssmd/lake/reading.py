"""Reading rows of a table into Python: a range of time of some feeds and instruments, whole if that is wanted."""

import importlib
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any, Self

import duckdb
import pyarrow as pa

from ssmd import config, coverage, ledger, moments, tables, written
from ssmd.clock import DAY_NS, date_of
from ssmd.coverage import Coverage, Day, Span
from ssmd.errors import Permanent
from ssmd.lake import views

Moment = int | str | date | datetime
Names = str | Iterable[str]

READABLE = (*tables.TABLES, "raw")
SYMBOLLESS = frozenset({"sessions", "gaps", "raw"})
GAPS_TOLD = 5


@dataclass(frozen=True)
class Missing:
    """From `start` to `end` (ns) data of `symbols` (none: of all) are not there, or not known to be.

    `cause` is that of a row of the gap ledger (its name is `gap`), or `uncovered`: nobody listened; `unsealed`,
    `not rolled up` or `no data`: the day is not in the lake.
    """

    feed: str
    symbols: tuple[str, ...]
    start: int
    end: int
    cause: str
    evidence: str = ""
    gap: str | None = None

    def __str__(self) -> str:
        named = f" of {', '.join(self.symbols)}" if 0 < len(self.symbols) <= 2 else ""
        return f"{self.cause}{named} from {written.when(self.start)} for {written.length(self.end - self.start)}"


class Incomplete(Permanent):
    """What was to be read strictly is not whole: `gaps` says what is missing."""

    def __init__(self, table: str, gaps: Sequence[Missing]) -> None:
        self.gaps = list(gaps)
        feeds = ", ".join(sorted({gap.feed for gap in gaps}))
        told = "; ".join(map(str, gaps[:GAPS_TOLD]))
        more = f"; and {len(gaps) - GAPS_TOLD:,} more" if len(gaps) > GAPS_TOLD else ""
        super().__init__(
            f"{table} of {feeds} are not whole in that range: {told}{more}; read another range, or without strict"
        )


class Rows:
    """Rows to be read, in the order in which they came (ts_recv, conn, n, item): nothing is read until one asks."""

    def __init__(self, relation: duckdb.DuckDBPyRelation) -> None:
        self._relation = relation

    def duckdb(self) -> duckdb.DuckDBPyRelation:
        """A DuckDB relation: lazy, and goes on in SQL."""
        return self._relation

    def arrow(self) -> pa.Table:
        table: pa.Table = self._relation.to_arrow_table()
        return table

    def pandas(self) -> Any:
        """A pandas DataFrame; decimals stay exact, in columns of Arrow's."""
        pandas = _library("pandas")
        return self.arrow().to_pandas(
            types_mapper=lambda kind: pandas.ArrowDtype(kind) if pa.types.is_decimal(kind) else None
        )

    def polars(self) -> Any:
        """A polars DataFrame; decimals stay exact."""
        return _library("polars").from_arrow(self.arrow())


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise Permanent(f"{name} is not installed: run `pip install {name}`, or use .arrow() or .duckdb()") from None


class Lake:
    """A data folder, or what is published in a store, to be read and asked."""

    def __init__(self, places: config.Places, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection
        self._places = places

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.connection.close()

    def sql(self, query: str) -> duckdb.DuckDBPyRelation:
        """DuckDB SQL over the views and macros, lazily."""
        return self.connection.sql(query)

    def read(
        self,
        table: str,
        *,
        feed: Names | None = None,
        symbols: Names | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
        columns: Sequence[str] | None = None,
        strict: bool = False,
    ) -> Rows:
        """The rows of a table, of these feeds and symbols (else: of all), received from `start` on and before `end`.

        Times are a datetime or ISO text (UTC if they say nothing else), a date for its midnight, or ns since the epoch.
        `strict` refuses (Incomplete, whose `gaps` has the rows) a range that is not all there: days that are not in the
        lake, time that nobody listened, gaps of the ledger; repaired ones do for trades, which alone can be repaired.
        """
        feeds, wanted = _names(feed), _names(symbols)
        _check_readable(table, wanted)
        low, high = _ns("start", start), _ns("end", end)
        if low is not None and high is not None and low >= high:
            raise Permanent(f"the range from {start} to {end} is empty: the end is not after the start")
        if strict:
            self._refuse_missing(table, feeds, wanted, low, high)
        return Rows(self.connection.sql(self._query(table, feeds, wanted, low, high, columns)))

    def _query(
        self,
        table: str,
        feeds: Sequence[str] | None,
        symbols: Sequence[str] | None,
        low: int | None,
        high: int | None,
        columns: Sequence[str] | None,
    ) -> str:
        described = self.connection.execute(f"DESCRIBE {table}").fetchall()
        there = [str(row[0]) for row in described]
        unknown = [column for column in columns or () if column not in there]
        if unknown:
            raise Permanent(f"{table} has no column {unknown[0]!r}: it has {', '.join(there)}")
        # Those on feed and date are about names of files: DuckDB opens those that they leave, and no others.
        conditions = ["true"]
        if feeds is not None:
            conditions.append(f"feed IN ({_listed(feeds)})")
        if symbols is not None:
            conditions.append(f"symbol IN ({_listed(symbols)})")
        if low is not None:
            conditions.append(f"ts_recv >= {low} AND date >= '{date_of(low)}'")
        if high is not None:
            conditions.append(f"ts_recv < {high} AND date <= '{date_of(high - 1)}'")
        chosen = ", ".join(f'"{column}"' for column in columns or there)
        order = ", ".join(column for column in ("ts_recv", "conn", "n", "item") if column in there)
        return f"SELECT {chosen} FROM {table} WHERE {' AND '.join(conditions)} ORDER BY {order}"  # noqa: S608 - quoted

    # ------------------------------------------------------------------------------------------------ what is missing

    def check_whole(self, table: str, *, feed: Names, symbols: Names | None = None, start: Moment, end: Moment) -> None:
        """Raises Incomplete if not all of such a range is there: see `read`."""
        feeds, wanted = _names(feed), _names(symbols)
        _check_readable(table, wanted)
        self._refuse_missing(table, feeds, wanted, _ns("start", start), _ns("end", end))

    def _refuse_missing(
        self, table: str, feeds: Sequence[str] | None, symbols: Sequence[str] | None, low: int | None, high: int | None
    ) -> None:
        if feeds is None or low is None or high is None:
            raise Permanent("reading strictly needs to know what is to be whole: name feed, start and end")
        missing = [gap for name in feeds for gap in _joined(self._missing(table, name, symbols, low, high))]
        if missing:
            raise Incomplete(table, missing)

    def _missing(self, table: str, feed: str, symbols: Sequence[str] | None, low: int, high: int) -> Iterator[Missing]:
        """What of a feed's range is not there, in order."""
        [recorded] = ledger.recorded(self._places.archive, feed)
        for day in _dates(low, high):
            start = coverage.midnight(day)
            span = max(low, start), min(high, start + DAY_NS)
            lacking = _lacking(recorded, feed, day) or (self._not_in_lake(recorded, day) if table != "raw" else None)
            if lacking:
                yield Missing(feed, (), *span, *lacking)
                continue
            yield from _of_day(table, _with(recorded.day(day, time.time_ns()), symbols), symbols, span)

    def _not_in_lake(self, recorded: ledger.Recorded, day: str) -> tuple[str, str] | None:
        feed = recorded.feed
        try:
            in_lake = tables.load_day(self._places.lake / tables.manifest_path(feed, day))
        except FileNotFoundError:
            return "not rolled up", f"`ssmd rollup {feed} {day}` puts it into the lake"
        if in_lake.revision != recorded.manifest(day).revision:
            return "not rolled up", f"{day} was sealed anew since: `ssmd rollup {feed} {day}`"
        return None


def open(data: str | Path | config.Places = "data", *, verify: bool | None = None) -> Lake:  # noqa: A001 - lake.open
    """The lake of a data folder, or of what is published at `s3://bucket/prefix`; `verify` as for `connect`."""
    places = views.places_at(data)
    return Lake(places, views.connect(places, verify=verify))


def _lacking(recorded: ledger.Recorded, feed: str, day: str) -> tuple[str, str] | None:
    """Why a day is not whole in the archive, if it is not: cause and evidence."""
    manifest = recorded.manifests.get(day)
    if manifest is None:
        return "no data", f"nothing of {feed} is archived of {day}"
    if not manifest.sealed:
        return "unsealed", f"{day} is not over, or not archived to its end: `ssmd seal {feed} {day}`"
    return None


def _with(day: Day, symbols: Sequence[str] | None) -> Day:
    """Instruments that never said a word were listened to all the same, if a connection was subscribed to all."""
    if symbols is None or all(watch.symbols is not None for watch in day.watches):
        return day
    return replace(day, symbols=day.symbols | set(symbols))


def _of_day(table: str, day: Day, symbols: Sequence[str] | None, span: Span) -> Iterator[Missing]:
    """What is missing of these instruments, in order; of several the same once."""
    alike: defaultdict[Missing, list[str]] = defaultdict(list)
    unknown = set(symbols or ())
    for fate in coverage.coverage(day):
        concerned = [symbol for symbol in fate.symbols if symbols is None or symbol in symbols]
        unknown.difference_update(concerned)
        for missing in _of_fate(table, day.feed, fate, span) if concerned else ():
            alike[missing] += concerned
    if unknown:
        alike[Missing(day.feed, (), *span, "uncovered", "nothing is known of it")] += unknown
    for missing in sorted(alike, key=lambda gap: (gap.start, gap.end)):
        yield replace(missing, symbols=tuple(sorted(alike[missing])))


def _of_fate(table: str, feed: str, fate: Coverage, span: Span) -> Iterator[Missing]:
    low, high = span
    told: list[Span] = []
    for gap in fate.gaps:
        end = high if gap.end is None else gap.end
        told.append((gap.start, end))
        # What a backfill fetched came at the end of the gap, or sooner: a range that ends before has not all of it.
        mended = table == "trades" and gap.repaired and end < high
        if gap.start < high and (low < end or low <= gap.start) and not mended:
            start = max(gap.start, low)
            yield Missing(feed, (), start, max(start, min(end, high)), gap.cause, gap.evidence, gap.gap)
    for start, end in coverage.without([span], coverage.united([*fate.covered, *told])):
        yield Missing(feed, (), start, end, "uncovered", "nobody listened")


def _joined(found: Iterable[Missing]) -> list[Missing]:
    """What goes on over midnight is one."""
    latest: dict[object, Missing] = {}
    joined: list[Missing] = []
    for gap in found:
        key = gap.symbols, gap.cause, gap.gap
        before = latest.get(key)
        if before is not None and before.end == gap.start:
            joined[joined.index(before)] = latest[key] = replace(before, end=gap.end)
        else:
            joined.append(gap)
            latest[key] = gap
    return joined


def _check_readable(table: str, symbols: Sequence[str] | None) -> None:
    if table not in READABLE:
        raise Permanent(f"there is no table {table!r} to read by time: there are {', '.join(READABLE)}")
    if symbols is not None and table in SYMBOLLESS:
        raise Permanent(f"{table} has no symbol: read it without symbols")


def _names(given: Names | None) -> list[str] | None:
    if given is None:
        return None
    return [given] if isinstance(given, str) else list(given)


def _ns(what: str, said: Moment | None) -> int | None:
    try:
        return None if said is None else moments.ns_of(said)
    except (ValueError, TypeError, AttributeError):
        raise Permanent(
            f"{what} {said!r} is no time: give a datetime, a date, text as 2026-11-20T14:00:00Z, or ns since the epoch"
        ) from None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(views.quoted, names)) or "NULL"


def _dates(low: int, high: int) -> list[str]:
    """The UTC dates of [low, high)."""
    return [date_of(at) for at in range(low // DAY_NS * DAY_NS, high, DAY_NS)]
