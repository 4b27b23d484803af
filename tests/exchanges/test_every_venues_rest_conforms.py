"""Every venue's REST grammar against its own simulator: trades are those of its WebSocket, keys good or bad."""

import base64
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from exchanges.port import Answer, Key, Request, Simulation, Simulator, TradesRequest, Verdict
from ssmd.events import Trade

from . import venues
from .test_every_venue_conforms import EVERY, events_of, followed
from .venues import SECOND_NS, Known, Talk

MINUTE_NS = 60 * SECOND_NS
ID = "k" * 32
BASE64 = base64.b64encode(b"very secret").decode()


def credentials(known: Known) -> tuple[bytes, bytes]:
    """A secret, and what a simulator knows it by."""
    if known.name == "kalshi":
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return pem, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if known.name == "polymarket":
        secret = json.dumps({"address": "0x1", "secret": BASE64, "passphrase": "p"}).encode()
        return secret, secret
    if known.name.startswith("kraken"):
        return BASE64.encode(), BASE64.encode()
    return b"secretsecret", b"secretsecret"


def simulator(known: Known, secrets: tuple[bytes, bytes] | None = None) -> tuple[Simulator, Key]:
    secret, public = secrets or credentials(known)
    binance = known.name.startswith("binance")
    made = known.venue.simulator(Simulation(ID, None if binance else public, 11, 6, 300.0))
    if binance:
        made.hmac_secret = secret  # type: ignore[attr-defined]
    return made, known.venue.key(ID, secret)


def ask(known: Known, made: Simulator, request: Request, key: Key, now_ns: int) -> Answer:
    sent = key.signed(request, now_ns) if request.signed else request
    target = known.target(sent).partition("?")[0] + "?" + sent.target.partition("?")[2]
    headers = {name.lower(): value for name, value in sent.headers.items()}
    return made.answer(sent.method, target.rstrip("?"), headers, now_ns, sent.body)


def traded(known: Known, talk: Talk) -> list[Trade]:
    return [event for event in events_of(known, talk) if isinstance(event, Trade)]


def fact(trade: Trade) -> tuple[object, ...]:
    """What a trade says, in numbers: digits may be written otherwise by REST."""
    return trade.trade_id, trade.side, float(trade.price), float(trade.size)


@EVERY
def test_trades_by_rest_are_those_of_the_websocket(known: Known) -> None:
    talk = followed(known)
    _, key = simulator(known)
    live = traded(known, talk)
    symbol = Counter(t.symbol for t in live).most_common(1)[0][0]
    first, last = venues.NOW_NS + 5 * SECOND_NS, venues.NOW_NS + 20 * SECOND_NS
    found: list[Trade] = []
    request: TradesRequest | None = known.venue.trades(symbol, first, last)
    pages = 0
    while request is not None:
        assert (request.symbol, request.start_ns, request.end_ns) == (symbol, first, last)
        pages += 1
        answer = ask(known, talk.simulator, request, key, talk.now_ns + pages * MINUTE_NS)
        assert answer.status == 200, answer
        again = replace(request, headers={})
        page = known.venue.trades_page(request, answer.body)
        assert page == known.venue.trades_page(again, answer.body)
        found += page.trades
        request = page.next
    coarse = SECOND_NS if known.name == "polymarket" else 1_000_000  # how exact the times are
    sure = {fact(t) for t in live if t.symbol == symbol and first + coarse <= (t.ts_event or 0) <= last - coarse}
    possible = {fact(t) for t in live if t.symbol == symbol}
    assert len(sure) > 5
    assert sure <= {fact(t) for t in found} <= possible
    assert {t.symbol for t in found} == {symbol}
    assert all(first - coarse <= (t.ts_event or 0) <= last + coarse for t in found)


@EVERY
def test_fees_are_told_or_known_not_to_be(known: Known) -> None:
    made, key = simulator(known)
    made.generate(venues.NOW_NS)
    (listing, *_) = known.venue.instruments([])
    symbols = known.venue.instruments_page(listing, ask(known, made, listing, key, venues.NOW_NS).body).symbols
    fees = []
    for request in known.venue.fees(symbols[:2]):
        answer = ask(known, made, request, key, venues.NOW_NS)
        assert answer.status == 200, answer
        page = known.venue.fees_page(request, answer.body)
        fees += page.fees
    if known.name == "kraken_futures":
        assert not fees
        return
    told = {fee.symbol for fee in fees}
    assert all(s in told or any(s.startswith(f"{series}-") for series in told) for s in symbols[:2])
    for fee in fees:
        assert all(text is None or -1 < float(text) < 1 for text in (fee.maker, fee.taker))


def verdict(known: Known, made: Simulator, key: Key, *, skew_ns: int = 0, now_ns: int = venues.NOW_NS) -> Verdict:
    sent_ns = now_ns + skew_ns
    sent = key.signed(known.venue.key_check(), sent_ns)
    target = known.target(sent).partition("?")[0] + "?" + sent.target.partition("?")[2]
    headers = {name.lower(): value for name, value in sent.headers.items()}
    answer = made.answer(sent.method, target.rstrip("?"), headers, now_ns, sent.body)
    dated = replace(answer, headers={**answer.headers, "date": "Tue, 11 Aug 2026 01:15:15 GMT"})
    return known.venue.key_verdict(dated, sent_ns, key.id)


@EVERY
def test_a_good_key_is_told_from_bad_ones(known: Known) -> None:
    secret, public = credentials(known)
    made, key = simulator(known, (secret, public))
    assert verdict(known, made, key).state == "accepted"
    other, _ = credentials(known)
    if known.name == "polymarket":
        other = other.replace(b'"p"', b'"q"')
    elif known.name != "kalshi":
        other = base64.b64encode(b"other") if known.name.startswith("kraken") else b"other"
    later = venues.NOW_NS + 500_000_000
    for wrong in (known.venue.key(ID, other), known.venue.key("x" * 32, secret)):
        told = verdict(known, made, wrong, now_ns=later)
        assert told.state == "wrong", told
        assert other.decode() not in told.said and BASE64 not in told.said
    assert verdict(known, made, key, now_ns=later + 400_000_000).state == "accepted"


@EVERY
def test_a_clock_that_is_off_is_no_wrong_key(known: Known) -> None:
    made, key = simulator(known)
    assert verdict(known, made, key).state == "accepted"  # so that nonces have a past
    assert verdict(known, made, key, skew_ns=-2 * MINUTE_NS).state == "clock"


@EVERY
def test_a_key_that_may_not_read_is_told_where_the_venue_tells_it(known: Known) -> None:
    made, key = simulator(known)
    poor: dict[str, Callable[[], object]] = {
        "kalshi": lambda: setattr(made, "scopes", ["write"]),
        "deribit": lambda: setattr(made, "scope", "trade:read"),
    }
    if known.name not in poor:
        pytest.skip(f"{known.name} answers a key that may not read like a wrong one, or its simulator has no rights")
    poor[known.name]()
    assert verdict(known, made, key).state == "under-privileged"


@EVERY
def test_a_venue_that_is_down_says_nothing_of_the_key(known: Known) -> None:
    for status, body in ((503, b"<html>"), (429, b""), (500, b"{}")):
        assert known.venue.key_verdict(Answer(status, body), venues.NOW_NS, ID).state == "down"
