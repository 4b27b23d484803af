"""REST answers become instruments, pages, and errors that say whether to try again."""

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import msgspec
import pytest

from exchanges.kalshi import rest, venue
from exchanges.port import Answer, Request, TradesPage, Unparsable
from ssmd.errors import Permanent, Transient

FIXTURES = Path(__file__).parents[3] / "exchanges" / "kalshi" / "fixtures" / "rest"


class _Recorded(msgspec.Struct):
    response: msgspec.Raw


def _body(name: str) -> bytes:
    return bytes(msgspec.json.decode((FIXTURES / name).read_bytes(), type=_Recorded).response)


def test_listing_asks_for_open_markets_and_never_for_combinations() -> None:
    (everything,) = venue.instruments([])
    assert everything == Request("GET", "/markets", {"limit": "1000", "status": "open", "mve_filter": "exclude"})
    assert [r.query["series_ticker"] for r in venue.instruments(["KXBTCD", "KXETHD"])] == ["KXBTCD", "KXETHD"]


def test_pages_follow_the_cursor_until_it_is_empty() -> None:
    (request,) = venue.instruments([])
    page = venue.instruments_page(request, _body("markets.json"))
    assert len(page.symbols) == len(page.records) == 5
    assert all(symbol.startswith("KXMVE") for symbol in page.symbols)
    assert page.next is not None
    assert page.next.query["cursor"].startswith("CgwIyeGVywYQ") and page.next.query["mve_filter"] == "exclude"
    assert venue.instruments_page(request, b'{"markets":[],"cursor":""}').next is None


def test_status_events_and_trades_are_read() -> None:
    assert rest.exchange_status_answer(_body("exchange_status.json")) == rest.ExchangeStatus(True, True, None)
    records, more = rest.events_page(rest.events(), _body("events.json"))
    assert records[0]["event_ticker"] == "KXELONMARS-99" and more is not None
    trades = venue.trades_page(rest.trades("KXELONMARS-99", 0, 1 << 62), _body("trades.json"))
    assert trades.trades[0].trade_id == "961535f3-d80f-5462-e91d-88d4fe6db285"
    assert trades.trades[0].symbol == "KXELONMARS-99" and trades.trades[0].side in {"buy", "sell"}
    assert trades.next is not None and trades.next.query["ticker"] == "KXELONMARS-99"
    assert venue.trades_page(rest.trades("KXELONMARS-99", 0, 1), _body("trades.json")).trades == []


def test_trades_that_are_older_than_the_cutoff_are_asked_of_history() -> None:
    """The cutoff is asked for after the live pages: it moves, and what it passes must be on one side or the other."""
    asked = rest.trades("A", 100_000_000_000, 200_000_000_000)
    last = b'{"trades":[],"cursor":""}'
    assert venue.trades_page(asked, b'{"trades":[],"cursor":"c"}').next == replace(
        asked, query={**asked.query, "cursor": "c"}
    )
    cutoff = venue.trades_page(asked, last).next
    assert cutoff == replace(asked, path="/historical/cutoff", query={})
    assert cutoff is not None

    def older(trades_created: str) -> TradesPage:
        names = ("market_settled_ts", "orders_updated_ts")
        said = {**dict.fromkeys(names, "1970-01-01T00:00:00Z"), "trades_created_ts": trades_created}
        return venue.trades_page(cutoff, json.dumps(said).encode())

    for none in ("1970-01-01T00:00:00Z", "1970-01-01T00:01:40Z", "1970-01-01T02:01:40+02:00"):
        assert older(none) == TradesPage([], None)
    for some in ("1970-01-01T00:01:40.000001Z", "1970-01-01T00:02:00Z", "2026-06-30T00:00:00Z"):
        assert older(some) == TradesPage([], replace(asked, path="/historical/trades"))
    history = older("2026-06-30T00:00:00Z").next
    assert history is not None and venue.trades_page(history, last).next is None
    recorded = rest.trades("KXELONMARS-99", 0, 1 << 62)
    page = venue.trades_page(replace(recorded, path="/historical/trades"), _body("trades.json"))
    assert page.trades == venue.trades_page(recorded, _body("trades.json")).trades
    assert page.next is not None and page.next.path == "/historical/trades" and page.next.query["cursor"]


@pytest.mark.parametrize("body", [b"{}", b'{"trades_created_ts":"soon"}', b"<html>"])
def test_a_cutoff_that_is_none_is_unparsable(body: bytes) -> None:
    with pytest.raises(Unparsable):
        venue.trades_page(replace(rest.trades("A", 0, 1), path="/historical/cutoff", query={}), body)


def test_markets_by_name_are_asked_of_history_too() -> None:
    query = {"limit": "1000", "tickers": "A,B"}
    asked = venue.listing.named(["A", "B"])
    assert asked == [Request("GET", "/markets", query), Request("GET", "/historical/markets", query)]


