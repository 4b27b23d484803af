"""Ten questions users ask of a day, of the lake and of its raw frames.

The other way to ask is DuckDB over the raw JSONL.gz, typed, and reading only the channels that are needed. The raw
frames of one hour are enough for that: nothing in them is indexed, so the time grows with the bytes (which is measured
too), and what is shown is its time for 24 hours. Where a question is asked of that hour alone, both give the same
answer, or the bench fails.
"""

import os
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import duckdb

from bench import parts
from bench.figures import Measured, Row
from bench.query_day import HOUR_NS, HOURS, START_NS, Day, make
from bench.size import Size
from ssmd import config, lake
from ssmd.clock import DAY_NS
from ssmd.lake import macros

ROUNDS = 3
BESIDE = "DuckDB over JSONL.gz"


class Question(NamedTuple):
    """SQL about {symbol} from {start} to {end}, or at {at}; `of_raw` where the raw frames must be asked otherwise."""

    what: str
    sql: str
    of_raw: str = ""


DURING = "symbol = '{symbol}' AND ts_recv >= {start} AND ts_recv < {end}"
BEFORE = "symbol = '{symbol}' AND ts_recv >= {start} AND ts_recv <= {at}"
QUESTIONS = (
    Question(
        "last price of a symbol at a time",
        f"SELECT price FROM trades WHERE {BEFORE} ORDER BY ts_recv DESC, n DESC LIMIT 1",
    ),
    Question(
        "one-minute bars of a symbol",
        "SELECT ts_recv // 60_000_000_000 AS minute, first(price ORDER BY ts_recv, n), max(price), min(price), "
        f"last(price ORDER BY ts_recv, n), sum(size) FROM trades WHERE {DURING} GROUP BY minute ORDER BY minute",
    ),
    Question(
        "spread of a symbol, by hour",
        "SELECT ts_recv // 3_600_000_000_000 AS hour, count(*), sum(ask - bid) FROM tickers "
        f"WHERE {DURING} AND bid IS NOT NULL AND ask IS NOT NULL GROUP BY hour ORDER BY hour",
    ),
    Question(
        "top of book of a symbol at a time",
        f"SELECT bid, bid_size, ask, ask_size FROM tickers WHERE {BEFORE} ORDER BY ts_recv DESC, n DESC LIMIT 1",
    ),
    Question(
        "all trades of a symbol",
        f"SELECT ts_recv, ts_event, price, size, side, trade_id FROM trades WHERE {DURING} ORDER BY ts_recv, n",
    ),
    Question(
        "most active symbols",
        "SELECT symbol, count(*) AS trades, sum(size) FROM trades WHERE ts_recv >= {start} AND ts_recv < {end} "
        "GROUP BY symbol ORDER BY trades DESC, symbol LIMIT 10",
    ),
    Question(
        "volume by hour, all symbols",
        "SELECT ts_recv // 3_600_000_000_000 AS hour, sum(size) FROM trades "
        "WHERE ts_recv >= {start} AND ts_recv < {end} GROUP BY hour ORDER BY hour",
    ),
    Question(
        "the gap list",
        "SELECT gap, cause, ts_start, ts_end, symbols FROM gaps WHERE ts_start >= {start} AND ts_start < {end} "
        "ORDER BY ts_start, gap",
    ),
    Question(
        "coverage: how much of the day is there of each symbol",
        "SELECT symbol, covered_seconds, gaps, condition FROM coverage ORDER BY symbol",
        "SELECT symbol, min(ts_recv), max(ts_recv), count(*) FROM (SELECT symbol, ts_recv FROM book_deltas UNION ALL "
        "SELECT symbol, ts_recv FROM tickers UNION ALL SELECT symbol, ts_recv FROM trades) GROUP BY symbol",
    ),
    Question("the order book at an instant", "SELECT side, price, size FROM book_at('{symbol}', {at})"),
)

