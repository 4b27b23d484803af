"""Trades that came twice or late, bars without trades, one name at two venues."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import duckdb
import msgspec
import pytest

from activities.processes import Processes
from ssmd import archive, config, jobs, lake
from ssmd.events import Gap
from tests.lake.archives import DATE, FEED, GOLD, HOUR, SECOND, SILVER, ArchivedDay, midnight
from tests.lake.captures import roll_up

MINUTE = 60 * SECOND
START, END = midnight(), midnight() + 24 * HOUR
D = Decimal


def trade(day: ArchivedDay, symbol: str, price: str, size: str, trade_id: str) -> None:
    day.trade(symbol, price, size)
    at, line = day.lines["trade"][-1]
    own = f"cb2a3ad5-1e1e-4b62-9f0d-{day.n - 1:012d}".encode()  # as ArchivedDay has it
    day.lines["trade"][-1] = at, line.replace(own, trade_id.encode())


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """Trades of GOLD at 1:00, 1:01 and 1:04; at 1:01 another connection takes over and tells that trade too. A gap from
    1:02:00 to 1:03:30. SILVER trades at kalshi and at another feed."""
    data = tmp_path_factory.mktemp("data")
    folder = tmp_path_factory.mktemp("config")
    (folder / "feeds").mkdir(parents=True)
    kalshi = (config.config_folder() / "feeds" / "kalshi.yaml").read_text()
    (folder / "feeds" / "kalshi.yaml").write_text(kalshi)
    (folder / "feeds" / "other.yaml").write_text(kalshi.replace("name: kalshi", "name: other"))
    day = ArchivedDay(conn="kalshi-0-0198964b3f2-0001")
    trade(day.at(1), GOLD, "0.5000", "2.00", "a")
    trade(day.at(1, 1), GOLD, "0.6000", "1.00", "b")
    trade(day, GOLD, "0.6100", "1.00", "b")  # Polymarket's ids are those of transactions: several trades have one
    trade(day, SILVER, "0.3000", "1.00", "c")
    day.conn, day.n = "kalshi-0-0198964b3f3-0002", 0
    trade(day.at(1, 1), GOLD, "0.6000", "1.00", "b")
    gap = Gap(
        "g1", FEED, day.conn, [GOLD], START + 62 * MINUTE, START + 63 * MINUTE + MINUTE // 2, "sequence", "missing"
    )
    trade(day.at(1, 4).gap(gap), GOLD, "0.4000", "4.00", "d")
    other = ArchivedDay(feed="other", conn="other-0-0198964b3f2-0001")
    trade(other.at(1, 2), SILVER, "0.3100", "1.00", "c")
    with pytest.MonkeyPatch.context() as patch, Processes(1) as processes:
        patch.setenv("SSMD_CONFIG", str(folder))
        for one in (day, other):
            manifest = one.write(data / "archive")
            whole = msgspec.structs.replace(manifest, connections=[archive.Connection(one.conn, 1, one.n, one.n)])
            archive.save_manifest(archive.manifest_path(data / "archive", one.feed, DATE), whole)
            roll_up(data, processes, jobs.Day(one.feed, DATE))
    with lake.connect(data) as connection:
        yield connection


def test_a_trade_that_came_on_two_connections_counts_once(db: duckdb.DuckDBPyConnection) -> None:
    bars = db.sql(f"SELECT ts_start, open, close, volume, trades FROM bars('{GOLD}', {START}, {END})").fetchall()
    assert [((ts - START) // MINUTE, *rest) for ts, *rest in bars] == [
        (60, D("0.5"), D("0.5"), D(2), 1),
        (61, D("0.6"), D("0.61"), D(2), 2),
        (64, D("0.4"), D("0.4"), D(4), 1),
    ]
    assert db.sql(f"SELECT count(*) FROM trades WHERE symbol = '{GOLD}'").fetchall() == [(5,)], "the control"


def test_empty_bars_are_filled_but_not_where_nothing_is_known(db: duckdb.DuckDBPyConnection) -> None:
    sql = f"""SELECT ts_start, open, high, low, close, volume, trades, vwap, in_gap
        FROM bars('{GOLD}', {START}, {END}, every := '30 seconds', fill := true)"""
    filled = {(ts - START) / MINUTE: rest for ts, *rest in db.sql(sql).fetchall()}
    assert list(filled) == [60 + i / 2 for i in range(9)]
    assert filled[60.5] == [D("0.5")] * 4 + [D(0), 0, None, False]
    assert filled[61.5] == [D("0.61")] * 4 + [D(0), 0, None, False]
    assert filled[62] == filled[62.5] == filled[63] == [None] * 7 + [True]
    assert filled[64][:6] == [D("0.4")] * 4 + [D(4), 1]


def test_a_name_at_two_venues_must_be_told_apart_where_the_answer_is_one(db: duckdb.DuckDBPyConnection) -> None:
    rows = db.sql(f"SELECT feed, close FROM bars('{SILVER}', {START}, {END})").fetchall()
    assert rows == [("kalshi", D("0.3")), ("other", D("0.31"))]
    rows = db.sql(f"SELECT feed, close FROM bars(['{SILVER}', '{GOLD}'], {START}, {END}, feed := 'other')").fetchall()
    assert rows == [("other", D("0.31"))]
    for asked in (f"last_price_at('{SILVER}', {END})", f"vwap('{SILVER}', {START}, {END})"):
        with pytest.raises(duckdb.Error, match="is in the feeds kalshi, other: say which one, with feed := 'kalshi'"):
            db.sql(f"SELECT {asked}").fetchall()
    sql = (
        f"SELECT last_price_at('{SILVER}', {END}, feed := 'other'), vwap('{SILVER}', {START}, {END}, feed := 'kalshi')"
    )
    assert db.sql(sql).fetchall() == [(D("0.31"), pytest.approx(0.3))]


def test_a_fetched_trade_is_placed_by_the_venues_time() -> None:
    """It came at the end of its gap, an hour later at most."""
    with duckdb.connect() as connection:
        connection.execute("""CREATE TABLE trades AS SELECT * FROM (VALUES
            (3_600_000_000_000, 60_000_000_000, 'backfill:rest-0-1', 1, 5.0),
            (120_000_000_000, 119_000_000_000, 'kalshi-0-1', 1, 6.0)
        ) AS t (ts_recv, ts_event, conn, n, price)""")
        connection.execute("""ALTER TABLE trades ADD COLUMN feed VARCHAR DEFAULT 'kalshi'""")
        for column in ("symbol VARCHAR DEFAULT 'X'", "date DATE DEFAULT '1970-01-01'", "item INTEGER DEFAULT 0"):
            connection.execute(f"ALTER TABLE trades ADD COLUMN {column}")
        for column in ("size DECIMAL(9,2) DEFAULT 1", "side VARCHAR DEFAULT 'buy'", "trade_id VARCHAR"):
            connection.execute(f"ALTER TABLE trades ADD COLUMN {column}")
        for table in ("gaps", "sessions", "book_snapshots", "book_deltas"):
            with lake.connect(Path("nowhere")) as empty:
                connection.register(table, empty.sql(f"FROM {table}").to_arrow_table())
        lake.macros.make(connection)
        rows = connection.sql("SELECT ts_start, close FROM bars('X', 0, 3_000_000_000_000)").fetchall()
        assert rows == [(60_000_000_000, 5), (120_000_000_000, 6)]
        assert connection.sql("SELECT last_price_at('X', 100_000_000_000)").fetchall() == [(5,)]


def test_times_are_said_as_people_write_them(db: duckdb.DuckDBPyConnection) -> None:
    sql = f"""SELECT ns('{DATE}'), ns('{DATE} 02:00+02:00'), ns(TIMESTAMP '{DATE}'), ns(DATE '{DATE}'),
        ns(TIMESTAMP_NS '{DATE} 00:00:00.123456789'), ts({START + 1})::VARCHAR"""
    [row] = db.sql(sql).fetchall()
    assert row == (START, START, START, START, START + 123_456_789, f"{DATE} 00:00:00.000000001")