def test_fees_are_those_of_series_with_their_multiplier() -> None:
    series, changes = venue.fees([])
    body = (
        b'{"series":[{"ticker":"A","fee_type":"quadratic","fee_multiplier":0.5},'
        b'{"ticker":"B","fee_type":"quadratic_with_maker_fees","fee_multiplier":1},{"ticker":"C","fee_type":"flat"}]}'
    )
    fees = venue.fees_page(series, body).fees
    assert [(f.symbol, f.maker, f.taker, f.basis, f.of) for f in fees] == [
        ("A", "0", "0.035", "p(1-p)", "series"),
        ("B", "0.0175", "0.07", "p(1-p)", "series"),
        ("C", None, None, "p(1-p)", "series"),
    ]
    body = (
        b'{"series_fee_change_arr":[{"id":"x","series_ticker":"A","fee_type":"quadratic","fee_multiplier":2,'
        b'"scheduled_ts":"2026-09-01T00:00:00Z"}]}'
    )
    (fee,) = venue.fees_page(changes, body).fees
    assert (fee.symbol, fee.taker, fee.since_ns) == ("A", "0.14", 1_788_220_800_000_000_000)


@pytest.mark.parametrize(
    ("status", "body", "state", "says"),
    [
        (200, b'{"api_keys":[{"api_key_id":"a","scopes":["read","write"]}]}', "accepted", "knows"),
        (200, b'{"api_keys":[{"api_key_id":"a","scopes":["write"]}]}', "under-privileged", "scope `read`"),
        (200, b"<html>", "down", "documents"),
        (401, b'{"error":{"code":"header_timestamp_expired"}}', "clock", "clock"),
        (401, b'{"error":{"code":"authentication_error","details":"NOT_FOUND"}}', "wrong", "NOT_FOUND"),
        (403, b"", "under-privileged", "permission"),
        (503, b"", "down", "maintenance"),
    ],
)
def test_each_fault_of_a_key_has_its_name(status: int, body: bytes, state: str, says: str) -> None:
    verdict = venue.key_verdict(Answer(status, body), 0, "a")
    assert verdict.state == state and says in verdict.said


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"markets":3}', b'{"markets":[{"title":"no ticker"}]}', b"\xff"]
)
def test_an_answer_that_is_no_listing_is_unparsable(body: bytes) -> None:
    with pytest.raises(Unparsable):
        venue.instruments_page(Request("GET", "/markets"), body)


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (401, b'{"error":{"code":"header_timestamp_expired","message":"x"}}', Transient, "clock"),
        (
            401,
            b'{"error":{"code":"authentication_error","message":"m","details":"INCORRECT_API_KEY_SIGNATURE"}}',
            Permanent,
            "INCORRECT_API_KEY_SIGNATURE",
        ),
        (401, b'{"error":{"code":"authentication_error","details":"NOT_FOUND"}}', Permanent, "NOT_FOUND"),
        (403, b'{"code":"forbidden","message":"no"}', Permanent, "scope"),
        (404, b'{"msg":"nothing here"}', Permanent, "nothing here"),
        (429, b'{"error":"too many requests"}', Transient, "too many requests"),
        (503, b"<html>busy</html>", Transient, "maintenance"),
        (400, b'{"error":{"code":"user_not_found:_1234"}}', Permanent, "user_not_found"),
    ],
)
def test_a_refusal_says_whether_to_try_again(status: int, body: bytes, kind: type[Exception], says: str) -> None:
    error = venue.refusal(status, body)
    assert type(error) is kind and says in str(error) and str(status) in str(error)


def test_planned_closures_are_known_from_the_calendar() -> None:
    """Thursday 03:00 to 05:00 in New York is maintenance; the hours are those of January 2026."""
    allday = [{"open_time": "00:00", "close_time": "00:00"}]
    days = dict.fromkeys(("monday", "tuesday", "wednesday", "friday", "saturday", "sunday"), allday)
    thursday = [{"open_time": "00:00", "close_time": "03:00"}, {"open_time": "05:00", "close_time": "00:00"}]
    hours = {"start_time": "2024-12-01T00:00:00Z", "end_time": "2200-12-01T00:00:00Z", "thursday": thursday, **days}
    window = {"start_datetime": "2026-01-17T01:00:00Z", "end_datetime": "2026-01-17T02:00:00Z"}
    body = json.dumps({"schedule": {"standard_hours": [hours], "maintenance_windows": [window]}}).encode()

    def why(when: str) -> str | None:
        return rest.closed(body, int(datetime.fromisoformat(when).timestamp()) * 10**9)

    assert why("2026-01-15T07:59:59+00:00") is None  # 02:59:59 in New York
    assert "trading hours of a Thursday (03:00" in str(why("2026-01-15T08:00:00+00:00"))
    assert "(04:59" in str(why("2026-01-15T09:59:59+00:00"))
    assert why("2026-01-15T10:00:00+00:00") is None
    assert why("2026-01-16T08:30:00+00:00") is None
    assert "maintenance from 2026-01-17T01:00" in str(why("2026-01-17T01:30:00+00:00"))
    with pytest.raises(Unparsable):
        rest.closed(b"{}", 0)
