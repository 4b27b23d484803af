"""From frames to tables: every frame accounted for, exact values, the same bytes again."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import msgspec
import pyarrow
import pyarrow.parquet as pq
import pytest
from temporalio.exceptions import CancelledError
from temporalio.testing import ActivityEnvironment

from activities.archive import Archive
from activities.processes import Board, Processes, Stopped
from activities.replay import HourTask, Tally, _grammar, replay_hour
from activities.rollup import Rollup
from ssmd import archive, config, jobs, tables
from ssmd.errors import Permanent, Transient
from tests.lake.archives import DATE, FEED, GOLD, SILVER, ArchivedDay, a_day, midnight

DAY = jobs.Day(FEED, DATE)


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    with Processes(2) as pool:
        yield pool


def roll_up(data: Path, processes: Processes, day: jobs.Day = DAY) -> jobs.RolledUp:
    """The steps of RollupDay, one after another."""
    places = config.Places(data)
    step = ActivityEnvironment().run
    sealed = step(Archive(places, "local", "").verify, day)
    rollup = Rollup(places, processes)
    hours = [step(rollup.rollup_hour, jobs.Hour(day.feed, day.date, h, sealed.revision)) for h in sealed.hours]
    return step(rollup.publish_day, sealed, hours)


def task(data: Path, hour: int, manifest: archive.Manifest) -> HourTask:
    places = config.Places(data)
    segments = [(s.name, s.channel, s.sha256) for s in manifest.segments if hour in s.hours]
    precision = config.load_feed(FEED).precision
    return HourTask(places.archive, places.lake, FEED, "kalshi", DATE, midnight(), hour, precision, segments)


def board(folder: Path) -> Path:
    path = folder / "board"
    path.write_bytes(bytes(16))
    return path


def table(data: Path, name: str, rolled: jobs.RolledUp) -> list[dict[str, object]]:
    day = tables.load_day(data / "lake" / rolled.manifest)
    rows = []
    for file in day.files:
        if file.table == name:
            # ParquetFile: read_table would take feed=… and date=… in the path for columns
            rows += pq.ParquetFile(data / "lake" / file.path, page_checksum_verification=True).read().to_pylist()
    return rows


def files(data: Path) -> dict[str, str]:
    found = (p for p in (data / "lake").rglob("*") if p.is_file())
    return {str(p.relative_to(data)): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


def test_every_frame_becomes_rows_or_is_counted(tmp_path: Path, processes: Processes) -> None:
    day = a_day()
    day.write(tmp_path / "archive", per_segment=4)
    rolled = roll_up(tmp_path, processes)

    lake_day = tables.load_day(tmp_path / "lake" / rolled.manifest)
    assert lake_day.frames == day.n
    assert lake_day.frames == lake_day.with_events + lake_day.control + sum(lake_day.quarantined.values())
    assert lake_day.control == 1
    assert lake_day.quarantined == {"not JSON": 1, "not UTF-8": 1}
    assert lake_day.events == {
        "book_deltas": 6,
        "book_snapshots": 3,
        "gaps": 2,
        "sessions": 4,
        "status": 1,
        "tickers": 1,
        "trades": 2,
    }
    assert {f.table: 0 for f in lake_day.files}.keys() == lake_day.events.keys()


def test_values_are_the_venues_own(tmp_path: Path, processes: Processes) -> None:
    a_day().write(tmp_path / "archive")
    rolled = roll_up(tmp_path, processes)

    trade = table(tmp_path, "trades", rolled)[0]
    assert (trade["price"], trade["size"], trade["side"]) == (Decimal("0.5100"), Decimal("7.00"), "buy")
    assert (trade["feed"], trade["symbol"], trade["item"]) == (FEED, GOLD, 0)
    snapshot = table(tmp_path, "book_snapshots", rolled)[0]
    assert [level["price"] for level in snapshot["asks"]] == [Decimal("0.51"), Decimal("0.52")]
    delta = table(tmp_path, "book_deltas", rolled)[0]
    assert (delta["side"], delta["price"], delta["change"]) == ("ask", Decimal("0.52"), Decimal("-40"))
    opened, closed = table(tmp_path, "gaps", rolled)
    assert (opened["ts_end"], closed["symbols"], closed["cause"]) == (None, [GOLD], "sequence")
    assert closed["ts_end"] > closed["ts_start"]
    assert [row["type"] for row in table(tmp_path, "sessions", rolled)] == ["open", "connected", "alive", "close"]


def test_doing_it_again_gives_the_same_bytes(tmp_path: Path, processes: Processes) -> None:
    a_day().write(tmp_path / "archive", per_segment=4)
    roll_up(tmp_path, processes)
    first = files(tmp_path)
    roll_up(tmp_path, processes)
    assert files(tmp_path) == first

    other = tmp_path / "other machine"
    a_day().write(other / "archive", per_segment=4)
    roll_up(other, processes)
    assert files(other) == first


def test_the_bytes_do_not_depend_on_how_the_work_was_cut(tmp_path: Path) -> None:
    many = ArchivedDay().at(1)
    for i in range(3000):
        many.trade((GOLD, SILVER, f"KXM-{i % 17}")[i % 3], f"0.{i % 90 + 10}00", f"{i}.25")
    whole = replay_hour(task(tmp_path, 1, many.write(tmp_path / "archive")), board(tmp_path))
    small = replace(task(tmp_path, 1, many.write(tmp_path / "archive")), read_bytes=5000, memory_bytes=64 << 10)
    assert replay_hour(small, board(tmp_path)) == whole
    rows = pq.ParquetFile(tmp_path / "lake" / whole.parts[0].path).read(columns=list(tables.SORT)).to_pylist()
    assert len(rows) == 3000
    assert rows == sorted(rows, key=lambda row: tuple(row.values()))


def test_little_memory_gives_the_same_bytes(tmp_path: Path, processes: Processes) -> None:
    day = ArchivedDay().at(1)
    for i in range(500):
        day.delta((GOLD, SILVER)[i % 2], "yes", f"0.{i % 90 + 10}00", f"{i}.25")
    day.write(tmp_path / "archive")
    hour = jobs.Hour(FEED, DATE, 1, 1)
    much, little = (Rollup(config.Places(tmp_path), processes, size) for size in (64 << 20, 4 << 10))
    rolled = ActivityEnvironment().run(much.rollup_hour, hour)
    assert rolled.events == {"book_deltas": 500}
    assert ActivityEnvironment().run(little.rollup_hour, hour) == rolled


def test_other_input_never_replaces_a_published_file(tmp_path: Path, processes: Processes) -> None:
    a_day().write(tmp_path / "archive")
    first = roll_up(tmp_path, processes)
    before = files(tmp_path)
    a_day().at(4, 30).trade(GOLD, "0.6000", "1.00").write(tmp_path / "archive", revision=2)
    second = roll_up(tmp_path, processes)
    after = files(tmp_path)
    assert second.rows["trades"] == first.rows["trades"] + 1
    changed = {path for path in before if after[path] != before[path]}
    assert changed == {f"lake/{first.manifest}"}


def test_a_frame_the_grammar_does_not_know_is_counted_not_lost(tmp_path: Path, processes: Processes) -> None:
    day = a_day().at(5).frame("trade", '{"type":"trade","sid":1,"msg":{"market_ticker":7}}')
    day.frame("brand_new_channel", '{"type":"brand_new_channel"}').write(tmp_path / "archive")
    rolled = roll_up(tmp_path, processes)
    assert rolled.frames == day.n
    assert sum(rolled.quarantined.values()) == 2 + 2
    assert any("brand_new_channel" in reason for reason in rolled.quarantined)


@pytest.mark.parametrize("price", ["NaN", "1e400", "abc", "0x1", " 0.5", "１.0"])
def test_a_price_that_is_no_number_quarantines_its_frame_alone(
    tmp_path: Path, processes: Processes, price: str
) -> None:
    ArchivedDay().at(1).trade(GOLD, "0.5100", "1.00").frame(
        "orderbook_delta",
        msgspec.json.encode(
            {
                "type": "orderbook_delta",
                "sid": 1,
                "seq": 9,
                "msg": {"market_ticker": GOLD, "price_dollars": price, "delta_fp": "1.00", "side": "yes"},
            }
        ),
    ).delta(GOLD, "yes", "0.2500", "1.00").write(tmp_path / "archive")
    rolled = roll_up(tmp_path, processes)
    assert rolled.rows == {"trades": 1, "book_deltas": 1}
    assert sum(rolled.quarantined.values()) == 1


def test_a_value_finer_than_the_feed_keeps_is_refused_not_rounded(tmp_path: Path, processes: Processes) -> None:
    ArchivedDay().at(1).trade(GOLD, "0.5100", "1.00").delta(GOLD, "yes", "0.5100", "1.001").write(tmp_path / "archive")
    with pytest.raises(Permanent, match=rf"change 1\.001 of {GOLD}.*2 decimals.*precision\.size.*kalshi\.yaml"):
        roll_up(tmp_path, processes)
    assert not (tmp_path / "lake" / tables.manifest_path(FEED, DATE)).exists()


def test_one_absurd_value_among_many_is_quarantined_and_holds_nobody_up(tmp_path: Path, processes: Processes) -> None:
    day = ArchivedDay().at(1)
    for _ in range(150):
        day = day.delta(GOLD, "yes", "0.5100", "1.00")
    day.delta(GOLD, "yes", "0.5100", "1.1844674407370955161600").write(tmp_path / "archive")
    rolled = roll_up(tmp_path, processes)
    assert rolled.rows == {"book_deltas": 150}
    assert rolled.quarantined == {"change does not fit into 18 digits with 2 decimals": 1}


def test_a_feed_with_large_numbers_says_how_many_digits_it_needs(
    tmp_path: Path, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A coin's day volume may have 13 digits before the point and 8 after it; the feed beside it has its 18."""
    volume = "1234567890123.12345678"
    day = ArchivedDay().at(1).delta(GOLD, "yes", "0.5100", volume)
    day.write(tmp_path / "archive")
    feed = (config.application_folder() / "exchanges/feeds/kalshi.yaml").read_text()
    assert "precision: {price: 6, size: 2}" in feed
    (tmp_path / "config/feeds").mkdir(parents=True)
    larger = feed.replace("precision: {price: 6, size: 2}", "precision: {price: 12, size: 12, digits: 28}")
    (tmp_path / "config/feeds/kalshi.yaml").write_text(larger)
    with pytest.raises(Permanent, match="18 digits"):
        roll_up(tmp_path, processes)
    monkeypatch.setenv("SSMD_CONFIG", str(tmp_path / "config"))
    row = table(tmp_path, "book_deltas", roll_up(tmp_path, processes))[0]
    assert row["change"] == Decimal(volume)


