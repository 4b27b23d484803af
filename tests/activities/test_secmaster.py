"""Instruments have versions: nothing is written over, nothing is taken for gone unless everything was read."""

import dataclasses
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from temporalio.exceptions import CancelledError
from temporalio.testing import ActivityEnvironment

import ssmd.lake
from activities import rest
from activities.fees import Fees
from activities.secmaster import Secmaster
from exchanges.kalshi import rest as kalshi_rest
from exchanges.kalshi.simulator import KalshiSimulator
from exchanges.port import Answer, Simulation
from ssmd import config, jobs, versions
from ssmd.errors import Permanent, Transient
from tests.activities.venues import Asked, listening
from tests.exchanges.venues import NOW_NS

SECOND_NS = 1_000_000_000
FEED = "kalshi"
ENVIRONMENT = config.load_environment("local")


@dataclass
class Rig:
    data: Path
    simulator: KalshiSimulator
    asked: Asked
    now_ns: int = NOW_NS
    heartbeats: list[tuple[Any, ...]] = field(default_factory=list)

    @property
    def lake(self) -> Path:
        return self.data / "lake"

    @property
    def addresses(self) -> config.Addresses:
        where = config.FeedAddress("", f"{self.asked.url}/trade-api/v2")
        return config.Addresses("local", "", "", "", {FEED: where}, {})

    def sync(self, *, full: bool = False, details: tuple[Any, ...] = (), on_page: Callable[[], None] | None = None):  # type: ignore[no-untyped-def]
        environment = ActivityEnvironment()
        environment.info = dataclasses.replace(environment.info, heartbeat_details=details)

        def told(*said: object) -> None:
            self.heartbeats.append(said)
            if on_page is not None:
                on_page()

        environment.on_heartbeat = told
        self.environment = environment
        secmaster = Secmaster(config.Places(self.data), ENVIRONMENT, self.addresses)
        return environment.run(secmaster.sync_instruments, jobs.Listing(FEED, full))

    def move(self, seconds: float) -> None:
        for _ in range(int(seconds * 10)):
            self.now_ns += SECOND_NS // 10
            self.simulator.generate(self.now_ns)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return ssmd.lake.connect(self.data).sql(sql).fetchall()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "WAIT_SECONDS", (0.002, 0.01))
    monkeypatch.setattr(rest, "pace", lambda host, per_second: rest.Pace(10_000))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    simulator = KalshiSimulator(Simulation(seed=5, markets=30, frames_per_second=100, turnover_seconds=4))
    simulator.generate(NOW_NS)
    with listening(simulator, lambda: made.now_ns) as asked:
        made = Rig(tmp_path, simulator, asked)
        yield made


def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kalshi_rest, "MARKETS_PER_PAGE_MAX", 7)


def test_versions_follow_each_other_and_none_is_written_over(rig: Rig) -> None:
    first = rig.sync()
    assert (first.read, first.listed, first.changed, first.delisted, first.whole) == (30, 30, 0, 0, True)
    files = {path: path.read_bytes() for path in rig.lake.rglob("*.parquet")}
    again = rig.sync()
    assert (again.listed, again.changed, again.revision) == (0, 0, first.revision)
    before = rig.query("SELECT max(valid_from) FROM instruments")[0][0]
    oldest = next(iter(rig.simulator.exchange.markets))
    rig.move(7.5)
    second = rig.sync(full=True)
    assert (second.changed, second.delisted, second.revision) == (1, 0, first.revision + 1)
    assert second.listed >= 1
    of_oldest = f"FROM instrument_versions WHERE symbol = '{oldest}' ORDER BY valid_from"
    rows = rig.query(f"SELECT status, settlement_value {of_oldest}")
    assert [status for status, _ in rows] == ["open", "settled"]
    assert rows[0][1] is None and rows[1][1] in {0, 1}
    assert rig.query(f"SELECT status FROM instruments_as_of({before}) WHERE symbol = '{oldest}'") == [("open",)]
    assert rig.query(f"SELECT status FROM instruments WHERE symbol = '{oldest}'") == [("settled",)]
    assert rig.query(f"SELECT count(*) FROM instruments_as_of({before})") == [(30,)]
    assert rig.query("SELECT count(*) FROM instruments_as_of(epoch_ns(TIMESTAMP '2026-01-01 14:30'))") == [(0,)]
    assert rig.query(f"SELECT count(*) FROM instruments_as_of({before - 3600 * SECOND_NS})") == [(0,)]
    assert all(path.read_bytes() == content for path, content in files.items())
    ranges = rig.query("SELECT symbol, valid_from, valid_to FROM instrument_versions")
    assert all(end is None or start < end for _, start, end in ranges)
    assert len({symbol for symbol, _, end in ranges if end is None}) == len({symbol for symbol, *_ in ranges})


