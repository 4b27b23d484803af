"""`ssmd.lake.open(…).read(…)`: the rows of a range, in their order, from the files of the range alone; or a refusal
that lists what is missing."""

import datetime
import re
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

from activities.processes import Processes
from ssmd import archive, jobs, lake
from ssmd.errors import Permanent
from ssmd.events import Gap
from ssmd.lake import Incomplete
from tests.lake.archives import DATE, FEED, GOLD, HOUR, SECOND, SILVER, ArchivedDay, midnight
from tests.lake.captures import roll_up

NEXT, AFTER = "2026-08-12", "2026-08-13"
CONN = "kalshi-0-0198964b3f2-7f3a"


def a_day(date: str, *, repair: str = "") -> ArchivedDay:
    """Both instruments are listened to from 1 to 5 o'clock; GOLD has a gap from 3:00 to 3:30 on the first day."""
    day = ArchivedDay(date, FEED, CONN).at(1).session("open")
    day.session("connected", subscription={"channels": ["trade"], "symbols": [GOLD, SILVER]})
    day.at(2).trade(GOLD, "0.5100", "7.00").trade(SILVER, "0.4100", "2.00").trade(GOLD, "0.5200", "1.00")
    if date == DATE:
        start = midnight(date) + 3 * HOUR
        day.at(3, 30).gap(Gap("g1", FEED, CONN, [GOLD], start, start + HOUR // 2, "sequence", "1 missing", repair))
    day.at(4).trade(SILVER, "0.4200", "3.00").at(5).session("close", frames=day.n + 1, reason="stopped")
    return day


def publish(data: Path, processes: Processes, day: ArchivedDay, *, revision: int = 1) -> None:
    manifest = day.write(data / "archive", revision=revision)
    whole = msgspec.structs.replace(manifest, symbols={GOLD: 2, SILVER: 2})
    archive.save_manifest(archive.manifest_path(data / "archive", FEED, day.date), whole)
    roll_up(data, processes, jobs.Day(FEED, day.date))


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    with Processes(1) as some:
        yield some


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, processes: Processes) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for date in (DATE, NEXT):
        publish(folder, processes, a_day(date))
    return folder


@pytest.fixture
def the(data: Path) -> Iterator[lake.Lake]:
    with lake.open(data) as opened:
        yield opened


def hours(first: float, last: float, date: str = DATE) -> dict[str, Any]:
    return {"feed": FEED, "start": midnight(date) + int(first * HOUR), "end": midnight(date) + int(last * HOUR)}


def test_rows_come_in_their_order_and_exact(the: lake.Lake) -> None:
    rows = the.read("trades", **hours(0, 24), columns=["symbol", "price"])
    expected = [(GOLD, "0.51"), (SILVER, "0.41"), (GOLD, "0.52"), (SILVER, "0.42")]
    exact = [(symbol, Decimal(price)) for symbol, price in expected]
    assert [(r["symbol"], r["price"]) for r in rows.arrow().to_pylist()] == exact
    assert rows.duckdb().fetchall() == exact
    assert rows.polars().rows() == exact
    frame = rows.pandas()
    assert list(zip(frame["symbol"], frame["price"], strict=True)) == exact
    assert the.sql("select count(*) from trades").fetchall() == [(8,)]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2026-08-11", "2026-08-12"),
        (datetime.date(2026, 8, 11), datetime.date(2026, 8, 12)),
        (datetime.datetime(2026, 8, 11), datetime.datetime(2026, 8, 11, 23, 59)),
        (midnight(), midnight() + 24 * HOUR),
        ("2026-08-11T03:00+02:00", "2026-08-11T05:00:00Z"),
        (None, "2026-08-11T12:00:00.000000001Z"),
    ],
)
def test_times_may_be_said_in_many_ways(the: lake.Lake, start: Any, end: Any) -> None:
    assert the.read("trades", start=start, end=end).arrow().num_rows == 4


def test_a_range_has_its_start_and_not_its_end(the: lake.Lake) -> None:
    times = the.read("trades", **hours(0, 24)).arrow()["ts_recv"].to_pylist()
    assert the.read("trades", start=times[1], end=times[3]).arrow()["ts_recv"].to_pylist() == times[1:3]
    said = [f"2026-08-11T02:00:00.{t % SECOND:09d}Z" for t in times[1:3]]
    assert the.read("trades", start=said[0], end=said[1]).arrow()["ts_recv"].to_pylist() == times[1:2]


def test_only_the_files_of_the_range_are_opened(data: Path, tmp_path: Path) -> None:
    with lake.open(data) as opened:
        plan = str(opened.read("trades", **hours(0, 24)).duckdb().explain("analyze"))
        assert re.search(r"Scanning Files: [12]/4", plan), plan
        others = sorted((data / "lake" / "trades").rglob(f"date={NEXT}/*.parquet"))
        kept = {path: path.read_bytes() for path in others}
        for path in others:
            path.write_bytes(bytes(path.stat().st_size))
        try:
            assert opened.read("trades", **hours(0, 24)).arrow().num_rows == 4
            with pytest.raises(duckdb.Error):
                opened.read("trades", **hours(0, 24, NEXT)).arrow()
        finally:
            for path, content in kept.items():
                path.write_bytes(content)


