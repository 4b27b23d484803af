"""REST: instruments, trades by time and by id, fees, the check of a key; the simulator answers as documented."""

import gzip
import json

import pytest

from exchanges import binance_usdm, binance_usdm_market
from exchanges.binance import rest, venue
from exchanges.binance.product import SPOT, USDM_PUBLIC, Product
from exchanges.binance.signing import Key
from exchanges.binance.simulator import BinanceSimulator
from exchanges.port import Answer, Request, Simulation, TradesRequest, Unparsable, Venue
from ssmd.errors import Permanent, Transient
from ssmd.events import Trade

from .talk import FIXTURES, NOW, SECOND

SECRET, KEY_ID = b"secretsecretsecret", "k" * 32
BOTH = [pytest.param(venue, SPOT, id="spot"), pytest.param(binance_usdm.venue, USDM_PUBLIC, id="usdm")]


def simulator(of: Venue, seconds: int = 30) -> BinanceSimulator:
    made = of.simulator(Simulation(seed=5, markets=4, frames_per_second=100.0, key_id=KEY_ID))
    assert isinstance(made, BinanceSimulator)
    made.hmac_secret = SECRET
    for k in range(seconds * 2 + 1):
        made.generate(NOW + k * SECOND // 2)
    return made


def ask(made: BinanceSimulator, request: Request, key: Key | None = None, now: int = NOW) -> Answer:
    sent = key.signed(request, now) if key is not None and request.signed else request
    return made.answer(sent.method, sent.target, {name.lower(): value for name, value in sent.headers.items()}, now)


@pytest.mark.parametrize(("of", "product"), BOTH)
def test_instruments_are_those_that_trade_in_the_named_quote_assets(of: Venue, product: Product) -> None:
    made = simulator(of, 1)
    made.markets["SOLUSDT"].status = "BREAK"
    for series, symbols in (([], ["BTCUSDT", "ETHUSDT", "BNBBTC"]), (["BTC"], ["BNBBTC"]), (["XYZ"], [])):
        (request,) = of.instruments(series)
        page = of.instruments_page(request, ask(made, request).body)
        assert (page.symbols, page.next) == (symbols, None)
        trading = [record["symbol"] for record in page.records if record["status"] == "TRADING"]
        assert trading == symbols


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"symbols":[{}]}', b'{"symbols":[{"symbol":7}]}', b"<html>"])
def test_what_is_no_listing_is_told(body: bytes) -> None:
    (request,) = venue.instruments([])
    with pytest.raises(Unparsable):
        venue.instruments_page(request, body)


def page_through(made: BinanceSimulator, request: TradesRequest | None, key: Key) -> list[Trade]:
    found: list[Trade] = []
    pages = 0
    while request is not None:
        answer = ask(made, request, key, NOW + pages * 60 * SECOND)  # each in a minute of its own
        assert answer.status == 200, answer
        trades, request = rest.trades_page(request, answer.body)
        found += trades
        pages += 1
    return found


@pytest.mark.parametrize(("of", "product"), BOTH)
def test_trades_by_id_and_by_time_are_exact(of: Venue, product: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "TRADES_PER_PAGE_MAX", {"/api/v3": 7, "/fapi/v1": 7})
    made, key = simulator(of), Key(KEY_ID, SECRET)
    market = made.markets["BTCUSDT"]
    rows = list(market.trades)
    assert len(rows) > 40
    first, last = int(str(rows[5]["id"])), int(str(rows[-5]["id"]))
    by_id = page_through(made, rest.trades_between(product, "BTCUSDT", first, last), key)
    assert [t.trade_id for t in by_id] == [str(row["id"]) for row in rows[5:-4]]
    assert [(t.price, t.size) for t in by_id] == [(row["price"], row["qty"]) for row in rows[5:-4]]
    start, end = NOW + 5 * SECOND, NOW + 20 * SECOND
    by_time = page_through(made, rest.trades(product, "BTCUSDT", start, end), key)
    inside = [row for row in rows if start <= int(str(row["time"])) * 1_000_000 <= end]
    assert [t.trade_id for t in by_time] == [str(row["id"]) for row in inside]
    assert page_through(made, rest.trades(product, "BTCUSDT", NOW + 3600 * SECOND, NOW + 3700 * SECOND), key) == []
    side = {True: "sell", False: "buy"}
    assert [t.side for t in by_id] == [side[bool(row["isBuyerMaker"])] for row in rows[5:-4]]


