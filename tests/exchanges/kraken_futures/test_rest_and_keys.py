"""Futures REST answers become instruments, trades and verdicts; requests are signed as documented."""

import base64
import hashlib
import hmac
import json
import pickle
from pathlib import Path

import pytest

from exchanges.kraken_futures import rest, signing, venue
from exchanges.kraken_futures.simulator import KrakenFuturesSimulator
from exchanges.port import Answer, Request, Simulation, TradesRequest, Unparsable, Verdict
from ssmd.errors import Permanent, SsmdError, Transient
from ssmd.events import Trade

FIXTURES = Path(__file__).parents[3] / "exchanges" / "kraken_futures" / "fixtures" / "rest"
LISTED = (FIXTURES / "instruments-2021-07.json").read_bytes()
NOW = 1_786_410_915_579_000_000
SECOND = 1_000_000_000
SECRET = base64.b64encode(b"very secret")


def test_what_can_be_traded_is_listed_with_its_ids_as_they_are() -> None:
    (request,) = venue.instruments([])
    assert (request.method, request.path, request.query) == ("GET", "/derivatives/api/v3/instruments", {})
    page = venue.instruments_page(request, LISTED)
    assert len(page.symbols) == 17 and page.next is None  # no index, no reference rate
    assert page.symbols[0] == "pi_xbtusd" and page.records[0]["tickSize"] == 0.5
    (series,) = venue.instruments(["fi"])
    assert len(venue.instruments_page(series, LISTED).symbols) == 12


def test_an_answer_that_is_no_listing_is_unparsable_or_its_error() -> None:
    request = Request("GET", rest.INSTRUMENTS)
    for body in (b"", b"<html>", b"[]", b'{"result":"success"}', b"\xff"):
        with pytest.raises(Unparsable):
            venue.instruments_page(request, body)
    with pytest.raises(Transient, match="apiLimitExceeded"):
        venue.instruments_page(request, b'{"result":"error","error":"apiLimitExceeded"}')


# ------------------------------------------------------------------------------------------------------------ trades


def _ask(simulator: KrakenFuturesSimulator, request: Request) -> Answer:
    query = "&".join(f"{k}={v}" for k, v in request.query.items())
    return simulator.answer(request.method, f"{request.path}?{query}", {}, NOW)


def test_executions_are_paged_by_their_token() -> None:
    simulator = KrakenFuturesSimulator(Simulation(seed=5, markets=1, frames_per_second=1500))
    for step in range(220):
        simulator.generate(NOW + step * SECOND // 4)
    (market,) = simulator.markets.values()
    start, end = (market.trades[i].time_ms * 1_000_000 for i in (10, -20))
    request: TradesRequest | None = rest.trades(market.product, start, end)
    found: list[Trade] = []
    pages = 0
    while request is not None:
        pages += 1
        page = rest.trades_page(request, _ask(simulator, request).body)
        found += page.trades
        request = page.next
    expected = [t for t in market.trades if start <= t.time_ms * 1_000_000 <= end]
    assert pages > 2 and [t.trade_id for t in found] == [t.uid for t in expected]
    assert [t.side for t in found] == [t.side for t in expected]


def test_a_documented_execution_is_read_exactly() -> None:
    execution = {
        "uid": "inner",
        "makerOrder": {"direction": "Buy"},
        "takerOrder": {"direction": "Sell"},
        "timestamp": 1_612_266_317_519,
        "quantity": "0.0113",
        "price": "90771",
    }
    element = {"uid": "outer", "timestamp": 1_612_266_317_520, "event": {"Execution": {"execution": execution}}}
    body = json.dumps({"elements": [element], "len": 1}).encode()
    page = rest.trades_page(rest.trades("PF_XBTUSD", 0, 2 * 10**18), body)
    assert page.trades == [Trade("PF_XBTUSD", 1_612_266_317_519_000_000, "90771", "0.0113", "sell", "inner")]
    assert page.next is None
    with pytest.raises(Unparsable):
        rest.trades_page(rest.trades("PF_XBTUSD", 0, 1), b'{"elements":[{}]}')


def test_there_is_no_fee_schedule_to_be_trusted() -> None:
    assert venue.fees([]) == []


# -------------------------------------------------------------------------------------------------------------- keys


def test_the_signature_leaves_out_the_prefix_of_the_path() -> None:
    text = hashlib.sha256(b"5" + b"/api/v3/accounts").digest()
    expected = base64.b64encode(hmac.new(b"very secret", text, hashlib.sha512).digest()).decode()
    headers = venue.key("K", SECRET).headers("GET", "/derivatives/api/v3/accounts", 5_000_000)
    assert headers == {"APIKey": "K", "Nonce": "5", "Authent": expected}
    data = hashlib.sha256(b"a=1" + b"5" + b"/api/v3/x").digest()
    assert signing.signature(b"very secret", "/derivatives/api/v3/x", "5", "a=1") == (
        base64.b64encode(hmac.new(b"very secret", data, hashlib.sha512).digest()).decode()
    )


def test_a_challenge_is_signed_by_its_hash() -> None:
    challenge = "226aee50-88fc-4618-a42a-34f7709570b2"
    digest = hashlib.sha256(challenge.encode()).digest()
    expected = base64.b64encode(hmac.new(b"very secret", digest, hashlib.sha512).digest()).decode()
    assert signing.Key("K", SECRET).answer(challenge) == expected


def test_a_secret_is_refused_or_hidden() -> None:
    with pytest.raises(Permanent, match="Kraken Futures key K") as refused:
        venue.key("K", b"no base64!")
    assert "no base64!" not in str(refused.value)
    key = venue.key("K", SECRET)
    assert repr(key) == "Key(id='K')"
    with pytest.raises(TypeError):
        pickle.dumps(key)


def _checked(simulator: KrakenFuturesSimulator, key_id: str, secret: bytes, now_ns: int) -> Verdict:
    request = venue.key(key_id, secret).signed(venue.key_check(), now_ns)
    headers = {name.lower(): value for name, value in request.headers.items()}
    return venue.key_verdict(simulator.answer(request.method, request.path, headers, now_ns), now_ns)


def test_the_key_check_finds_what_is_wrong() -> None:
    simulator = KrakenFuturesSimulator(Simulation(key_id="K", public_key=SECRET))
    assert _checked(simulator, "K", SECRET, NOW).state == "accepted"
    again = _checked(simulator, "K", SECRET, NOW)
    assert again.state == "clock" and "another program" in again.said
    earlier = _checked(simulator, "K", SECRET, NOW - SECOND)
    assert earlier.state == "clock" and "clock is behind" in earlier.said
    for key_id, secret in (("other", SECRET), ("K", base64.b64encode(b"other"))):
        wrong = _checked(simulator, key_id, secret, NOW + SECOND)
        assert wrong.state == "wrong" and "spot key" in wrong.said
    assert _checked(simulator, "K", SECRET, NOW + SECOND).state == "accepted"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b'{"result":"error","error":"unavailable"}', Transient),
        (200, b'{"result":"error","error":"invalidArgument"}', Permanent),
        (503, b"<html>busy</html>", Transient),
        (429, b"", Transient),
        (404, b"", Permanent),
    ],
)
def test_an_answer_that_says_nothing_of_the_key(status: int, body: bytes, kind: type[SsmdError]) -> None:
    assert rest.key_verdict(Answer(status, body), NOW).state == ("down" if kind is Transient else "wrong")
    assert type(venue.refusal(status, body)) is kind


def test_the_venue_has_no_calendar() -> None:
    assert venue.schedule() is None and venue.closed(b"", 0) is None