def test_nothing_is_read_until_one_asks(the: lake.Lake) -> None:
    rows = the.read("trades", **hours(0, 24))
    assert rows.duckdb().filter("price > 0.5").aggregate("count(*)").fetchall() == [(2,)]


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        (hours(1.5, 2.5), []),
        (hours(1.5, 4.5) | {"symbols": SILVER}, []),
        (hours(1.5, 3), []),
        (hours(3.5, 4.5), []),
        (hours(1.5, 4.5) | {"symbols": [GOLD, SILVER]}, [("sequence", (GOLD,), 3, 3.5)]),
        (hours(3.25, 4), [("sequence", (GOLD,), 3.25, 3.5)]),
        (hours(0.5, 2), [("uncovered", (GOLD, SILVER), 0.5, 1)]),
        (hours(4, 6) | {"symbols": GOLD}, [("uncovered", (GOLD,), 5, 6)]),
        (hours(1.5, 2.5) | {"symbols": ["KXNONE"]}, [("uncovered", ("KXNONE",), 1.5, 2.5)]),
    ],
)
def test_reading_strictly_lists_what_is_missing(the: lake.Lake, arguments: Any, missing: list[Any]) -> None:
    if not missing:
        assert the.read("trades", **arguments, strict=True).arrow().num_rows
        return
    with pytest.raises(Incomplete) as refused:
        the.read("trades", **arguments, strict=True)
    found = [
        (g.cause, g.symbols, (g.start - midnight()) / HOUR, (g.end - midnight()) / HOUR) for g in refused.value.gaps
    ]
    assert [(c, s, round(a, 3), round(b, 3)) for c, s, a, b in found] == missing
    assert missing[0][0] in str(refused.value) and "\n" not in str(refused.value)
    assert the.read("trades", **arguments).arrow() is not None, "the control: without strict it is read"


def test_days_that_are_not_in_the_lake_are_refused(data: Path, tmp_path: Path, processes: Processes) -> None:
    folder = tmp_path / "data"
    publish(folder, processes, a_day(DATE))
    a_day(NEXT).write(folder / "archive")
    a_day(AFTER).write(folder / "archive", sealed=False)

    def causes(first: float, last: float) -> list[str]:
        with lake.open(folder) as opened, pytest.raises(Incomplete) as refused:
            opened.read("trades", **hours(first, last), strict=True)
        return [gap.cause for gap in refused.value.gaps]

    assert causes(25.5, 26) == ["not rolled up"]
    assert causes(49.5, 50) == ["unsealed"]
    assert causes(-30, 0) == ["no data"], "days one after the other are one"
    publish(folder, processes, a_day(NEXT))
    with lake.open(folder) as opened:
        assert opened.read("trades", **hours(25.5, 26.5), strict=True).arrow().num_rows == 3
    a_day(NEXT).write(folder / "archive", revision=2)
    assert causes(25.5, 26) == ["not rolled up"], "sealed anew since"
    with lake.open(folder) as opened:
        assert opened.read("raw", **hours(25.5, 26.5), strict=True).arrow().num_rows == 3, "the archive is whole"


def test_a_repaired_gap_does_for_trades_alone(tmp_path: Path, processes: Processes) -> None:
    publish(tmp_path, processes, a_day(DATE, repair="backfill:GET /trades: 3 trades; books cannot be had"))
    with lake.open(tmp_path) as opened:
        assert opened.read("trades", **hours(1.5, 4.5), strict=True).arrow().num_rows == 4
        for table, last in (("book_deltas", 4.5), ("trades", 3.25)):  # fetched trades came at the end of the gap
            with pytest.raises(Incomplete, match="sequence"):
                opened.read(table, **hours(1.5, last), strict=True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"table": "trade"}, "there is no table 'trade' to read by time: there are trades, "),
        ({"table": "raw", "symbols": GOLD}, "raw has no symbol"),
        ({"table": "trades", "columns": ["cost"]}, "trades has no column 'cost': it has ts_recv, "),
        ({"table": "trades", "start": "noon"}, "start 'noon' is no time: give a datetime"),
        ({"table": "trades", "start": NEXT, "end": DATE}, "is empty: the end is not after the start"),
        ({"table": "trades", "strict": True}, "name feed, start and end"),
        ({"table": "trades", "feed": "nyse", "start": DATE, "end": NEXT, "strict": True}, "nothing of 'nyse'"),
    ],
)
def test_what_is_asked_wrongly_is_one_sentence(the: lake.Lake, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(Permanent, match=re.escape(said)):
        the.read(**arguments)


def test_pandas_and_polars_are_loaded_when_they_are_asked_for(data: Path) -> None:
    """And told in one sentence if they are not there."""
    program = """
import sys
class Without:
    def find_spec(self, name, path=None, target=None):
        if name in ("pandas", "polars"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Without())
import ssmd.lake
from ssmd.errors import Permanent
rows = ssmd.lake.open(sys.argv[1]).read("trades")
assert rows.arrow().num_rows == 8
for name in ("pandas", "polars"):
    try:
        getattr(rows, name)()
    except Permanent as e:
        print(e)
"""
    done = subprocess.run([sys.executable, "-c", program, str(data)], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == [
        f"{name} is not installed: run `pip install {name}`, or use .arrow() or .duckdb()"
        for name in ("pandas", "polars")
    ], done.stderr
