"""HTTP answers become instruments, trades, fees, verdicts on a key, and errors that say whether to try again."""

import json
from pathlib import Path

import pytest

from exchanges.deribit import rest, venue
from exchanges.port import Answer, Fee, Request, TradesRequest, Unparsable
from ssmd.errors import Permanent, SsmdError, Transient
from ssmd.events import Trade

FIXTURES = Path(__file__).parents[3] / "exchanges" / "deribit" / "fixtures" / "rest"
MS = 1_000_000
SENT_NS = 1_766_335_632_425 * MS
POOR = "under-privileged"


def _ok(result: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "result": result, "usIn": SENT_NS // 1000, "testnet": False}).encode()


def _error(code: int, message: str = "said_so", late_seconds: float = 0.0) -> bytes:
    us_in = SENT_NS // 1000 + int(late_seconds * 1_000_000)
    return json.dumps({"jsonrpc": "2.0", "error": {"code": code, "message": message}, "usIn": us_in}).encode()


# --------------------------------------------------------------------------------------------------- instruments


def test_a_listing_is_one_request_for_each_series_or_one_for_all() -> None:
    assert venue.instruments([]) == [Request("GET", "/public/get_instruments", {"currency": "any", "expired": "false"})]
    assert [r.query for r in venue.instruments(["BTC", "option.ETH", "any.USDC"])] == [
        {"currency": "BTC", "expired": "false"},
        {"currency": "ETH", "expired": "false", "kind": "option"},
        {"currency": "USDC", "expired": "false"},
    ]


@pytest.mark.parametrize(("name", "count"), [("USDC-2022-05", 16), ("BTC-2021-07-excerpt", 6)])
def test_recorded_listings_are_read_whole(name: str, count: int) -> None:
    (request,) = venue.instruments(["any"])
    page = venue.instruments_page(request, (FIXTURES / f"get_instruments-{name}.json").read_bytes())
    assert len(page.symbols) == len(set(page.symbols)) == len(page.records) == count and page.next is None
    assert any(symbol.endswith("-PERPETUAL") for symbol in page.symbols)


def test_instruments_that_are_not_active_are_left_out() -> None:
    body = _ok([{"instrument_name": "A", "is_active": False}, {"instrument_name": "B"}])
    assert venue.instruments_page(venue.instruments([])[0], body).symbols == ["B"]


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"result":3}', _ok([{"kind": "future"}]), b"\xff", b"[" * 9999]
)
def test_an_answer_that_is_no_listing_is_unparsable(body: bytes) -> None:
    with pytest.raises(Unparsable):
        venue.instruments_page(Request("GET", "/public/get_instruments"), body)


def test_fees_are_part_of_the_listing_in_the_venues_digits() -> None:
    page = rest.fees_page(rest.fees(), (FIXTURES / "get_instruments-USDC-2022-05.json").read_bytes())
    assert page.next is None and len(page.fees) == 16
    more = {"block_trade_commission": "0.0001", "max_liquidation_commission": "0.0075"}
    assert Fee("UNI_USDC-PERPETUAL", "0.0", "0.0005", "amount", detail=more) in page.fees
    option = rest.fees_page(rest.fees(), (FIXTURES / "get_instruments-BTC-2021-07-excerpt.json").read_bytes()).fees[0]
    more = {"block_trade_commission": "0.00015"}
    assert option == Fee("BTC-24SEP21-40000-P", "0.0003", "0.0003", "amount", detail=more)


# --------------------------------------------------------------------------------------------------------- trades


def _trade(seq: int, ms: int) -> dict[str, object]:
    return {
        "trade_seq": seq,
        "trade_id": f"t{seq}",
        "timestamp": ms,
        "price": 2968.3,
        "amount": 1.0,
        "direction": "buy",
        "instrument_name": "A",
    }


