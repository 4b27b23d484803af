"""Archive → Parquet: our rollup beside DuckDB's typed read_json and polars, on the same segments and threads.

python -m bench.rollup WAY FOLDER THREADS does it once when it reads `go`. All make the same typed, sorted tables of
trades, tickers and book deltas, decimals exact, ZSTD, synced. Ours is the activity that the workflow runs: the
venue's grammar for each frame, its counts checked, page checksums, output hashed; DuckDB and polars know the shape
of these frames and check nothing.
"""

import hashlib
import itertools
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from datetime import time as midnight
from pathlib import Path
from typing import Any

from isal import igzip

from bench import corpus, parts
from bench.figures import Curve, Measured, Row
from bench.size import Size
from exchanges.kalshi import venue
from exchanges.port import Subscription
from ssmd import archive, config, durable, frames, jobs

WAYS = {"duckdb": "DuckDB read_json → Parquet", "polars": "polars + igzip"}
DATE, SMALL_DATE = "2026-08-11", "2026-08-10"
CONN = "kalshi-0-019fb3c2b7d-7f3a"
HOURS = 4
HOUR_NS = 3600 * 10**9
MARKETS = 100
BODY_FRAMES = 60_000
MEMBER_LINES = 20_000  # what an archiver commits at once at 20k frames/s
GZIP_LEVEL = 2
TABLES = {"orderbook_delta": "book_deltas", "ticker": "tickers", "trade": "trades"}


def run(size: Size) -> Measured:
    """Every way on one thread and on two, in turn, several rounds."""
    speed: dict[tuple[str, int], list[float]] = {}
    peak: dict[tuple[str, int], list[float]] = {}
    count = 4 * size.frames
    with parts.scratch() as folder:
        make_day(folder / "archive", DATE, count, HOURS)
        make_day(folder / "archive", SMALL_DATE, 100, HOURS)
        for number in range(size.rounds):
            for threads in (1, 2):
                for way in ("ours", *WAYS):
                    rows_per_second, peak_bytes = once(way, folder, threads, count, number)
                    speed.setdefault((way, threads), []).append(rows_per_second)
                    peak.setdefault((way, threads), []).append(peak_bytes / 2**20)
    rows = []
    for threads in (1, 2):
        what = f"rollup, {threads} thread{'s'[: threads - 1]}"
        for way, name in WAYS.items():
            target = 1.0 if way == "duckdb" else None
            rows.append(Row(what, "rows/s", speed["ours", threads], name, speed[way, threads], ratio_min=target))
        rows.append(
            Row(
                f"{what}, peak memory",
                "MB",
                peak["ours", threads],
                WAYS["duckdb"],
                peak["duckdb", threads],
                more_is_better=False,
            )
        )
    names = {"ours": "ssmd rollup"} | WAYS
    curves = [
        Curve("rollup", f"{names[way]}, {threads} thread{'s'[: threads - 1]}", [], found)
        for (way, threads), found in speed.items()
    ]
    return Measured(rows, curves)


def once(way: str, folder: Path, threads: int, count: int, number: int) -> tuple[float, int]:
    """Rows/s, and the most memory its processes held, each at its own worst moment."""
    lake = folder / f"lake-{way}-{threads}-{number}"
    lake.mkdir()
    command = [sys.executable, "-m", "bench.rollup", way, str(folder), str(lake), str(threads)]
    with parts.Part(f"rollup-{way}", command, folder, {"POLARS_MAX_THREADS": str(threads)}) as part:
        part.told("ready")
        began = time.monotonic_ns()
        part.order("go")
        done, rows = map(int, part.told("done", 300))
        if rows != count:
            raise parts.Failed(f"{way} made {rows} rows of {count} frames")
        return rows / ((done - began) / 1e9), part.peak_bytes


# ---------------------------------------------------------------------------------------------------- the archive


