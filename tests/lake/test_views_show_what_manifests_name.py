"""The views hold what manifests name, exactly; what is not whole says so."""

import datetime
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import duckdb
import msgspec
import pytest
from temporalio.testing import ActivityEnvironment

from activities.archive import Archive
from activities.processes import Processes
from activities.rollup import Rollup
from ssmd import archive, config, jobs, lake, tables
from ssmd.errors import Permanent
from tests.lake.archives import DATE, FEED, GOLD, SILVER, ArchivedDay, a_day, midnight

COUNTS = {"trades": 2, "tickers": 1, "book_deltas": 6, "book_snapshots": 3, "status": 1, "sessions": 4, "gaps": 1}


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    with Processes(2) as pool:
        yield pool


def roll_up(data: Path, processes: Processes, day: jobs.Day) -> jobs.RolledUp:
    places = config.Places(data)
    step = ActivityEnvironment().run
    sealed = step(Archive(places, "local", "").verify, day)
    rollup = Rollup(places, processes)
    hours = [step(rollup.rollup_hour, jobs.Hour(day.feed, day.date, h, sealed.revision)) for h in sealed.hours]
    return step(rollup.publish_day, sealed, hours)


@pytest.fixture
def data(tmp_path: Path, processes: Processes) -> Path:
    a_day().write(tmp_path / "archive", per_segment=4)
    roll_up(tmp_path, processes, jobs.Day(FEED, DATE))
    return tmp_path


def ask(data: Path, sql: str) -> list[tuple[object, ...]]:
    with lake.connect(data) as connection:
        return connection.execute(sql).fetchall()


def test_every_view_has_its_rows(data: Path) -> None:
    assert {view: ask(data, f"select count(*) from {view}")[0][0] for view in tables.TABLES} == COUNTS
    assert ask(data, "select count(*) from raw") == [(22,)]


def test_a_gap_is_one_row_from_its_beginning_to_its_end(data: Path) -> None:
    """It was written twice, when it opened and when it closed; both rows are in the Parquet file."""
    assert ask(data, "select count(*) from gaps where ts_end is not null and ts_end > ts_start") == [(1,)]