# The raw frames as tables of the same columns: what a user who knows Kalshi and DuckDB would write.
_RAW = {
    "trades": (
        "trade",
        "market_ticker VARCHAR, trade_id VARCHAR, yes_price_dollars DECIMAL(18,6), count_fp DECIMAL(18,2), "
        "taker_outcome_side VARCHAR, ts_ms BIGINT",
        "ts_recv, m.ts_ms * 1_000_000 AS ts_event, m.market_ticker AS symbol, conn, n, m.yes_price_dollars AS price, "
        "m.count_fp AS size, CASE m.taker_outcome_side WHEN 'yes' THEN 'buy' WHEN 'no' THEN 'sell' END AS side, "
        "m.trade_id",
    ),
    "tickers": (
        "ticker",
        "market_ticker VARCHAR, yes_bid_dollars DECIMAL(18,6), yes_ask_dollars DECIMAL(18,6), "
        "yes_bid_size_fp DECIMAL(18,2), yes_ask_size_fp DECIMAL(18,2)",
        "ts_recv, m.market_ticker AS symbol, conn, n, "
        "CASE WHEN m.yes_bid_size_fp > 0 THEN m.yes_bid_dollars END AS bid, "
        "CASE WHEN m.yes_bid_size_fp > 0 THEN m.yes_bid_size_fp END AS bid_size, "
        "CASE WHEN m.yes_ask_size_fp > 0 THEN m.yes_ask_dollars END AS ask, "
        "CASE WHEN m.yes_ask_size_fp > 0 THEN m.yes_ask_size_fp END AS ask_size",
    ),
    "book_deltas": (
        "orderbook_delta",
        "market_ticker VARCHAR, price_dollars DECIMAL(18,6), delta_fp DECIMAL(18,2), side VARCHAR",
        "ts_recv, make_timestamp_ns(ts_recv)::DATE AS date, m.market_ticker AS symbol, 'kalshi' AS feed, conn, n, "
        "0 AS item, "
        "CASE m.side WHEN 'yes' THEN 'bid' ELSE 'ask' END AS side, "
        "CASE m.side WHEN 'yes' THEN m.price_dollars ELSE 1 - m.price_dollars END::DECIMAL(18,6) AS price, "
        "NULL::DECIMAL(18,2) AS size, m.delta_fp AS change",
    ),
    "book_snapshots": (
        "orderbook_snapshot",
        "market_ticker VARCHAR, yes_dollars_fp VARCHAR[][], no_dollars_fp VARCHAR[][]",
        "ts_recv, make_timestamp_ns(ts_recv)::DATE AS date, m.market_ticker AS symbol, 'kalshi' AS feed, conn, n, "
        "0 AS item, "
        "list_transform(m.yes_dollars_fp, lambda x: {'price': x[1]::DECIMAL(18,6), 'size': x[2]::DECIMAL(18,2)}) "
        "AS bids, "
        "list_transform(m.no_dollars_fp, lambda x: {'price': (1 - x[1]::DECIMAL(18,6))::DECIMAL(18,6), "
        "'size': x[2]::DECIMAL(18,2)}) AS asks",
    ),
}
_GAPS = (
    "CREATE VIEW gaps AS SELECT 'kalshi' AS feed, conn AS session, frame.gap, frame.cause, "
    "frame.start AS ts_start, frame.end AS ts_end, frame.symbols "
    "FROM read_json('{raw}/_gap_*.jsonl.gz', format = 'newline_delimited', columns = {{ts_recv: 'BIGINT', "
    "conn: 'VARCHAR', n: 'BIGINT', "
    "frame: 'STRUCT(gap VARCHAR, cause VARCHAR, start BIGINT, \"end\" BIGINT, symbols VARCHAR[])'}}) "
    "QUALIFY row_number() OVER (PARTITION BY frame.gap ORDER BY ts_recv DESC, n DESC) = 1"
)


