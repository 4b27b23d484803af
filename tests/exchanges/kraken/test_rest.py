"""REST answers become instruments, trades, fees and verdicts, whatever HTTP says."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from exchanges.kraken import rest, venue
from exchanges.kraken.simulator import KrakenSimulator
from exchanges.port import Answer, Fee, Request, Simulation, TradesRequest, Unparsable, Verdict
from ssmd.errors import Permanent, SsmdError, Transient
from ssmd.events import Trade

FIXTURES = Path(__file__).parents[3] / "exchanges" / "kraken" / "fixtures" / "rest"
PAIRS = (FIXTURES / "asset-pairs-2021-04.json").read_bytes()
NOW = 1_786_410_915_579_000_000
SECOND = 1_000_000_000
SECRET = b"c2VjcmV0"


def _error(*errors: str) -> bytes:
    return json.dumps({"error": list(errors)}).encode()


def test_pairs_are_listed_by_their_names_on_websocket() -> None:
    (request,) = venue.instruments([])
    assert (request.method, request.path, request.query) == ("GET", "/0/public/AssetPairs", {})
    page = venue.instruments_page(request, PAIRS)
    assert page.symbols == ["ETH/CHF", "KSM/BTC", "DOGE/USD", "BTC/USD", "DOGE/BTC"]  # no dark pool
    assert page.next is None and page.records[3]["altname"] == "XBTUSD"


def test_series_are_quote_currencies() -> None:
    (request,) = venue.instruments(["USD", "CHF"])
    assert venue.instruments_page(request, PAIRS).symbols == ["ETH/CHF", "DOGE/USD", "BTC/USD"]


def test_pairs_that_are_not_traded_are_left_out(shared_data: Path) -> None:
    body = json.loads((shared_data / "kraken/rest/http_asset_pairs.json").read_bytes())
    (request,) = venue.instruments([])
    assert venue.instruments_page(request, json.dumps(body).encode()).symbols == ["BTC/USDT"]
    body["result"]["XBTUSDT"]["status"] = "delisted"
    assert venue.instruments_page(request, json.dumps(body).encode()).symbols == []


@pytest.mark.parametrize(("symbol", "pair"), [("BTC/USD", "XBTUSD"), ("DOGE/BTC", "XDGXBT"), ("ADA/EUR", "ADAEUR")])
def test_names_go_both_ways(symbol: str, pair: str) -> None:
    assert rest.pair_of(symbol) == pair
    assert rest.symbol_of(symbol.replace("BTC", "XBT").replace("DOGE", "XDG")) == symbol


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"result":{}}', b'{"error":[],"result":[]}', b"\xff"])
def test_an_answer_that_is_no_listing_is_unparsable(body: bytes) -> None:
    with pytest.raises(Unparsable):
        venue.instruments_page(Request("GET", "/0/public/AssetPairs"), body)


def test_an_error_with_status_200_is_an_error() -> None:
    with pytest.raises(Transient, match="Too many requests"):
        venue.instruments_page(Request("GET", "/0/public/AssetPairs"), _error("EGeneral:Too many requests"))
    with pytest.raises(Permanent, match="Unknown asset pair"):
        rest.trades_page(rest.trades("X/Y", 0, 1), _error("EQuery:Unknown asset pair"))


# ------------------------------------------------------------------------------------------------------------ trades


def test_recorded_trades_are_read_exactly(shared_data: Path) -> None:
    body = (shared_data / "kraken/rest/http_trades.json").read_bytes()
    request = rest.trades("BTC/USDT", 1_762_795_433_000_000_000, 1_762_820_000_000_000_000)
    page = rest.trades_page(request, body)
    assert page.trades[0] == Trade(
        "BTC/USDT", 1_762_795_433_971_744_500, "105433.60000", "0.00027625", "buy", "10218208"
    )
    ids = [int(t.trade_id or 0) for t in page.trades]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert page.next is None  # the page goes beyond the end
    longer = rest.trades_page(rest.trades("BTC/USDT", 0, 1_900_000_000_000_000_000), body)
    assert len(longer.trades) == 1000 and longer.next is not None
    assert longer.next.query == {"pair": "XBTUSDT", "since": "1762820035982277754", "count": "1000"}


def _ask(simulator: KrakenSimulator, request: Request, now_ns: int = NOW) -> Answer:
    query = "&".join(f"{k}={v}" for k, v in request.query.items())
    return simulator.answer(request.method, f"{request.path}?{query}", {}, now_ns)


def test_pages_of_trades_hold_each_trade_of_a_time_once() -> None:
    simulator = KrakenSimulator(Simulation(seed=5, markets=1, frames_per_second=1500))
    for step in range(200):
        simulator.generate(NOW + step * SECOND // 4)
    (market,) = simulator.markets.values()
    start, end = market.trades[10].ts_ns, market.trades[-20].ts_ns
    request: TradesRequest | None = rest.trades(market.symbol, start, end)
    found: list[Trade] = []
    pages = 0
    while request is not None:
        pages += 1
        page = rest.trades_page(request, _ask(simulator, request, NOW + pages * 5 * SECOND).body)
        found += page.trades
        request = page.next
    expected = [t for t in market.trades if start <= t.ts_ns <= end]
    assert pages > 2
    # The venue rounds the times of an answer, so a trade or two more at the end are no mistake.
    assert [t.trade_id for t in found][: len(expected)] == [str(t.number) for t in expected][: len(found)]
    assert abs(len(found) - len(expected)) <= 1
    assert all((f.price, f.size, f.side) == (e.price, e.size, e.side) for f, e in zip(found, expected, strict=False))


def test_a_day_without_trades_is_one_empty_page() -> None:
    simulator = KrakenSimulator(Simulation(markets=1))
    simulator.generate(NOW)
    (symbol,) = simulator.markets
    request = rest.trades(symbol, NOW, NOW + SECOND)
    assert rest.trades_page(request, _ask(simulator, request).body) == ([], None)


@pytest.mark.parametrize(
    "result",
    [
        {},
        {"last": "5"},
        {"A": [], "B": [], "last": "5"},
        {"A": [], "last": "x"},
        {"A": [["1", "2"]], "last": "5"},
        {"A": [["1.0", "2.0", 5.5, "z", "l", "", 7]], "last": "5"},
    ],
)
def test_an_answer_that_holds_no_trades_is_unparsable(result: dict[str, object]) -> None:
    with pytest.raises(Unparsable):
        rest.trades_page(rest.trades("A/B", 0, 1), json.dumps({"error": [], "result": result}).encode())


# -------------------------------------------------------------------------------------------------------- fees, keys


def test_fees_are_fractions_by_turnover() -> None:
    fees = [fee for fee in rest.fees_page(rest.fees(), PAIRS).fees if fee.symbol == "BTC/USD"]
    assert fees[0] == Fee("BTC/USD", "0.0016", "0.0026")
    assert (fees[-1].volume, fees[-1].maker, fees[-1].taker) == ("10000000", "0", "0.001")
    assert [Decimal(f.volume) for f in fees] == sorted(Decimal(f.volume) for f in fees)


def _checked(simulator: KrakenSimulator, key_id: str = "K", secret: bytes = SECRET, now_ns: int = NOW) -> Verdict:
    request = venue.key(key_id, secret).signed(venue.key_check(), now_ns)
    headers = {name.lower(): value for name, value in request.headers.items()}
    return venue.key_verdict(simulator.answer(request.method, request.path, headers, now_ns, request.body), now_ns)


def test_the_key_check_finds_what_is_wrong() -> None:
    simulator = KrakenSimulator(Simulation(key_id="K", public_key=SECRET))
    assert _checked(simulator).state == "accepted"
    for again in (_checked(simulator), _checked(simulator, now_ns=NOW - SECOND)):  # the same nonce, a lower one
        assert again.state == "clock" and "clock is behind" in again.said
    unknown = _checked(simulator, "other", now_ns=NOW + SECOND)
    assert unknown.state == "wrong" and "no such key" in unknown.said
    wrong = _checked(simulator, "K", b"b3RoZXI=", now_ns=NOW + SECOND)
    assert wrong.state == "wrong" and "does not belong" in wrong.said
    assert _checked(simulator, now_ns=NOW + SECOND).state == "accepted"


@pytest.mark.parametrize(
    ("errors", "state", "says"),
    [
        (["EAPI:Invalid key"], "wrong", "no such key"),
        (["EAPI:Invalid signature"], "wrong", "does not belong"),
        (["EAPI:Invalid nonce"], "clock", "clock"),
        (["EGeneral:Permission denied"], "under-privileged", "Query funds"),
        (["EAuth:Account unconfirmed"], "wrong", "account"),
        (["WGeneral:something", "EGeneral:Temporary lockout"], "down", "wait"),
    ],
)
def test_each_error_has_its_meaning(errors: list[str], state: str, says: str) -> None:
    verdict = rest.key_verdict(Answer(200, _error(*errors)), NOW)
    assert verdict.state == state and says in verdict.said and errors[-1] in verdict.said


def test_a_warning_is_no_error() -> None:
    assert rest.key_verdict(Answer(200, b'{"error":["WGeneral:beware"],"result":{}}'), NOW).state == "accepted"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, _error("EService:Unavailable"), Transient),
        (200, _error("EAPI:Rate limit exceeded"), Transient),
        (520, b"<html>busy</html>", Transient),
        (429, b"", Transient),
        (200, _error("EGeneral:Invalid arguments"), Permanent),
        (403, b"<html>", Permanent),
    ],
)
def test_an_answer_that_says_nothing_of_the_key(status: int, body: bytes, kind: type[SsmdError]) -> None:
    assert rest.key_verdict(Answer(status, body), NOW).state == ("down" if kind is Transient else "wrong")
    assert type(venue.refusal(status, body)) is kind


def test_the_venue_has_no_calendar() -> None:
    assert venue.schedule() is None and venue.closed(b"", 0) is None
