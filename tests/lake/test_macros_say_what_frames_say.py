"""Bars, best prices, and trades with quotes out of DuckDB, against the archived frames read one after the other."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import duckdb
import pytest

from activities.processes import Processes
from ssmd import lake
from ssmd.lake import macros
from tests.lake import plain
from tests.lake.talks import Case, Talked, talked

CASES = {
    "kalshi": Case("kalshi", ("orderbook_delta", "trade", "ticker")),
    "binance": Case("binance", ("depth@100ms", "trade", "bookTicker"), "spot-2024-08-08.gz"),
    "binance-usdm": Case("binance-usdm", ("depth@100ms", "trade", "bookTicker"), "usdm-2024-07-18.gz"),
    "kraken": Case("kraken", ("book.1000", "trade"), "ws/v1-books-2021-04.txt"),
    "kraken-cut": Case("kraken", ("book.10", "trade")),
    "kraken-futures": Case("kraken-futures", ("book", "trade"), "ws/futures-2021-07.txt"),
    "deribit": Case(
        "deribit",
        ("book.{instrument_name}.100ms", "trades.any.any.100ms"),
        symbols=("BTC-PERPETUAL", "ETH-PERPETUAL"),
    ),
    "polymarket": Case("polymarket", ("book", "price_change", "last_trade_price")),
}
MINUTE = 60_000_000_000


@pytest.fixture(scope="module", params=CASES)
def day(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Talked:
    with Processes(1) as processes:
        return talked(tmp_path_factory.mktemp(request.param), processes, CASES[request.param])


@pytest.fixture(scope="module")
def db(day: Talked) -> Iterator[duckdb.DuckDBPyConnection]:
    with lake.connect(day.data) as connection:
        yield connection


def tops(db: duckdb.DuckDBPyConnection, symbol: str, start: int, end: int) -> list[tuple[int, str, int, plain.Top]]:
    sql = "SELECT ts_recv, conn, coalesce(n, 0), bid, bid_size, ask, ask_size FROM top_of_book(?, ?, ?)"
    return [(ts, conn, n, tuple(top)) for ts, conn, n, *top in db.execute(sql, [symbol, start, end]).fetchall()]  # type: ignore[misc]


def test_the_top_of_the_book_is_that_of_the_frames(day: Talked, db: duckdb.DuckDBPyConnection) -> None:
    seen = 0
    for symbol in day.symbols:
        found = plain.quotes(day.data, day.feed, symbol)
        assert tops(db, symbol, day.start, day.end + 1) == found
        seen += len(found)
    assert seen >= 4


def test_a_part_begins_with_what_held(day: Talked, db: duckdb.DuckDBPyConnection) -> None:
    start, end = day.start + (day.broken - day.start) // 3, day.broken + (day.mended - day.broken) // 2
    for symbol in day.symbols:
        every = plain.quotes(day.data, day.feed, symbol)
        held = [quote for quote in every if quote[0] < start][-1:] if (start not in {q[0] for q in every}) else []
        within = [quote for quote in every if start <= quote[0] < end]
        found = tops(db, symbol, start, end)
        assert found[-len(within) :] == within if within else found == held
        assert found[: len(held)] == held


def test_a_gap_is_unknown_until_the_next_snapshot_and_never_stale(day: Talked, db: duckdb.DuckDBPyConnection) -> None:
    """Frames went on in the gap: without its row in the ledger they would make a book, and a wrong one."""
    known = 0
    for symbol in day.symbols:
        if top_at(db, symbol, day.broken - 1) == plain.UNKNOWN:
            continue
        known += 1
        snapshot = plain.snapshot_after(day.data, day.feed, symbol, day.broken)
        for ts in (day.broken, (day.broken + snapshot) // 2, snapshot - 1):
            assert top_at(db, symbol, ts) == plain.UNKNOWN
            assert db.execute("FROM book_at(?, ?)", [symbol, ts]).fetchall() == []
        assert top_at(db, symbol, snapshot) != plain.UNKNOWN
    assert known or day.feed == "binance"  # in that recording the first snapshot comes late


def test_without_the_ledger_the_book_would_be_stale(day: Talked, db: duckdb.DuckDBPyConnection) -> None:
    """The control: the same files, but a ledger without gaps."""
    with duckdb.connect() as unaware:
        for table in ("book_snapshots", "book_deltas", "sessions"):
            unaware.register(table, db.sql(f"FROM {table}").to_arrow_table())
        unaware.register("gaps", db.sql("FROM gaps WHERE false").to_arrow_table())
        macros.make_books(unaware)
        before = [top_at(db, symbol, day.broken - 1) for symbol in day.symbols]
        assert [top_at(unaware, symbol, day.broken - 1) for symbol in day.symbols] == before
        stale = [top_at(unaware, symbol, day.broken) for symbol in day.symbols]
        assert [top == plain.UNKNOWN for top in stale] == [top == plain.UNKNOWN for top in before]


def top_at(db: duckdb.DuckDBPyConnection, symbol: str, ts: int) -> plain.Top:
    [row] = db.execute("SELECT bid, bid_size, ask, ask_size FROM top_of_book_at(?, ?)", [symbol, ts]).fetchall()
    return row  # type: ignore[no-any-return]


def test_the_top_at_a_time_is_the_last_of_those_over_time(day: Talked, db: duckdb.DuckDBPyConnection) -> None:
    for symbol in day.symbols:
        quotes = plain.quotes(day.data, day.feed, symbol)
        for ts in range(day.start, day.end, (day.end - day.start) // 10):
            before = [top for at, _, _, top in quotes if at <= ts]
            assert top_at(db, symbol, ts) == (before[-1] if before else plain.UNKNOWN)


def test_trades_have_the_quotes_before_them(day: Talked, db: duckdb.DuckDBPyConnection) -> None:
    for symbol in day.symbols:
        quotes = plain.quotes(day.data, day.feed, symbol)
        expected = []
        for frame, trade in plain.trades(day.data, day.feed, symbol):
            before = [q[3] for q in quotes if q[:3] < (frame.ts, frame.conn, frame.n)]
            expected.append(
                (
                    *(frame.ts, frame.n, Decimal(trade.price), Decimal(trade.size), trade.side, trade.trade_id),
                    *(before[-1] if before else plain.UNKNOWN),
                )
            )
        sql = """SELECT ts_recv, n, price, size, side, trade_id, bid, bid_size, ask, ask_size
            FROM trades_with_quotes(?, ?, ?)"""
        assert db.execute(sql, [symbol, day.start, day.end]).fetchall() == expected
        for first in expected[:: len(expected) // 5 + 1]:
            later = [row for row in expected if row[0] >= first[0]]
            assert db.execute(sql, [symbol, first[0], day.end]).fetchall() == later


def test_bars_are_those_of_the_trades(day: Talked, db: duckdb.DuckDBPyConnection) -> None:
    every = 2_000_000_000
    for symbol in day.symbols:
        buckets: dict[int, list[Any]] = {}
        for frame, trade in plain.trades(day.data, day.feed, symbol):
            buckets.setdefault(frame.ts // every * every, []).append(trade)
        expected = []
        for bucket, some in buckets.items():
            prices, sizes = [Decimal(t.price) for t in some], [Decimal(t.size) for t in some]
            sides = {s: sum((Decimal(t.size) for t in some if t.side == s), Decimal(0)) for s in ("buy", "sell")}
            vwap = float(sum(p * q for p, q in zip(prices, sizes, strict=True)) / sum(sizes))
            expected.append(
                (
                    *(bucket, prices[0], max(prices), min(prices), prices[-1], sum(sizes)),
                    *(pytest.approx(vwap, rel=1e-12), len(some), sides["buy"], sides["sell"]),
                    bucket <= day.mended and bucket + every > day.broken,
                )
            )
        sql = f"SELECT * EXCLUDE (feed, symbol) FROM bars('{symbol}', {day.start}, {day.end}, every := '2 seconds')"
        assert db.execute(sql).fetchall() == expected
        traded = [t for some in buckets.values() for t in some]
        volume = sum(Decimal(t.size) for t in traded)
        value = sum(Decimal(t.price) * Decimal(t.size) for t in traded)
        [(vwap, last)] = db.execute(
            f"SELECT vwap('{symbol}', {day.start}, {day.end}), last_price_at('{symbol}', {day.end})"
        ).fetchall()
        assert vwap == (pytest.approx(float(value / volume), rel=1e-12) if traded else None)
        assert last == (Decimal(traded[-1].price) if traded else None)