def make_day(root: Path, day: str, count: int, hours: int) -> None:
    """A sealed day of `count` frames, as an archiver leaves it: a segment per channel and hour."""
    made = corpus.make(min(count, BODY_FRAMES), MARKETS)
    adapter = venue.adapter(Subscription(corpus.CHANNELS, tuple(made.symbols)))
    adapter.opened()
    for wire in made.opening:
        adapter.received(wire, corpus.START_NS)
    start = int(datetime.combine(date.fromisoformat(day), midnight(), UTC).timestamp()) * 10**9
    folder = archive.day_folder(root, parts.FEED, day)
    durable.make_folder(folder)
    segments = []
    wires = enumerate(itertools.islice(made.wires(), count), 1)
    for hour in range(hours):
        lines: dict[str, list[bytes]] = {}
        symbols: dict[str, Counter[str]] = {}
        share = count // hours + (hour < count % hours)
        for place, (n, wire) in enumerate(itertools.islice(wires, share)):
            ts_recv = start + hour * HOUR_NS + place * (HOUR_NS // share)
            route = adapter.received(wire, ts_recv)
            message = frames.message(ts_recv, CONN.encode(), n, wire)
            lines.setdefault(route.channel, []).append(frames.line(n, message) + b"\n")
            symbols.setdefault(route.channel, Counter())[str(route.symbol)] += 1
        for channel, some in lines.items():
            segments.append(segment(folder, channel, hour, some, dict(symbols[channel])))
    manifest = archive.Manifest(
        feed=parts.FEED,
        date=day,
        revision=1,
        sealed=True,
        segments=segments,
        connections=[archive.Connection(CONN, 1, count, count)],
    )
    archive.save_manifest(archive.manifest_path(root, parts.FEED, day), manifest)


def segment(folder: Path, channel: str, hour: int, lines: list[bytes], symbols: dict[str, int]) -> archive.Segment:
    members = [b"".join(lines[i : i + MEMBER_LINES]) for i in range(0, len(lines), MEMBER_LINES)]
    data = b"".join(igzip.compress(member, GZIP_LEVEL, mtime=0) for member in members)
    name = archive.segment_name(channel, hour)
    (folder / name).write_bytes(data)
    first, last = frames.parse(lines[0]), frames.parse(lines[-1])
    return archive.Segment(
        name=name,
        channel=channel,
        records=len(lines),
        bytes=len(data),
        raw_bytes=sum(map(len, lines)),
        members=len(members),
        sha256=hashlib.sha256(data).hexdigest(),
        seq_first=first.seq,
        seq_last=last.seq,
        ts_recv_first=first.ts_recv,
        ts_recv_last=last.ts_recv,
        symbols=symbols,
        hours=[hour],
    )


# ------------------------------------------------------------------------------------------------------- the ways


def ours(folder: Path, lake: Path, threads: int) -> Callable[[], int]:
    from temporalio.testing import ActivityEnvironment

    from activities.processes import Processes
    from activities.rollup import Rollup

    places = config.Places(folder)
    places.lake = lake
    rollup = Rollup(places, Processes(threads))
    pool = ThreadPoolExecutor(threads)

    def hours(day: str) -> int:
        def hour(number: int) -> jobs.RolledHour:
            return ActivityEnvironment().run(rollup.rollup_hour, jobs.Hour(parts.FEED, day, number, 1))

        return sum(part.rows for rolled in pool.map(hour, range(HOURS)) for part in rolled.parts)

    hours(SMALL_DATE)  # the processes are started, and have imported what they need
    return lambda: hours(DATE)


def duckdb(folder: Path, lake: Path, threads: int) -> Callable[[], int]:
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"SET threads = {threads}")
    fields = {
        "orderbook_delta": "ts TIMESTAMP, price_dollars DECIMAL(18,6), delta_fp DECIMAL(18,2), side VARCHAR",
        "ticker": "price_dollars DECIMAL(18,6), yes_bid_dollars DECIMAL(18,6), yes_ask_dollars DECIMAL(18,6), "
        "yes_bid_size_fp DECIMAL(18,2), yes_ask_size_fp DECIMAL(18,2), last_trade_size_fp DECIMAL(18,2), "
        "volume_fp DECIMAL(18,2), open_interest_fp DECIMAL(18,2)",
        "trade": "yes_price_dollars DECIMAL(18,6), count_fp DECIMAL(18,2), taker_side VARCHAR, trade_id VARCHAR",
    }
    columns = {
        "orderbook_delta": "if(m.side = 'yes', 'bid', 'ask') AS side, "
        "if(m.side = 'yes', m.price_dollars, 1 - m.price_dollars)::DECIMAL(18,6) AS price, m.delta_fp AS change",
        "ticker": "m.price_dollars AS last, m.last_trade_size_fp AS last_size, m.yes_bid_dollars AS bid, "
        "m.yes_bid_size_fp AS bid_size, m.yes_ask_dollars AS ask, m.yes_ask_size_fp AS ask_size, "
        "m.volume_fp AS volume, m.open_interest_fp AS open_interest",
        "trade": "m.yes_price_dollars AS price, m.count_fp AS size, "
        "if(m.taker_side = 'yes', 'buy', 'sell') AS side, m.trade_id",
    }
    source = archive.day_folder(folder / "archive", parts.FEED, DATE)

    def all_tables() -> int:
        rows = 0
        for channel, table in TABLES.items():
            message = f"STRUCT(market_ticker VARCHAR, ts_ms BIGINT, {fields[channel]})"
            happened = "epoch_ns(m.ts)" if channel == "orderbook_delta" else "m.ts_ms * 1000000"
            typed = f"{{ts_recv: 'BIGINT', conn: 'VARCHAR', n: 'BIGINT', frame: 'STRUCT(msg {message})'}}"
            path = lake / f"{table}.parquet"
            rows += connection.execute(
                f"COPY (SELECT ts_recv, {happened} AS ts_event, '{parts.FEED}' AS feed, "
                f"m.market_ticker AS symbol, conn, n, 0::INTEGER AS item, {columns[channel]} "
                f"FROM (SELECT ts_recv, conn, n, frame.msg AS m FROM read_json('{source}/{channel}_*.jsonl.gz', "
                f"format = 'newline_delimited', columns = {typed})) ORDER BY symbol, ts_recv, conn, n) "
                f"TO '{path}' (FORMAT parquet, COMPRESSION zstd)"
            ).fetchall()[0][0]
            sync(path)
        return rows

    return all_tables


