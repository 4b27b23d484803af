"""An empty machine answers from the store alone: the same answers, nothing damaged served, little fetched."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from activities.processes import Processes
from ssmd import config, lake, mirror, published, storage, versions
from ssmd.errors import Permanent
from ssmd.storage import Object
from tests.lake.archives import DATE, FEED, GOLD, HOUR, midnight
from tests.lake.captures import captured
from tests.storage.stores import DAY_VIEWS, Machine, Setting, damage, first_day


def listed(data: Path, change: str = "listed") -> None:
    """A sync of instruments that found one, or a change of it."""
    before = versions.load(data / "lake", versions.INSTRUMENTS, FEED)
    now_ns = 1_786_400_000_000_000_000 + before.revision
    row = {"symbol": GOLD, "valid_from": now_ns, "change": change, "status": change, "raw": "{}", "digest": change}
    rows = [versions.made(versions.INSTRUMENTS, before, [row])]
    versions.publish(data / "lake", versions.INSTRUMENTS, before, rows, now_ns, whole=True, full=True)


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory, s3_server: object) -> Setting:
    folder = tmp_path_factory.mktemp("published")
    with Processes(2) as processes:
        data = captured(folder / "data", processes)
    listed(data)
    made = Setting(data, folder / "config", s3_server, f"s3://ssmd-test/{folder.name}")
    done = made.ssmd("publish", FEED, DATE, "--local")
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture
def machine(setting: Setting, tmp_path: Path, s3_server: object) -> Machine:
    return Machine(tmp_path, s3_server, setting.store.url)


@contextlib.contextmanager
def connected(place: str | Path | config.Places) -> Iterator[duckdb.DuckDBPyConnection]:
    with lake.connect(place) as connection:
        yield connection


def test_every_view_says_the_same(setting: Setting, tmp_path: Path) -> None:
    away = mirror.Mirror(setting.store, tmp_path)
    with connected(setting.data) as here, connected(away) as there:
        for view in DAY_VIEWS:
            rows = first_day(here, view)
            assert first_day(there, view) == rows
            assert rows or view in {"status", "gaps"}
        instruments = "select symbol, status, valid_from, valid_to from instrument_versions"
        assert there.sql(instruments).fetchall() == here.sql(instruments).fetchall() != []


def test_macros_and_reading_say_the_same(setting: Setting, tmp_path: Path) -> None:
    start, end = midnight() + HOUR, midnight() + 3 * HOUR
    with lake.open(setting.data) as here, lake.open(mirror.Mirror(setting.store, tmp_path)) as there:
        for asked in (
            f"bars('{GOLD}', {start}, {end}, every := '5 minutes')",
            f"top_of_book('{GOLD}', {start}, {end})",
            f"trades_with_quotes('{GOLD}', {start}, {end})",
            f"book_at('{GOLD}', {start + HOUR})",
        ):
            rows = here.sql(f"FROM {asked}").fetchall()
            assert there.sql(f"FROM {asked}").fetchall() == rows != []
        read = {"feed": FEED, "symbols": GOLD, "start": start, "end": end}
        assert there.read("trades", **read).arrow() == here.read("trades", **read).arrow()
        told = []
        for one in (here, there):
            with pytest.raises(lake.Incomplete) as refused:
                one.read("trades", **read, strict=True)
            told.append(refused.value.gaps)
        assert told[0] == told[1] != []


def test_of_a_range_only_its_files_are_fetched(setting: Setting, tmp_path: Path) -> None:
    store = Counting(setting.store)
    with lake.open(mirror.Mirror(store, tmp_path)) as there:  # type: ignore[arg-type]
        before = len(store.reads)
        start = midnight() + HOUR
        rows = there.read("trades", feed=FEED, start=start, end=start + HOUR // 2, columns=["n"])
        assert rows.arrow().num_rows
        there.sql(f"FROM bars('{GOLD}', {start}, {start + 1})").fetchall()
        fetched = {path for path, _ in store.reads[before:] if path.startswith("lake/")}
        assert fetched and all(path.startswith(f"lake/trades/feed={FEED}/date={DATE}/") for path in fetched), fetched
        assert there.read("trades", feed="nyse").arrow().num_rows == 0
        assert {path for path, _ in store.reads[before:] if path.startswith("lake/")} == fetched


def test_the_commands_say_the_same(setting: Setting, machine: Machine) -> None:
    for command in (
        ["query", "select symbol, count(*), sum(size) from trades where date = '2026-08-11' group by all order by all"],
        ["gaps", FEED, "--date", DATE],
        ["coverage", FEED, DATE],
    ):
        here, there = setting.ssmd(*command), machine.ssmd(*command)
        assert there.returncode == 0, there.stderr
        assert there.stdout
        assert (there.stdout, there.stderr) == (here.stdout, here.stderr)
    listed = machine.ssmd("data", "list").stdout.splitlines()
    assert [line.split()[:2] for line in listed] == [["feed", "date"], [FEED, DATE]]
    assert not (machine.home / "data").exists(), "nothing is written but a cache"


def test_what_is_named_wrongly_is_one_sentence(machine: Machine) -> None:
    for place, told in (
        ("s3://ssmd-nowhere/x", "there is no bucket ssmd-nowhere"),
        ("s3://", "is no address of an object store"),
    ):
        done = machine.ssmd("gaps", data=place)
        assert (done.returncode, done.stdout) == (2, "")
        assert told in done.stderr
        assert len(done.stderr.splitlines()) == 1


class Counting:
    """A store that counts what is read of it."""

    def __init__(self, store: storage.Store) -> None:
        self._store = store
        self.url = store.url
        self.reads: list[tuple[str, int]] = []

    def read(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        data = self._store.read(path, start, end)
        self.reads.append((path, len(data)))
        return data

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


def test_only_what_is_asked_for_is_fetched(tmp_path: Path) -> None:
    """A file of 20 columns in 10 row groups, in blocks smaller than those: two columns of one group are a few."""
    table = pa.table({f"c{i}": pa.array([(i * n * 2654435761) % 2**31 for n in range(50_000)]) for i in range(20)})
    root = tmp_path / "store"
    path = f"lake/t/feed={FEED}/date={DATE}/t.parquet"
    (root / path).parent.mkdir(parents=True)
    pq.write_table(table, root / path, row_group_size=5000)
    block_bytes = 16 << 10
    size, sha256, blocks = published.digests(root / path, block_bytes=block_bytes)
    store = Counting(storage.Folder(root))
    away = mirror.Mirror(store, tmp_path / "cache")  # type: ignore[arg-type]
    away.object = lambda path: Object(path, size, sha256, blocks, block_bytes)  # type: ignore[method-assign]
    store.url = "s3://bucket/prefix"
    with duckdb.connect() as connection:
        connection.register_filesystem(mirror.Files(away.find))
        sql = f"""select sum(c7) from read_parquet('{store.url}/{path}', file_row_number = true)
            where c1 between 100 and 2000000 and file_row_number < 5000"""
        expected = duckdb.sql(sql.replace(f"{store.url}/{path}", str(root / path))).fetchall()
        assert connection.sql(sql).fetchall() == expected
    fetched = sum(count for _, count in store.reads)
    assert 0 < fetched < size / 5
    assert len(store.reads) < 40


def test_the_same_is_fetched_once(setting: Setting, tmp_path: Path) -> None:
    store = Counting(setting.store)
    away = mirror.Mirror(store, tmp_path)  # type: ignore[arg-type]
    with connected(away) as connection:
        first_day(connection, "trades")
        before = len(store.reads)
        first_day(connection, "trades")
        assert len(store.reads) == before
    again = mirror.Mirror(store, tmp_path)  # type: ignore[arg-type]
    assert len(store.reads) == before, "an unchanged record is not fetched again"
    assert first_day(lake.connect(again), "coverage")


@pytest.fixture
def own(setting: Setting, tmp_path: Path, s3_server: object) -> Setting:
    """The same day under a prefix of its own, to be damaged."""
    return setting.copied(setting.data, tmp_path / "own", s3_server, f"s3://ssmd-test/{tmp_path.name}")


def test_a_flipped_bit_is_never_served(own: Setting, tmp_path: Path, s3_server: object) -> None:
    paths = [path for path in own.named() if "/trades_" in path or "trade_" in path]
    for path in paths:
        damage(own.store, path)
    machine = Machine(tmp_path / "home", s3_server, own.store.url)
    for view in ("trades", "raw"):
        done = machine.ssmd("query", f"select * from {view}")
        assert (done.returncode, done.stdout) == (2, ""), view
        assert "is damaged (it is not what was published): remove that object, and publish" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert machine.ssmd("query", "select count(*) from tickers").returncode == 0

    away = mirror.Mirror(own.store, tmp_path / "cache")
    with pytest.raises(Permanent, match="is damaged"):
        mirror.verify([away.find(f"{own.store.url}/{paths[0]}")])
    lake.connect(away, verify=True).sql("select count(*) from tickers").fetchall()


def test_an_object_that_is_gone_is_told(own: Setting, tmp_path: Path) -> None:
    path = next(path for path in own.named() if "/trades_" in path)
    own.store.remove(path)
    with connected(mirror.Mirror(own.store, tmp_path / "cache")) as connection:
        with pytest.raises(duckdb.Error) as told:
            connection.sql("select count(price) from trades").fetchall()
        assert connection.sql("select count(*) from tickers").fetchall()
    assert path in str(told.value)


def test_a_day_is_seen_with_its_record_and_not_before(own: Setting, tmp_path: Path) -> None:
    record = published.record_path(FEED, DATE)
    text = own.store.read(record)
    own.store.remove(record)
    cache = tmp_path / "cache"
    assert lake.connect(mirror.Mirror(own.store, cache)).sql("select * from trades").fetchall() == []
    own.store.replace(record, text, None)
    assert first_day(lake.connect(mirror.Mirror(own.store, cache)), "trades")


def test_a_damaged_record_is_told(own: Setting, tmp_path: Path) -> None:
    damage(own.store, published.record_path(FEED, DATE))
    with pytest.raises(Permanent, match=rf"published/{FEED}/{DATE}.json is damaged"):
        mirror.Mirror(own.store, tmp_path / "cache")


def test_a_damaged_cache_is_made_anew(setting: Setting, tmp_path: Path) -> None:
    mirror.Mirror(setting.store, tmp_path)
    for path in tmp_path.rglob("*.json"):
        path.write_bytes(path.read_bytes()[:-9])
    assert first_day(lake.connect(mirror.Mirror(setting.store, tmp_path)), "trades")
    assert json.loads((tmp_path / "tags.json").read_bytes())
    assert sorted(os.listdir(tmp_path / "published" / FEED)) == [f"{DATE}.json", "instruments.json"]


def test_instruments_are_as_of_the_last_publish(own: Setting, tmp_path: Path, s3_server: object) -> None:
    data = tmp_path / "data"
    shutil.copytree(own.data, data)
    url = f"s3://ssmd-test/{tmp_path.name}"
    again = Setting(data, tmp_path / "again", s3_server, url)
    count = "select count(*), count(*) filter (valid_to is null) from instrument_versions"
    assert lake.connect(mirror.Mirror(own.store, tmp_path / "cache")).sql(count).fetchall() == [(1, 1)]
    listed(data, "changed")
    done = again.ssmd("publish", FEED, DATE, "--local", "--json")
    assert json.loads(done.stdout)["new"] == 0, "the day itself is there already"
    assert lake.connect(mirror.Mirror(own.store, tmp_path / "cache")).sql(count).fetchall() == [(2, 1)]
