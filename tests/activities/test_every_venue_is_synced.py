"""Every venue's instruments and fees go into the lake, through its own simulator's REST."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from temporalio.testing import ActivityEnvironment

import ssmd.lake
from activities import rest
from activities.fees import Fees
from activities.secmaster import Secmaster
from exchanges.port import Simulation
from ssmd import config, jobs
from tests.activities.venues import Asked, listening
from tests.exchanges import venues
from tests.exchanges.venues import NOW_NS, Known

VENUES = venues.known()
WITHOUT_FEES = {"kraken_futures"}
FEES_FOR_A_KEY = {"binance", "binance_usdm", "binance_usdm_market"}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "pace", lambda host, per_second: rest.Pace(10_000))


@pytest.fixture(params=VENUES, ids=lambda k: k.name)
def synced(request: pytest.FixtureRequest) -> Iterator[tuple[Known, Asked]]:
    simulator = request.param.venue.simulator(Simulation(seed=3, markets=9))
    simulator.generate(NOW_NS)
    with listening(simulator, lambda: NOW_NS) as asked:
        yield request.param, asked


def test_instruments_and_fees_are_written_down(synced: tuple[Known, Asked], tmp_path: Path) -> None:
    known, asked = synced
    feed = known.feeds[0]["name"]
    production = known.feeds[0]["versions"][-1]["endpoints"]["production"]["rest"]
    environment = config.Environment(name="t", feeds=[config.EnvironmentFeed(feed=feed, endpoint="simulator")])
    where = config.FeedAddress("", asked.url + urlsplit(production).path.rstrip("/"))
    addresses = config.Addresses("t", "", "", "", {feed: where}, {})
    places = config.Places(tmp_path)
    secmaster, fees = Secmaster(places, environment, addresses), Fees(places, environment, addresses)
    for full in (False, True, False):
        told = ActivityEnvironment().run(secmaster.sync_instruments, jobs.Listing(feed, full))
        assert told.whole and not told.odd, told
        assert told.read >= 9 and (told.changed, told.delisted) == (0, 0), told
    lake = ssmd.lake.connect(tmp_path)
    counts = lake.sql("SELECT status, count(*), count(tick_size), count(raw) FROM instruments GROUP BY ALL").fetchall()
    assert [(status, n, n, n) for status, n, _, _ in counts] == counts and counts[0][0] == "open"
    if known.name in WITHOUT_FEES | FEES_FOR_A_KEY:
        told = ActivityEnvironment().run(fees.sync_fees, jobs.FeeListing(feed))
        why = "no request" if known.name in WITHOUT_FEES else "name a key"
        assert why in told.note and not list(tmp_path.rglob("fees*"))
        return
    told = ActivityEnvironment().run(fees.sync_fees, jobs.FeeListing(feed))
    assert told.whole and told.listed == told.read > 0
    assert ActivityEnvironment().run(fees.sync_fees, jobs.FeeListing(feed)).revision == told.revision
    for taker, maker in ssmd.lake.connect(tmp_path).sql("SELECT taker, maker FROM fees").fetchall():
        assert taker is None or -1 < taker < 1
        assert maker is None or -1 < maker < 1


def test_what_was_not_asked_for_is_not_gone(tmp_path: Path) -> None:
    """An environment names other series than before; and a symbol that the venue lists no more is told."""
    [binance] = [k for k in VENUES if k.name == "binance"]
    simulator = binance.venue.simulator(Simulation(seed=3, markets=9))
    simulator.generate(NOW_NS)
    with listening(simulator, lambda: NOW_NS) as asked:
        addresses = config.Addresses("t", "", "", "", {"binance": config.FeedAddress("", asked.url)}, {})

        def sync(*series: str) -> jobs.Synced:
            plan = config.EnvironmentFeed(
                feed="binance", endpoint="simulator", symbols=config.Symbols(series=list(series))
            )
            environment = config.Environment(name="t", feeds=[plan])
            secmaster = Secmaster(config.Places(tmp_path), environment, addresses)
            return ActivityEnvironment().run(secmaster.sync_instruments, jobs.Listing("binance"))

        everything = sync()
        some = sync("BTC")
        assert some.whole and 0 < some.read < everything.read and some.delisted == 0
        usdt = next(s for s in simulator.markets if s.endswith("USDT"))
        del simulator.markets[usdt]  # type: ignore[attr-defined]
        assert sync("BTC").delisted == 0
        assert sync("USDT").delisted == 1