def test_trades_of_a_window_are_paged_by_number() -> None:
    """Trades 1..2500, four in each millisecond; the window begins and ends inside."""
    every = [_trade(n, 1000 + n // 4) for n in range(1, 2501)]

    def served(request: Request) -> bytes:
        q = request.query
        assert (q["instrument_name"], q["count"], q["sorting"]) == ("A", "1000", "asc")
        found = [
            t
            for t in every
            if int(q.get("start_seq", 0)) <= t["trade_seq"] and int(q.get("start_timestamp", 0)) <= t["timestamp"]
        ]
        if request.path == rest.BY_TIME:
            found = [t for t in found if t["timestamp"] <= int(q["end_timestamp"])]
        return _ok({"trades": found[:1000], "has_more": len(found) > 1000})

    request: TradesRequest | None = rest.trades("A", 1010 * MS, 1500 * MS + 1)
    assert request is not None and request.path == rest.BY_TIME
    got: list[Trade] = []
    pages = 0
    while request is not None:
        page = rest.trades_page(request, served(request))
        got += page.trades
        request = page.next
        pages += 1
    expected = [t["trade_id"] for t in every if 1010 <= t["timestamp"] <= 1501]
    assert [t.trade_id for t in got] == expected and pages == 2
    assert got[0] == Trade("A", 1010 * MS, "2968.3", "1.0", "buy", expected[0])


def test_a_hole_is_filled_by_its_numbers() -> None:
    request = rest.trades_by_seq("A", 8, 2100)
    assert request.target == (
        "/public/get_last_trades_by_instrument?instrument_name=A&start_seq=8&end_seq=2100&count=1000&sorting=asc"
    )
    page = rest.trades_page(request, _ok({"trades": [_trade(n, 1) for n in range(8, 1008)], "has_more": True}))
    assert page.next is not None and page.next.query == {**request.query, "start_seq": "1008"}
    assert rest.trades_page(page.next, _ok({"trades": [], "has_more": False})) == ([], None)


def test_recorded_pages_of_trades_are_read(shared_data: Path) -> None:
    request = rest.trades("ETH-PERPETUAL", 0, 1 << 62)
    folder = shared_data / "deribit/rest/nautilus"
    page = rest.trades_page(request, (folder / "http_get_last_trades.json").read_bytes())
    assert len(page.trades) == 10
    assert page.trades[-1].size == "106.0" and page.trades[-1].trade_id == "ETH-284830854"
    assert page.next is not None and page.next.query["start_seq"] == "203024597"
    for name in ("future_combo", "option_combo", "perpetual_with_combo_tags", "historical_combo"):
        assert rest.trades_page(request, (folder / f"http_get_last_trades_{name}.json").read_bytes()).trades


# ---------------------------------------------------------------------------------------------------------- keys


def test_a_key_is_checked_by_signing_in() -> None:
    request = venue.key("an-id", b"SECRET").signed(venue.key_check(), SENT_NS)
    assert (request.method, request.path) == ("GET", "/public/auth")
    assert request.query["grant_type"] == "client_signature" and request.query["client_id"] == "an-id"
    assert request.query["timestamp"] == str(SENT_NS // MS) and request.query["scope"] == "account:read"
    assert "SECRET" not in str(request)


@pytest.mark.parametrize("scope", ["account:read trade:read connection", "account:read_write", ""])
def test_a_good_key_has_no_verdict(scope: str) -> None:
    verdict = rest.key_verdict(Answer(200, _ok({"access_token": "secret", "scope": scope})), SENT_NS)
    assert verdict.state == "accepted" and verdict.rights == tuple(scope.split()) and "secret" not in str(verdict)


@pytest.mark.parametrize(
    ("status", "body", "state", "said"),
    [
        (200, _ok({"access_token": "secret", "scope": "trade:read"}), POOR, "give it the scope account:read"),
        (400, _error(13004, "invalid_credentials"), "wrong", "check client id and secret"),
        (400, _error(10001, "invalid_credentials"), "wrong", "check client id and secret"),
        (400, _error(13004, "invalid_credentials", 61.5), "clock", "this machine's clock is off by -61.5 s"),
        (400, _error(13004, "invalid_credentials", -61.5), "clock", "this machine's clock is off by +61.5 s"),
        (401, _error(13009, "unauthorized"), "expired", "has expired, was disabled, or may not be used from this add"),
        (401, _error(10000, "authorization_required"), "expired", "has expired"),
        (400, _error(13021, "forbidden"), POOR, "give it the scope account:read"),
        (400, _error(13011, "insufficient_scope"), POOR, "give it the scope account:read"),
    ],
)
def test_each_way_a_key_can_be_bad_has_its_sentence(status: int, body: bytes, state: str, said: str) -> None:
    verdict = rest.key_verdict(Answer(status, body), SENT_NS)
    assert verdict.state == state and said in verdict.said
    assert "secret" not in verdict.said.replace("id and secret", "")


@pytest.mark.parametrize(("status", "body"), [(429, b""), (400, _error(10028)), (503, b"<html>"), (400, _error(11051))])
def test_a_busy_venue_gives_no_verdict(status: int, body: bytes) -> None:
    assert rest.key_verdict(Answer(status, body), SENT_NS).state == "down"


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (400, _error(10028, "too_many_requests"), Transient, "more slowly"),
        (429, b"", Transient, "more slowly"),
        (400, _error(13028, "temporarily_unavailable"), Transient, "try again"),
        (502, b"<html>bad gateway</html>", Transient, "try again"),
        (400, _error(10041, "settlement_in_progress"), Transient, "try again"),
        (401, _error(13009, "unauthorized"), Permanent, "client id and the secret"),
        (400, _error(13021, "forbidden"), Permanent, "scope account:read"),
        (400, _error(-32602, "Invalid params"), Permanent, "error -32602 Invalid params"),
        (404, b"", Permanent, "HTTP 404"),
    ],
)
def test_a_refusal_says_whether_to_try_again(status: int, body: bytes, kind: type[SsmdError], said: str) -> None:
    error = venue.refusal(status, body)
    assert type(error) is kind and said in str(error) and "\n" not in str(error)


def test_there_is_no_calendar() -> None:
    assert venue.schedule() is None and venue.closed(b"", 0) is None