def test_digits_that_say_nothing_are_no_reason_to_refuse(tmp_path: Path, processes: Processes) -> None:
    """The control: 1.0010 with two decimals is finer, 1.1000 is not."""
    ArchivedDay().at(1).delta(GOLD, "yes", "0.51000000", "1.1000").write(tmp_path / "archive")
    row = table(tmp_path, "book_deltas", roll_up(tmp_path, processes))[0]
    assert (row["price"], row["change"]) == (Decimal("0.51"), Decimal("1.1"))


@pytest.mark.parametrize("what", ["frames", "with_events", "control"])
def test_a_frame_unaccounted_for_fails_the_hour(what: str) -> None:
    tally = Tally(frames=6, with_events=3, control=2)
    tally.quarantined["not JSON"] += 1
    tally.events["trades"] += 4
    tally.settle("here", {"trades": 4})
    with pytest.raises(Permanent, match="rows"):
        tally.settle("here", {"trades": 3})
    setattr(tally, what, getattr(tally, what) + 1)
    with pytest.raises(Permanent, match="frames were read"):
        tally.settle("here", {"trades": 4})


def test_a_frame_that_no_hour_holds_fails_the_day(tmp_path: Path, processes: Processes) -> None:
    manifest = a_day().write(tmp_path / "archive")
    wrong = [
        msgspec.structs.replace(s, hours=[1]) if s.name.startswith("orderbook_delta") else s for s in manifest.segments
    ]
    archive.save_manifest(
        archive.manifest_path(tmp_path / "archive", FEED, DATE), msgspec.structs.replace(manifest, segments=wrong)
    )
    with pytest.raises(Permanent, match="the hours hold 19 frames, but the archive 22"):
        roll_up(tmp_path, processes)