def test_a_route_of_aggregate_trades_pages_through_those(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key, and under the ids that its WebSocket has."""
    monkeypatch.setattr(rest, "AGGREGATES_PER_PAGE_MAX", 7)
    of = binance_usdm_market.venue
    made = simulator(of)
    rows = list(made.markets["BTCUSDT"].aggregates)
    start, end = NOW + 5 * SECOND, NOW + 20 * SECOND
    inside = [row for row in rows if start <= int(str(row["T"])) * 1_000_000 <= end]
    assert len(inside) > 14
    request = of.trades("BTCUSDT", start, end)
    found: list[Trade] = []
    while request is not None:
        assert not request.signed
        page = of.trades_page(request, ask(made, request).body)
        found += page.trades
        request = page.next
    assert [(t.trade_id, t.price, t.size) for t in found] == [(str(r["a"]), r["p"], r["q"]) for r in inside]


def test_usdm_history_wants_the_header_of_a_key() -> None:
    made = simulator(binance_usdm.venue, 1)
    request = rest.trades_between(USDM_PUBLIC, "BTCUSDT", 1, 2)
    assert ask(made, request).status == 401
    assert ask(made, request, Key(KEY_ID, SECRET)).status == 200


@pytest.mark.parametrize(("of", "product"), BOTH)
def test_fees_are_those_of_the_account(of: Venue, product: Product) -> None:
    made, key = simulator(of, 1), Key(KEY_ID, SECRET)
    (request,) = of.fees(["BTCUSDT"])
    (fee,) = of.fees_page(request, ask(made, request, key).body).fees
    assert (fee.symbol, float(fee.maker or 0) > 0, float(fee.taker or 0) > 0) == ("BTCUSDT", True, True)
    with pytest.raises(Unparsable):
        of.fees_page(request, b'{"symbol":"BTCUSDT"}')


@pytest.mark.parametrize(("of", "product"), BOTH)
def test_a_key_is_checked_and_each_fault_named(of: Venue, product: Product) -> None:
    made = simulator(of, 1)

    def verdict(key: Key, skew: int = 0) -> tuple[str, str]:
        sent = key.signed(of.key_check(), NOW + skew)
        headers = {name.lower(): value for name, value in sent.headers.items()}
        found = of.key_verdict(made.answer(sent.method, sent.target, headers, NOW), NOW + skew)
        return found.state, found.said

    assert verdict(Key(KEY_ID, SECRET))[0] == "accepted"
    for key, words in (
        (Key(KEY_ID, b"other"), "the secret does not belong to this key id"),
        (Key("x" * 32, SECRET), "does not know it"),
        (Key("short", SECRET), "has not the form"),
    ):
        state, said = verdict(key)
        assert state == "wrong" and words in said
    made.rights = False
    assert "the key lacks the right" in verdict(Key(KEY_ID, SECRET))[1]
    made.rights = True
    for skew in (-6 * SECOND, 2 * SECOND):
        state, said = verdict(Key(KEY_ID, SECRET), skew)
        assert state == "clock" and "clock is off" in said


@pytest.mark.parametrize(
    ("status", "body", "kind", "text"),
    [
        (429, b'{"code":-1003,"msg":"Too many"}', Transient, "more slowly"),
        (418, b"{}", Transient, "banned"),
        (503, b"<html>", Transient, "busy"),
        (400, b'{"code":-1021,"msg":"x"}', Transient, "clock"),
        (400, b'{"code":-1121,"msg":"Invalid symbol."}', Permanent, "no such symbol"),
        (401, b'{"code":-2015,"msg":"x"}', Permanent, "does not know it"),
        (403, b"", Permanent, "firewall"),
        (451, b'{"code":0,"msg":"restricted"}', Permanent, "location"),
        (404, b"", Permanent, "the request itself is wrong"),
    ],
)
def test_what_a_refusal_means(status: int, body: bytes, kind: type[Exception], text: str) -> None:
    refused = venue.refusal(status, body)
    assert type(refused) is kind and text in str(refused) and str(status) in str(refused)


def test_a_recorded_book_is_as_the_simulator_writes_it() -> None:
    with gzip.open(FIXTURES / "spot-2021-08-14.gz") as file:
        line = next(line for line in file if line.startswith(b"https://"))
    recorded = json.loads(line.partition(b": ")[2])
    told = json.loads(simulator(venue, 1).answer("GET", "/api/v3/depth?symbol=BTCUSDT&limit=5", {}, NOW).body)
    assert set(told) == set(recorded)
    assert [[type(x) for x in level] for level in told["bids"][:1]] == [
        [type(x) for x in level] for level in recorded["bids"][:1]
    ]
    assert len(told["bids"]) == 5 and told["bids"] == sorted(told["bids"], key=lambda x: -float(x[0]))