def run(size: Size) -> Measured:
    """Make a day of at least so many rows (20 bytes a row at most) and ask."""
    with parts.scratch() as folder:
        day = make(folder, size.rows)
        symbol = day.symbols[len(day.symbols) // 2]
        notes = {0: connecting(day), 2: halved(day, symbol)}
        with over_raw(day) as raw:
            return Measured([asked(question, day, symbol, raw, notes.get(i)) for i, question in enumerate(QUESTIONS)])


def asked(question: Question, day: Day, symbol: str, raw: duckdb.DuckDBPyConnection, note: str | None) -> Row:
    """Ours of the whole day, with the files not in memory and then again; the other way of an hour, times 24."""
    of_day = question.sql.format(symbol=symbol, start=START_NS, end=START_NS + DAY_NS, at=START_NS + 27 * HOUR_NS // 2)
    hour = {"symbol": symbol, "start": START_NS, "end": START_NS + HOUR_NS, "at": START_NS + HOUR_NS // 2}
    with lake.connect(day.data) as ours:
        forget(day.data)
        cold, _ = timed(ours, of_day)
        warm = [timed(ours, of_day)[0] for _ in range(ROUNDS)]
        _, here = timed(ours, question.sql.format(**hour))
    times = [timed(raw, (question.of_raw or question.sql).format(**hour)) for _ in range(ROUNDS)]
    there = times[0][1]
    assert here, f"{question.what}: there is no answer"
    assert question.of_raw or here == there, f"{question.what}: {here[:3]} of the lake, but {there[:3]} of raw frames"
    notes = [f"{cold:.2g} s with nothing in memory", *([note] if note else [])]
    if question.of_raw:
        notes.append("raw frames cannot tell it: when something was heard of each symbol instead")
    theirs = [seconds * HOURS for seconds, _ in times]
    return Row(question.what, "s", warm, BESIDE, theirs, more_is_better=False, note="; ".join(notes))


def timed(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[float, list[Any]]:
    """Seconds until all of the answer was there, and the answer."""
    began = time.perf_counter()
    rows = connection.execute(sql).fetchall()
    return time.perf_counter() - began, rows


def over_raw(day: Day, segments: str = "*") -> duckdb.DuckDBPyConnection:
    """The raw frames of the day's first hour, under the lake's names."""
    connection = duckdb.connect()
    connection.execute("SET enable_progress_bar = false")
    for table, (channel, shape, select) in _RAW.items():
        connection.execute(
            f"CREATE VIEW {table} AS SELECT {select} FROM (SELECT ts_recv, conn, n, frame.msg AS m FROM "
            f"read_json('{day.raw}/{channel}_{segments}.jsonl.gz', format = 'newline_delimited', columns = "
            f"{{ts_recv: 'BIGINT', conn: 'VARCHAR', n: 'BIGINT', frame: 'STRUCT(msg STRUCT({shape}))'}}))"
        )
    connection.execute(_GAPS.format(raw=day.raw))
    connection.execute(
        "CREATE TABLE sessions (ts_recv BIGINT, type VARCHAR, feed VARCHAR, conn VARCHAR, session VARCHAR, "
        "detail VARCHAR)"
    )
    macros.make_books(connection)
    return connection


def connecting(day: Day) -> str:
    """How long it takes to connect to the lake, in words."""
    time.sleep(0.2)  # what was written later than that would be hashed again the next time
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        lake.connect(day.data).close()
        seconds.append(time.perf_counter() - began)
    size = f"{day.lake_bytes / 1e6:,.0f} MB of {day.rows:,} rows about {len(day.symbols):,} symbols"
    return f"connecting: {seconds[0]:.2g} s the first time (hashes {size}), {seconds[1]:.2g} s later"


def halved(day: Day, symbol: str) -> str:
    """Whether the time over raw frames grows with their bytes: half of the segments against all."""
    sql = QUESTIONS[2].sql.format(symbol=symbol, start=START_NS, end=START_NS + HOUR_NS)
    with over_raw(day) as whole, over_raw(day, "00[01]") as half:
        times = [(timed(half, sql)[0], timed(whole, sql)[0]) for _ in range(ROUNDS)]
    return f"half of the raw hour takes {median(a / b for a, b in times):.2f} of the time"


def forget(data: Path) -> None:
    """Have the kernel drop the lake's files from memory."""
    for path in config.Places(data).lake.rglob("*.parquet"):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