def test_a_day_sealed_anew_meanwhile_is_not_published(tmp_path: Path, processes: Processes) -> None:
    a_day().write(tmp_path / "archive", revision=2)
    rollup = Rollup(config.Places(tmp_path), processes)
    with pytest.raises(Permanent, match="sealed anew"):
        ActivityEnvironment().run(rollup.rollup_hour, jobs.Hour(FEED, DATE, 1, 1))


def test_a_damaged_lake_file_is_not_published(tmp_path: Path, processes: Processes) -> None:
    a_day().write(tmp_path / "archive")
    places = config.Places(tmp_path)
    step = ActivityEnvironment().run
    sealed = step(Archive(places, "local", "").verify, DAY)
    rollup = Rollup(places, processes)
    hours = [step(rollup.rollup_hour, jobs.Hour(FEED, DATE, h, 1)) for h in sealed.hours]
    path = places.lake / hours[0].parts[0].path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(Permanent, match="not what was written"):
        step(rollup.publish_day, sealed, hours)


def test_progress_is_told_in_frames(tmp_path: Path, processes: Processes) -> None:
    manifest = a_day().write(tmp_path / "archive")
    told: list[jobs.Progress] = []
    environment = ActivityEnvironment()
    environment.on_heartbeat = told.append
    environment.run(Rollup(config.Places(tmp_path), processes).rollup_hour, jobs.Hour(FEED, DATE, 1, 1))
    assert told[0].doing == f"rolling up {FEED} {DATE} 01:00"
    assert told[0].total == sum(s.records for s in manifest.segments if 1 in s.hours)