def test_what_was_settled_before_the_cutoff_is_found_in_history_and_not_taken_for_gone(rig: Rig) -> None:
    """Nothing was synced for longer than the venue keeps a market beside the others."""
    rig.sync()
    oldest = next(iter(rig.simulator.exchange.markets))
    rig.move(7.5)
    rig.simulator.live_ns = SECOND_NS // 10
    synced = rig.sync()
    assert (synced.whole, synced.delisted) == (True, 0)
    assert rig.query(f"SELECT status FROM instruments WHERE symbol = '{oldest}'") == [("settled",)]
    assert any(target.partition("?")[0].endswith("/historical/markets") for target in rig.asked.targets)


def test_a_page_that_cannot_be_read_costs_only_what_follows_it(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    small_pages(monkeypatch)
    rig.asked.fault = lambda target: Answer(503, b"") if "status=open" in target and "cursor" in target else None
    rig.move(1)
    some = rig.sync(full=True)
    assert (some.whole, some.read, some.delisted) == (False, 7, 0)
    assert [unread.request.partition("?")[0] for unread in some.unread] == ["/markets"]
    assert "maintenance" in some.unread[0].error
    assert rig.query("SELECT count(*) FROM instruments") == [(7,)]
    assert sum("status=unopened" in target for target in rig.asked.targets) == 1  # the other listings were read
    rig.asked.fault = lambda target: None
    rest_of_it = rig.sync()
    assert (rest_of_it.whole, rest_of_it.listed) == (True, 23)


def test_nothing_is_gone_because_a_venue_answered_half(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    small_pages(monkeypatch)
    rig.sync()
    for fault in (Answer(503, b""), Answer(200, b'{"markets":[],"cursor":""}'), Answer(200, b"<html>")):
        rig.asked.fault = lambda target, fault=fault: fault if "cursor" in target or fault.body else None  # type: ignore[misc]
        if fault.body == b"<html>":
            with pytest.raises(Permanent, match="documents"):
                rig.sync()
        else:
            assert not rig.sync().whole
    assert rig.query("SELECT status, count(*) FROM instruments GROUP BY ALL") == [("open", 30)]


def test_where_nothing_can_be_read_the_job_tries_again_later(rig: Rig) -> None:
    rig.asked.fault = lambda target: Answer(429, b"")
    with pytest.raises(Transient, match="too many requests"):
        rig.sync()
    assert len(rig.asked.targets) == rest.TRIES_MAX
    assert not list(rig.lake.rglob("*.parquet"))


def test_a_next_try_goes_on_where_the_last_one_ended(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    small_pages(monkeypatch)
    cancelled = threading.Event()

    def after_three_pages() -> None:
        if sum(len(said) > 1 and said[1].pages == 3 for said in rig.heartbeats) and not cancelled.is_set():
            cancelled.set()
            rig.environment.cancel()

    with pytest.raises(CancelledError):
        rig.sync(on_page=after_three_pages)
    read = len(rig.asked.targets)
    details = msgspec.to_builtins(rig.heartbeats[-1])  # as Temporal keeps them: plain JSON
    done = rig.sync(details=tuple(details))
    assert (done.pages, done.listed, done.whole) == (5, 30, True)
    assert len(rig.asked.targets) == 5 <= read + 2  # no page was asked for twice


def test_a_record_that_makes_no_sense_is_told_and_the_others_count(rig: Rig) -> None:
    rig.sync()
    markets = rig.simulator.exchange.markets
    settled, odd, gone = list(markets)[:3]
    rig.move(7.5)
    markets[odd].title = 7  # type: ignore[assignment]
    del markets[gone]
    some = rig.sync()
    assert (some.whole, some.odd, some.delisted) == (False, 2, 0) and "title" in some.odd_reason
    assert rig.query(f"SELECT status FROM instruments WHERE symbol = '{settled}'") == [("settled",)]
    assert rig.query(f"SELECT status FROM instruments WHERE symbol = '{gone}'") == [("open",)]


def test_a_look_for_what_is_missing_that_fails_costs_nothing_else(rig: Rig) -> None:
    rig.sync()
    rig.move(7.5)
    rig.asked.fault = lambda target: Answer(503, b"") if "tickers=" in target else None
    some = rig.sync()
    assert (some.whole, some.delisted) == (False, 0) and some.listed >= 1 and "tickers" in some.unread[0].request
    rig.asked.fault = lambda target: None
    assert rig.sync().changed == 1


def test_a_try_that_ended_while_it_looked_for_what_is_missing_is_taken_up(rig: Rig) -> None:
    rig.sync()
    rig.move(7.5)

    def fault(target: str) -> Answer | None:
        if "tickers=" in target:
            rig.environment.cancel()
        return None

    rig.asked.fault = fault
    with pytest.raises(CancelledError):
        rig.sync()
    rig.asked.fault = lambda target: None
    rig.asked.targets.clear()
    done = rig.sync(details=tuple(msgspec.to_builtins(rig.heartbeats[-1])))
    assert done.whole and done.changed == 1 and done.listed >= 1
    assert all("tickers=" in target for target in rig.asked.targets)  # the listing was there already


def test_a_worker_that_stops_is_no_page_that_cannot_be_read(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever it is told so: also while a page is waited for."""
    small_pages(monkeypatch)

    def fault(target: str) -> Answer | None:
        if "cursor" in target:
            rig.environment.worker_shutdown()
            return Answer(503, b"")
        return None

    rig.asked.fault = fault
    with pytest.raises(Transient, match="this worker stops"):
        rig.sync()
    rig.asked.fault = lambda target: None
    done = rig.sync(details=tuple(msgspec.to_builtins(rig.heartbeats[-1])))
    assert (done.whole, done.listed, done.pages) == (True, 30, 5)


def test_a_delisted_instrument_has_a_last_version(rig: Rig) -> None:
    rig.sync()
    gone = next(iter(rig.simulator.exchange.markets))
    del rig.simulator.exchange.markets[gone]
    assert rig.sync().delisted == 1
    assert rig.query("SELECT symbol, status, change FROM instruments WHERE status <> 'open'") == [
        (gone, "delisted", "delisted")
    ]
    assert rig.sync().delisted == 0


def test_many_syncs_make_few_files_with_the_same_rows(rig: Rig) -> None:
    counts = []
    for _ in range(2 * versions.MERGE_FILES + 3):
        market = next(iter(rig.simulator.exchange.markets.values()))
        market.title += "!"
        rig.sync()
        counts.append(rig.query("SELECT count(*) FROM instrument_versions")[0][0])
    assert counts == [30 + n for n in range(len(counts))]
    manifest = versions.load(rig.lake, versions.INSTRUMENTS, FEED)
    assert [file.tier for file in manifest.files] == [1, 1, 0, 0, 0]
    assert len(manifest.merged) == 2 * versions.MERGE_FILES
    last_two = versions.of_revisions(rig.lake, versions.INSTRUMENTS, manifest, 16, 17, ["symbol"])
    assert [row["revision"] for row in last_two] == [16, 17]


def test_a_damaged_file_is_told_and_never_served(rig: Rig) -> None:
    rig.sync()
    [path] = rig.lake.rglob("*.parquet")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(Exception, match="restore it"):
        rig.query("SELECT * FROM instruments")
    with pytest.raises(Permanent, match="damaged"):
        rig.sync()


def test_changes_wait_until_they_are_announced(rig: Rig, nats_server, free_port) -> None:  # type: ignore[no-untyped-def]
    rig.sync()

    def announce(url: str) -> int:
        addresses = msgspec.structs.replace(rig.addresses, nats=url)
        secmaster = Secmaster(config.Places(rig.data), ENVIRONMENT, addresses)
        return ActivityEnvironment().run(secmaster.announce_changes, jobs.Listing(FEED))

    assert announce("") == 0
    with pytest.raises(Transient, match="cannot be announced"):
        announce(f"nats://127.0.0.1:{free_port()}")
    rig.move(5.5)
    again = rig.sync()
    assert announce(nats_server.url) == 30 + again.listed + again.changed
    assert announce(nats_server.url) == 0


def test_two_syncs_of_a_feed_take_turns(rig: Rig) -> None:
    lock = versions.lock(rig.lake, versions.INSTRUMENTS, FEED, "another sync")
    with lock, pytest.raises(Transient, match="another sync"):
        rig.sync()
    assert rig.sync().whole


def test_fees_have_versions_too(rig: Rig) -> None:
    def sync() -> jobs.Synced:
        return ActivityEnvironment().run(
            Fees(config.Places(rig.data), ENVIRONMENT, rig.addresses).sync_fees, jobs.FeeListing(FEED)
        )

    first = sync()
    assert first.whole and first.listed == first.read > 0
    assert sync().changed == 0
    rows = rig.query('SELECT symbol, "of", taker, basis FROM fees WHERE since IS NULL ORDER BY symbol')
    assert rows and all(of == "series" and taker > 0 for _, of, taker, _ in rows)
    before = rig.query("SELECT max(valid_from) FROM fees")[0][0]
    rig.asked.fault = lambda target: (
        Answer(200, b'{"series":[{"ticker":"KXBTCD","fee_type":"quadratic","fee_multiplier":0.5}]}')
        if "fee_changes" not in target
        else None
    )
    second = sync()
    assert second.changed == 1 and second.delisted == len(rows) - 1
    [(was,)] = rig.query(f"SELECT taker FROM fees_as_of({before}) WHERE symbol = 'KXBTCD' AND since IS NULL")
    [(now,)] = rig.query("SELECT taker FROM fees WHERE symbol = 'KXBTCD' AND since IS NULL")
    assert now == was / 2
