"""Requests and answers."""

import gzip
import json
from dataclasses import replace
from typing import Any

import pytest

from exchanges.polymarket import rest
from exchanges.polymarket.markets import Fill
from exchanges.polymarket.simulator import PolymarketSimulator
from exchanges.port import Answer, Request, Simulation, TradesRequest, Unparsable
from ssmd.errors import Permanent, Transient

from .recorded import recording

SECOND = 1_000_000_000
NOW = 1_786_410_915_579_000_000


def ask(simulator: PolymarketSimulator, request: Request) -> Answer:
    return simulator.answer(request.method, request.target, {}, NOW)


@pytest.fixture
def simulator() -> PolymarketSimulator:
    made = PolymarketSimulator(Simulation(seed=2, markets=230))
    made.generate(NOW)
    return made


def test_every_open_market_is_listed_over_pages(simulator: PolymarketSimulator) -> None:
    (request,) = rest.instruments([])
    assert request.host == "gamma-api.polymarket.com"
    symbols: list[str] = []
    pages = 0
    todo: Request | None = request
    while todo is not None:
        page = rest.instruments_page(todo, ask(simulator, todo).body)
        symbols += page.symbols
        todo = page.next
        pages += 1
    assert pages == 3 and sorted(symbols) == sorted(simulator.exchange.tokens) and len(symbols) == 460


def test_a_wrong_cursor_name_brings_the_first_page_again(simulator: PolymarketSimulator) -> None:
    first = simulator.answer("GET", "/markets/keyset?limit=5&closed=false", {}, NOW).body
    cursor = json.loads(first)["next_cursor"]
    assert simulator.answer("GET", f"/markets/keyset?limit=5&closed=false&cursor={cursor}", {}, NOW).body == first
    other = simulator.answer("GET", f"/markets/keyset?limit=5&closed=false&after_cursor={cursor}", {}, NOW).body
    assert json.loads(other)["markets"] != json.loads(first)["markets"]


def test_series_are_tags_or_slugs() -> None:
    tag, slug = rest.instruments(["100381", "btc-updown-5m-1780876500"])
    assert tag.query["tag_id"] == "100381" and slug.query["slug"] == "btc-updown-5m-1780876500"


def test_recorded_markets_are_understood() -> None:
    lines = gzip.decompress(recording("rest/BTC-5m-markets-2026-06-08.jsonl.gz").read_bytes()).splitlines()
    told = [json.loads(line) for line in lines]
    assert told
    page = rest.instruments_page(rest.instruments([])[0], json.dumps({"markets": [t["raw"] for t in told]}).encode())
    assert page.symbols == []  # they take no more orders
    reopened = [{**t["raw"], "acceptingOrders": True} for t in told]
    page = rest.instruments_page(rest.instruments([])[0], json.dumps({"markets": reopened}).encode())
    assert page.symbols == [token for t in told for token in t["token_ids"]]
    fees, following = rest.fees_page(rest.fees(), json.dumps({"markets": reopened}).encode())
    assert following is None and {(f.maker, f.taker, f.detail["exponent"]) for f in fees} == {("0", "0.07", "1.0")}


def test_lists_may_be_lists_or_texts() -> None:
    markets: list[dict[str, Any]] = [
        {"clobTokenIds": ["1", "2"]},
        {"clobTokenIds": '["3", "4"]'},
        {"clobTokenIds": ""},
        {},
        {"clobTokenIds": '["5"]', "enableOrderBook": False},
    ]
    request = rest.instruments([])[0]
    assert rest.instruments_page(request, json.dumps({"markets": markets}).encode()).symbols == ["1", "2", "3", "4"]


def test_recorded_trades_keep_their_digits() -> None:
    body = recording("rest/nautilus/trades.json").read_bytes()
    told = json.loads(body)
    token = told[0]["asset"]
    page = rest.trades_page(rest.market_trades("0x1", rest.trades(token, 0, 1 << 62)), body)
    assert [(t.symbol, t.ts_event) for t in page.trades] == [
        (token, x["timestamp"] * SECOND) for x in told if x["asset"] == token
    ]
    assert page.trades[0].price == "0.998" and page.trades[0].size == "5.4" and page.trades[0].side == "sell"
    assert page.next is None


def test_all_trades_of_a_window_are_paged_through_even_beyond_the_highest_offset(
    simulator: PolymarketSimulator,
) -> None:
    condition, market = next(iter(simulator.exchange.markets.items()))
    token, other = market.tokens
    for i in range(25_000):
        if i % 5 == 0:
            simulator.exchange.trade(Fill(other, condition, "BUY", "0.5", "1", NOW + i * SECOND // 50, f"0z{i}"))
        simulator.exchange.trade(Fill(token, condition, "BUY", "0.5", "1", NOW + i * SECOND // 50, f"0x{i}"))
        simulator.exchange.trade(Fill("1", "another", "BUY", "0.5", "1", NOW + i * SECOND // 50, f"0y{i}"))
    expected = {f"0x{i}" for i in range(25_000)}
    todo: TradesRequest | None = rest.trades(token, NOW, NOW + 600 * SECOND)
    found: set[str | None] = set()
    while todo is not None:
        answer = ask(simulator, todo)
        assert answer.status == 200, (todo, answer)
        page = rest.trades_page(todo, answer.body)
        found |= {t.trade_id for t in page.trades}
        todo = page.next
    assert found == expected


def test_more_trades_in_a_second_than_can_be_paged_through_are_an_error() -> None:
    row = {"asset": "1", "side": "BUY", "price": 0.5, "size": 1, "timestamp": 11}
    request = rest.market_trades("0x1", rest.trades("1", 10 * SECOND, 10 * SECOND))
    last = replace(request, query={**request.query, "offset": "9500"})
    with pytest.raises(Unparsable, match="one second"):
        rest.trades_page(last, json.dumps([row] * 500).encode())


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"markets":7}', b'{"markets":[{"clobTokenIds":7}]}', b"\xff"])
def test_what_is_no_listing_says_so(body: bytes) -> None:
    with pytest.raises(Unparsable):
        rest.instruments_page(rest.instruments([])[0], body)


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, Permanent, "Invalid api key"),
        (403, Permanent, "place"),
        (404, Permanent, "request itself"),
        (422, Permanent, "request itself"),
        (425, Transient, "restarting"),
        (429, Transient, "slowly"),
        (500, Transient, "busy"),
    ],
)
def test_refusals_tell_what_to_do(status: int, kind: type[Exception], words: str) -> None:
    error = rest.refusal(status, b'{"error":"Unauthorized/Invalid api key"}')
    assert isinstance(error, kind) and words in str(error) and str(status) in str(error)
