"""A comparison is only fair between those who come to the same end."""

import contextlib
import json
import re
import sys
import time
from pathlib import Path

import duckdb
import nats
import pytest

from bench import latency, parts, rollup

FRAMES = 2_000
COLUMNS = {
    "trades": "ts_recv, ts_event, symbol, conn, n, price, size, side, trade_id",
    "book_deltas": "ts_recv, ts_event, symbol, conn, n, side, price, change",
    "tickers": "ts_recv, ts_event, symbol, conn, n, volume, open_interest",
}


@pytest.fixture(scope="module")
def lakes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A day, rolled up each way."""
    folder = tmp_path_factory.mktemp("lakes")
    rollup.make_day(folder / "archive", rollup.DATE, FRAMES, rollup.HOURS)
    rollup.make_day(folder / "archive", rollup.SMALL_DATE, 100, rollup.HOURS)
    for way in ("ours", *rollup.WAYS):
        rollup.once(way, folder, threads=1, count=FRAMES, number=0)
    return folder


@pytest.mark.parametrize("table", COLUMNS)
@pytest.mark.parametrize("way", rollup.WAYS)
def test_every_way_makes_the_same_rows(lakes: Path, table: str, way: str) -> None:
    date = rollup.DATE
    ours = f"SELECT {COLUMNS[table]} FROM '{lakes}/lake-ours-1-0/{table}/**/date={date}/*.parquet'"
    theirs = f"SELECT {COLUMNS[table]} FROM '{lakes}/lake-{way}-1-0/{table}.parquet'"
    assert duckdb.sql(f"SELECT count(*) FROM ({ours})").fetchall()[0][0] > 0
    for one, other in ((ours, theirs), (theirs, ours)):
        assert duckdb.sql(f"({one}) EXCEPT ALL ({other})").fetchall() == []


@pytest.mark.parametrize("way", rollup.WAYS)
def test_every_way_sorts_alike(lakes: Path, way: str) -> None:
    for table in COLUMNS:
        [path] = (lakes / f"lake-{way}-1-0").glob(f"{table}.parquet")
        rows = duckdb.sql(f"SELECT symbol, ts_recv, conn, n FROM '{path}'").fetchall()
        assert rows == sorted(rows)


async def test_ages_are_counted_from_the_stamp(tmp_path: Path) -> None:
    with parts.Nats(tmp_path) as server:
        command = [sys.executable, "-m", "bench.latency", "listen", server.url]
        with parts.Part("listen", command, tmp_path) as listener:
            listener.told("ready")
            connection = await nats.connect(server.url)
            for age_ms in (20, 20, 20, 500):
                stamp = time.monotonic_ns() - age_ms * 1_000_000
                await connection.publish(f"{latency.SUBJECT}.trade.X", b'{"frame":{"sent_ns":%d}}' % stamp)
            await connection.flush()
            listener.order("report 4")
            ages = json.loads(" ".join(listener.told("report")))
            with contextlib.suppress(nats.errors.Error):
                await connection.close()
    assert 20_000 <= ages["50"] < 400_000
    assert ages["100"] >= 500_000


def test_the_stamp_is_where_the_listener_looks() -> None:
    """A frame as the blaster sends it, in a message as the connector publishes it."""
    message = b'{"ts_recv":1,"conn":"c","n":1,"frame":{"type":"trade","msg":{},"sent_ns":12345}}'
    assert re.findall(latency.STAMP, message) == [b"12345"]