def polars(folder: Path, lake: Path, threads: int) -> Callable[[], int]:
    import polars as pl

    price, size = pl.Decimal(18, 6), pl.Decimal(18, 2)
    assert pl.thread_pool_size() == threads
    texts = {
        "orderbook_delta": ("ts", "price_dollars", "delta_fp", "side"),
        "ticker": (
            "price_dollars",
            "yes_bid_dollars",
            "yes_ask_dollars",
            "yes_bid_size_fp",
            "yes_ask_size_fp",
            "last_trade_size_fp",
            "volume_fp",
            "open_interest_fp",
        ),
        "trade": ("yes_price_dollars", "count_fp", "taker_side", "trade_id"),
    }
    yes = pl.col("side") == "yes"
    happened = {"orderbook_delta": pl.col("ts").str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="ns").to_physical()}
    columns = {
        "orderbook_delta": [
            pl.when(yes).then(pl.lit("bid")).otherwise(pl.lit("ask")).alias("side"),
            pl.when(yes)
            .then(pl.col("price_dollars").cast(price))
            .otherwise(1 - pl.col("price_dollars").cast(price))
            .alias("price"),
            pl.col("delta_fp").cast(size).alias("change"),
        ],
        "ticker": [
            pl.col("price_dollars").cast(price).alias("last"),
            pl.col("last_trade_size_fp").cast(size).alias("last_size"),
            pl.col("yes_bid_dollars").cast(price).alias("bid"),
            pl.col("yes_bid_size_fp").cast(size).alias("bid_size"),
            pl.col("yes_ask_dollars").cast(price).alias("ask"),
            pl.col("yes_ask_size_fp").cast(size).alias("ask_size"),
            pl.col("volume_fp").cast(size).alias("volume"),
            pl.col("open_interest_fp").cast(size).alias("open_interest"),
        ],
        "trade": [
            pl.col("yes_price_dollars").cast(price).alias("price"),
            pl.col("count_fp").cast(size).alias("size"),
            pl.when(pl.col("taker_side") == "yes").then(pl.lit("buy")).otherwise(pl.lit("sell")).alias("side"),
            pl.col("trade_id"),
        ],
    }
    source = archive.day_folder(folder / "archive", parts.FEED, DATE)

    def all_tables() -> int:
        rows = 0
        for channel, table in TABLES.items():
            message: dict[str, Any] = {"market_ticker": pl.String, "ts_ms": pl.Int64} | dict.fromkeys(
                texts[channel], pl.String
            )
            schema: dict[str, Any] = {
                "ts_recv": pl.Int64,
                "conn": pl.String,
                "n": pl.Int64,
                "frame": pl.Struct({"msg": pl.Struct(message)}),
            }
            raw = b"".join(igzip.decompress(p.read_bytes()) for p in sorted(source.glob(f"{channel}_*.jsonl.gz")))
            frame = (
                pl.read_ndjson(raw, schema=schema)
                .lazy()
                .select("ts_recv", "conn", "n", pl.col("frame").struct.field("msg"))
                .unnest("msg")
                .select(
                    "ts_recv",
                    happened.get(channel, pl.col("ts_ms") * 1_000_000).alias("ts_event"),
                    pl.lit(parts.FEED).alias("feed"),
                    pl.col("market_ticker").alias("symbol"),
                    "conn",
                    "n",
                    pl.lit(0, pl.Int32).alias("item"),
                    *columns[channel],
                )
                .sort("symbol", "ts_recv", "conn", "n")
                .collect()
            )
            path = lake / f"{table}.parquet"
            frame.write_parquet(path, compression="zstd", compression_level=3)
            sync(path)
            rows += frame.height
        return rows

    return all_tables


def sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    os.fsync(file)
    os.close(file)


def main(way: str, folder: str, lake: str, threads: str) -> None:
    work = {"ours": ours, "duckdb": duckdb, "polars": polars}[way](Path(folder), Path(lake), int(threads))
    print("ready", flush=True)
    sys.stdin.readline()
    rows = work()
    print("done", time.monotonic_ns(), rows, flush=True)
    time.sleep(60)


if __name__ == "__main__":
    main(*sys.argv[1:])
