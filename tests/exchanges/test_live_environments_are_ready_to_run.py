"""Environments of real venues: where they connect is documented, and what they subscribe to is what venues take."""

import importlib
import json
import re
from collections import Counter
from collections.abc import Iterable
from datetime import date
from urllib.parse import urlsplit

import pytest

from exchanges.port import Request, Simulation, Simulator, Subscription, Venue
from ssmd import config

from . import venues
from .venues import NOW_NS, Known, Talk

SHEETS = venues.ROOT.parent / "shared/protocols"
ENVIRONMENTS = ("live-public", "kalshi-live")
PUBLIC = config.load_environment("live-public")
EVERY = pytest.mark.parametrize("plan", PUBLIC.feeds, ids=lambda plan: plan.feed)

# What a venue may list, and which of it the environment's series leave.
LISTED = {
    "deribit": (
        ["BTC-PERPETUAL", "BTC-25DEC26", "BTC-25DEC26-80000-C", "ETH-PERPETUAL", "SOL_USDC-PERPETUAL"],
        {"BTC-PERPETUAL", "BTC-25DEC26", "ETH-PERPETUAL"},
    ),
    "kraken": (["BTC/USD", "ETH/USD", "BTC/EUR", "ETH/BTC"], {"BTC/USD", "ETH/USD"}),
    "kraken-futures": (["PF_XBTUSD", "PI_ETHUSD", "FI_XBTUSD_261225", "FF_XBTUSD_261225"], {"PF_XBTUSD", "PI_ETHUSD"}),
}
NAMES_MAX = {"binance": 24}  # books that one minute's REST weight lets begin


def venue_of(plan: config.EnvironmentFeed) -> tuple[config.FeedVersion, Venue]:
    feed = config.load_feed(plan.feed)
    venue: Venue = importlib.import_module(f"exchanges.{feed.venue}").venue
    return feed.at(date.today()), venue


def listed(venue: Venue, simulator: Simulator, version: config.FeedVersion, series: list[str]) -> list[str]:
    """The instruments of `series`, asked for as the connector does it."""
    path = urlsplit(version.endpoints["production"].rest).path
    todo: list[Request] = list(venue.instruments(series))
    found: list[str] = []
    while todo:
        request = todo.pop()
        answer = simulator.answer(request.method, path + request.target, {}, NOW_NS)
        assert answer.status == 200, answer
        page = venue.instruments_page(request, answer.body)
        found += page.symbols
        todo += [page.next] if page.next is not None else []
    return found


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_endpoint_is_documented(name: str) -> None:
    if not SHEETS.is_dir():
        pytest.skip("the venues' fact sheets are not here")
    for plan in config.load_environment(name).feeds:
        version, _ = venue_of(plan)
        sheet = (SHEETS / f"{plan.feed.partition('-')[0]}.md").read_text()
        known = {(u.scheme, u.hostname) for u in map(urlsplit, re.findall(r"(?:wss|https)://[^\s`|<)]+", sheet))}
        endpoint = version.endpoints[plan.endpoint]
        for url in (endpoint.ws, endpoint.rest):
            parts = urlsplit(url)
            assert (parts.scheme, parts.hostname) in known, url
            assert parts.path in sheet, url


def test_the_public_environment_wants_no_key() -> None:
    assert PUBLIC.servers == "local"
    for plan in PUBLIC.feeds:
        version, _ = venue_of(plan)
        assert plan.key is None and not version.signed and plan.endpoint in version.endpoints
        assert plan.symbols.names or plan.symbols.series, "a venue has more than a small machine takes"
        assert len(plan.symbols.names) <= NAMES_MAX.get(plan.feed, 0)


@EVERY
def test_its_series_are_what_the_venue_understands(plan: config.EnvironmentFeed) -> None:
    version, venue = venue_of(plan)
    if plan.symbols.names:
        assert len(set(plan.symbols.names)) == len(plan.symbols.names)
        return
    if plan.feed == "polymarket":  # its simulator has no tags
        requests = venue.instruments(plan.symbols.series)
        assert [(r.host, r.path, r.query["tag_id"]) for r in requests] == [
            ("gamma-api.polymarket.com", "/markets/keyset", series) for series in plan.symbols.series
        ]
        return
    every, wanted = LISTED[plan.feed]
    simulator = venue.simulator(Simulation())
    simulator.load([("book", symbol) for symbol in every], NOW_NS, NOW_NS + venues.SECOND_NS)
    assert set(listed(venue, simulator, version, plan.symbols.series)) == wanted
    assert set(listed(venue, simulator, version, [])) == set(every)


def told(wires: Iterable[bytes], symbol: str) -> bool:
    """Whether any of these commands names the instrument, in the venue's spelling."""
    pattern = re.compile(rf'["./]{re.escape(symbol)}[".@/]'.encode(), re.IGNORECASE)
    return any(pattern.search(wire) for wire in wires)


class Subscribing(Talk):
    """A conversation without REST: a market that has only been opened has no book there yet."""

    def _ask(self, requests: Iterable[Request]) -> None:
        pass


@EVERY
def test_the_venue_takes_its_subscriptions(plan: config.EnvironmentFeed) -> None:
    """A connection's first frames, made of the YAML alone, at a simulator that is strict about them."""
    version, venue = venue_of(plan)
    feed = config.load_feed(plan.feed)
    symbols = list(plan.symbols.names)
    if not symbols:
        symbols = sorted(LISTED[plan.feed][1]) if plan.feed in LISTED else [str(10**75 + i) for i in range(200)]
    limit = version.limits.symbols_per_subscription
    channels = tuple(plan.channels or version.channels)
    adapter = venue.adapter(Subscription(channels, tuple(symbols), limit))
    simulator = venue.simulator(Simulation())
    simulator.load([("book", symbol) for symbol in symbols], NOW_NS, NOW_NS + venues.SECOND_NS)
    sent = list(adapter.opened())
    assert all(told(sent, symbol) for symbol in symbols)
    for wire in sent:
        if wire[:1] == b"{":
            names = Counter(map(type, _strings(json.loads(wire))))[str]
            assert names <= limit + 10, f"{names} names in one command"
    assert len(symbols) <= (version.limits.symbols_max(len(channels)) or len(symbols))
    if plan.feed == "binance":
        streams = sum(len(re.findall(rb'"[a-z0-9]+@[^"]+"', wire)) for wire in sent)
        assert len(symbols) * len(channels) == streams <= (version.limits.subscriptions_per_connection or 0)
    talk = Subscribing(Known(feed.venue, []), simulator, venue.adapter(Subscription(channels, tuple(symbols), limit)))
    for _ in range(20):
        talk.tick(0.5)
    refused = [n for n in talk.notices if n.kind == "refused"]
    assert not refused and not talk.bad, (refused, talk.bad[:1])
    assert talk.connection.subscriptions >= len(symbols)


def _strings(value: object) -> list[object]:
    if isinstance(value, dict):
        return [s for inner in value.values() for s in _strings(inner)]
    if isinstance(value, list):
        return [s for inner in value for s in _strings(inner)]
    return [value]