def slowly(wanted: None, path: Path) -> None:
    """Work that goes on for a minute unless it is stopped."""
    look = Board(path)
    for i in range(600):
        look.tell(i)
        time.sleep(0.1)


def die(wanted: None, path: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def greet(wanted: None, path: Path) -> str:
    return "hello"


def test_a_cancelled_step_ends_soon(processes: Processes) -> None:
    environment = ActivityEnvironment()
    started: list[float] = []

    def cancel(progress: jobs.Progress) -> None:
        if progress.done and not started:
            started.append(time.monotonic())
            threading.Thread(target=environment.cancel).start()

    environment.on_heartbeat = cancel
    with pytest.raises(CancelledError):
        environment.run(lambda: processes.run("waiting", 600, slowly, None))
    assert time.monotonic() - started[0] < 10
    again = time.monotonic()
    assert ActivityEnvironment().run(lambda: [processes.run("greeting", 0, greet, None) for _ in range(3)])
    assert time.monotonic() - again < 20, "the cancelled work still holds its process"


def test_work_sees_the_stop_on_its_board(tmp_path: Path) -> None:
    manifest = a_day().write(tmp_path / "archive")
    path = board(tmp_path)
    Board(path).stop()
    with pytest.raises(Stopped):
        replay_hour(task(tmp_path, 1, manifest), path)


def test_a_killed_process_is_replaced() -> None:
    with Processes(1) as pool:
        with pytest.raises(Transient, match="died"):
            ActivityEnvironment().run(lambda: pool.run("dying", 0, die, None))
        assert ActivityEnvironment().run(lambda: pool.run("greeting", 0, greet, None)) == "hello"


def test_processes_do_not_outlive_a_killed_parent() -> None:
    program = """
import os, sys
from temporalio.testing import ActivityEnvironment
from activities.processes import Processes
import tests.activities.test_rollup as here

def main():
    pool = Processes(1)
    ActivityEnvironment().run(lambda: pool.run("greeting", 0, here.greet, None))
    print(next(iter(pool._pool._processes)), flush=True)
    sys.stdin.read()

if __name__ == "__main__":
    main()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stdin=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    for _ in range(50):
        if not Path(f"/proc/{child}").exists() or Path(f"/proc/{child}/stat").read_text().split()[2] == "Z":
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    pytest.fail(f"process {child} outlived its parent")


def test_a_grammar_taken_from_another_venue_names_the_files_too() -> None:
    assert {path.parent.name for path in _grammar("binance_usdm")} == {"binance", "binance_usdm"}
    assert {path.parent.name for path in _grammar("kalshi")} == {"kalshi"}


def threads_of(wanted: None, path: Path) -> tuple[int, int]:
    return pyarrow.cpu_count(), pyarrow.io_thread_count()


def test_a_pool_process_is_one_threads_work(processes: Processes) -> None:
    assert ActivityEnvironment().run(lambda: processes.run("counting", 0, threads_of, None)) == (1, 1)


def test_other_code_gives_files_other_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A grammar that was mended without a new version must not be taken for the old one."""
    names = []
    for name, code in (("before", "side = 'yes'"), ("same", "side = 'yes'"), ("after", "side = 'no'")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "events.py").write_text(code)
        venue = types.ModuleType(f"exchanges.{name}")
        venue.__path__ = [str(folder)]
        monkeypatch.setitem(sys.modules, venue.__name__, venue)
        hour = task(tmp_path, 1, ArchivedDay().at(1).trade(GOLD, "0.5", "1").write(tmp_path / "archive"))
        names.append(replace(hour, venue=name).inputs)
    assert names[0] == names[1] != names[2]