def test_an_empty_folder_gives_empty_views_with_the_same_columns(data: Path, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    for view in lake.VIEWS:
        columns = ask(nothing, f"describe {view}")
        assert columns == ask(data, f"describe {view}")
        assert ask(nothing, f"from {view}") == []


def test_date_is_a_date_and_common_columns_come_first(data: Path) -> None:
    assert ask(data, "select distinct feed, date from trades") == [(FEED, datetime.date(2026, 8, 11))]
    for table in tables.TABLES:
        names = [row[0] for row in ask(data, f"describe {table}")]
        assert [n for n in names if n != "date"][: len(tables.COMMON)] == list(tables.COMMON)


def test_raw_frames_are_the_venues_bytes(tmp_path: Path) -> None:
    wires = [
        b'{"type":"trade", "price": 1.10, "big":12345678901234567890123, "twice":1, "twice":2}',
        '{"type":"trade","name":"Zürich ✓ \\u00e9","frame":"\\"frame\\":{}"}'.encode(),
        b'  {"type":"trade"}\n',
        b'[{"type":"trade"}]',
    ]
    day = ArchivedDay()
    for wire in wires:
        day.frame("trade", wire)
    day.frame("trade", b'{"frame":', bad='not JSON at "frame": here', json=False)
    day.write(tmp_path / "archive")
    rows = ask(tmp_path, "select head, frame, tail from raw where channel = 'trade' order by n")
    assert [f"{head}{frame}{tail}".encode() for head, frame, tail in rows] == wires
    assert ask(tmp_path, "select frame, text, reason from raw where channel = '_bad'") == [
        (None, '{"frame":', 'not JSON at "frame": here')
    ]


def test_only_what_the_manifest_names_is_read(data: Path, processes: Processes) -> None:
    """Stray files beside the named ones, torn or from an earlier revision, are nobody's business."""
    folder = data / "archive" / FEED / DATE
    (folder / "trade_777.jsonl.gz").write_bytes((folder / "trade_000.jsonl.gz").read_bytes())
    (folder / "trade_778.jsonl.gz").write_bytes(b"torn")
    (folder / "trade_001.jsonl.gz.part").write_bytes(b"torn")
    some = next((data / "lake" / "trades").rglob("*.parquet"))
    some.with_name("trades_23.parquet").write_bytes(some.read_bytes())
    some.with_name("trades_22.parquet").write_bytes(b"torn")
    assert ask(data, "select count(*) from raw") == [(22,)]
    assert ask(data, "select count(*) from trades") == [(2,)]

    a_day().at(4, 30).trade(GOLD, "0.6000", "1.00").write(data / "archive", per_segment=4, revision=2)
    roll_up(data, processes, jobs.Day(FEED, DATE))
    assert ask(data, "select count(*) from trades") == [(3,)]


@pytest.mark.parametrize("query", ["select count(*) from {}", "select ts_recv from {} where ts_recv > 5", "from {}"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
@pytest.mark.parametrize("view", ["raw", "trades"])
def test_a_missing_or_cut_file_is_one_sentence_never_fewer_rows(data: Path, view: str, damage: str, query: str) -> None:
    root = data / "archive" if view == "raw" else data / "lake" / "trades"
    path = sorted(p for p in root.rglob("trade*") if p.is_file())[0]
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(duckdb.Error, match=path.name):
        ask(data, query.format(view))
    assert ask(data, "select count(*) from tickers") == [(1,)], "the other views still answer"


def test_a_flipped_bit_is_found_when_asked_for(data: Path) -> None:
    path = next((data / "lake" / "trades").rglob("*.parquet"))
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    with lake.connect(data, verify=True) as connection, pytest.raises(duckdb.Error, match="SHA-256"):
        connection.execute("from trades").fetchall()


def test_feeds_of_different_precision_unite(
    tmp_path: Path, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "config"
    (folder / "environments").mkdir(parents=True)
    (folder / "feeds").mkdir()
    kalshi = (config.config_folder() / "feeds" / "kalshi.yaml").read_text()
    (folder / "feeds" / "kalshi.yaml").write_text(kalshi)
    finer = kalshi.replace("name: kalshi", "name: finer").replace("{price: 6, size: 2}", "{price: 8, size: 5}")
    (folder / "feeds" / "finer.yaml").write_text(finer)
    monkeypatch.setenv("SSMD_CONFIG", str(folder))
    data = tmp_path / "data"
    a_day().write(data / "archive")
    ArchivedDay(feed="finer", conn="finer-0-1-1").trade(SILVER, "0.12345678", "0.00001").snapshot(
        SILVER, [["0.00000001", "1.00001"]], []
    ).write(data / "archive")
    for feed in ("kalshi", "finer"):
        roll_up(data, processes, jobs.Day(feed, DATE))
    assert ask(data, "select feed, price, size from trades order by ts_recv, feed")[0] == (
        "finer",
        Decimal("0.12345678"),
        Decimal("0.00001"),
    )
    assert ask(data, "select feed, count(*) from trades group by feed order by feed") == [("finer", 1), ("kalshi", 2)]
    assert ask(data, "select bids[1].price from book_snapshots where feed = 'finer'") == [(Decimal("0.00000001"),)]


@pytest.mark.parametrize("manifests", ["new", "old"])
def test_days_of_different_precision_unite(
    tmp_path: Path, processes: Processes, monkeypatch: pytest.MonkeyPatch, manifests: str
) -> None:
    """No digit of the finer day is rounded to the coarser one's; manifests once did not tell the precision."""
    folder = tmp_path / "config"
    (folder / "feeds").mkdir(parents=True)
    kalshi = (config.config_folder() / "feeds" / "kalshi.yaml").read_text()
    monkeypatch.setenv("SSMD_CONFIG", str(folder))
    data = tmp_path / "data"
    coarse, fine = DATE, "2026-08-12"
    for date, precision, price in ((coarse, "price: 2, size: 2", "0.12"), (fine, "price: 8, size: 5", "0.12345678")):
        (folder / "feeds" / "kalshi.yaml").write_text(kalshi.replace("price: 6, size: 2", precision))
        ArchivedDay(date).trade(GOLD, price, "1.00").write(data / "archive")
        roll_up(data, processes, jobs.Day(FEED, date))
        if manifests == "old":
            path = data / "lake" / tables.manifest_path(FEED, date)
            tables.save_day(data / "lake", msgspec.structs.replace(tables.load_day(path), precision=None))
    assert ask(data, "select price from trades order by date") == [(Decimal("0.12"),), (Decimal("0.12345678"),)]
    assert ask(data, "select sum(price) from trades") == [(Decimal("0.24345678"),)]


def test_an_hour_made_with_another_precision_is_not_published(
    tmp_path: Path, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "config"
    (folder / "feeds").mkdir(parents=True)
    kalshi = (config.config_folder() / "feeds" / "kalshi.yaml").read_text()
    (folder / "feeds" / "kalshi.yaml").write_text(kalshi)
    monkeypatch.setenv("SSMD_CONFIG", str(folder))
    places, step = config.Places(tmp_path / "data"), ActivityEnvironment().run
    ArchivedDay().trade(GOLD, "0.12", "1.00").write(places.archive)
    sealed = step(Archive(places, "local", "").verify, jobs.Day(FEED, DATE))
    rollup = Rollup(places, processes)
    hour = step(rollup.rollup_hour, jobs.Hour(FEED, DATE, 1, sealed.revision))
    (folder / "feeds" / "kalshi.yaml").write_text(kalshi.replace("price: 6", "price: 8"))
    with pytest.raises(Permanent, match="another precision than the feed's YAML has now"):
        step(rollup.publish_day, sealed, [hour])


def test_days_that_are_not_asked_for_are_not_opened(data: Path, processes: Processes) -> None:
    other = "2026-08-12"
    ArchivedDay(other).trade(GOLD, "0.5000", "1.00").write(data / "archive")
    roll_up(data, processes, jobs.Day(FEED, other))
    with lake.connect(data) as connection:
        path = next((data / "lake" / "trades").rglob(f"date={other}/*.parquet"))
        path.write_bytes(bytes(path.stat().st_size))
        assert connection.execute(f"select count(*) from trades where date = '{DATE}'").fetchall() == [(2,)]
        with pytest.raises(duckdb.Error):
            connection.execute("select max(price) from trades").fetchall()


def test_conditions_on_feed_date_and_channel_leave_files_unopened(data: Path) -> None:
    for sql in (
        f"select max(length(frame)) from raw where channel = 'ticker' and feed = '{FEED}'",
        f"select max(price) from book_deltas where date = '{DATE}' and feed = 'nosuch'",
    ):
        plan = str(ask(data, f"explain analyze {sql}"))
        assert "Total Files Read: 1" in plan or "Scanning Files: 0/" in plan or "Total Files Read: 0" in plan, plan


def test_book_at_a_time_is_the_snapshot_and_what_came_since(data: Path) -> None:
    def book(at: int) -> list[tuple[object, ...]]:
        return ask(data, f"from book_at('{GOLD}', {at})")

    hour = 3600 * 10**9
    d = Decimal
    assert book(midnight()) == []
    first = [("bid", d("0.01"), d(275)), ("ask", d("0.51"), d(22)), ("ask", d("0.52"), d("1.26"))]
    assert book(midnight() + 2 * hour - 2 * 10**9) == first
    assert book(midnight() + 2 * hour - 1) == [], "a gap began a second before"
    second = [("bid", d("0.3"), d("12.25")), ("ask", d("0.4"), d(4))]
    assert book(midnight() + 3 * hour) == second, "a snapshot starts the book anew"
    [(closed,)] = ask(data, "select ts_recv from sessions where type = 'close'")
    assert book(closed) == [("bid", d("0.31"), d(1)), ("ask", d("0.4"), d(4))]
    assert book(closed + 1) == [], "nobody listened any more"


def test_times_keep_their_nanoseconds(data: Path) -> None:
    [(text,)] = ask(data, "select ts(ts_recv)::varchar from tickers")
    assert text == "2026-08-11 01:00:00.01000003"


def test_a_newer_folder_or_manifest_is_refused(data: Path) -> None:
    path = data / "lake" / tables.manifest_path(FEED, DATE)
    day = tables.load_day(path)
    tables.save_day(data / "lake", msgspec.structs.replace(day, format=99))
    with pytest.raises(archive.NewerFormat, match="upgrade ssmd"):
        lake.connect(data)
    tables.save_day(data / "lake", day)
    (data / "ssmd.json").write_text('{"format": 99}')
    with pytest.raises(Permanent, match="upgrade ssmd"):
        lake.connect(data)


def test_all_that_is_needed_is_built_into_duckdb() -> None:
    with duckdb.connect() as connection:
        loaded = connection.execute("select extension_name from duckdb_extensions() where loaded").fetchall()
    assert {("json",), ("parquet",), ("icu",)} <= set(loaded)
