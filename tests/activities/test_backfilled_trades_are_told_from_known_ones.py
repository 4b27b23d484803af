"""Of what the venue tells, exactly what the archive does not have is missing."""

import json
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities import pages
from activities.backfill import HOUR_NS, Known, _dates, _hours, _ns
from exchanges.kalshi import venue
from exchanges.port import Unparsable
from ssmd.errors import Permanent
from ssmd.events import Trade

SECOND = 1_000_000_000


def trade(id_: str | None, price: str = "0.5", size: str = "1", side: str = "buy", ts: int = 0) -> Trade:
    return Trade("A", ts, price, size, side, id_)  # type: ignore[arg-type]


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 7))
def test_with_ids_missing_is_what_the_archive_lacks_however_it_is_paged(here: list[bool], size: int) -> None:
    every = [trade(str(i), ts=i) for i in range(len(here))]
    known = Known(t for t, is_here in zip(every, here, strict=True) if is_here)
    asked = [every[i : i + size] for i in range(0, len(every), size)]
    found = [asked[n][i].trade_id for n, places in enumerate(known.missing(asked)) for i in places]
    assert found == [t.trade_id for t, is_here in zip(every, here, strict=True) if not is_here]
    assert not any(known.missing(asked)), "asked again, they are known"


def test_digits_do_not_make_another_trade() -> None:
    assert Known([trade("1", "0.5000", "1.00")]).missing([[trade("1", "0.5", "1.0")]]) == [[]]
    assert Known([trade("1", "0.5")]).missing([[trade("1", "0.51")]]) == [[]], "its id names it"


def test_a_transaction_of_several_fills_has_as_many_as_the_venue_tells() -> None:
    """Polymarket's ids are of transactions."""
    known = Known([trade("tx", "0.4"), trade("tx", "0.5")])
    asked = [[trade("tx", "0.5"), trade("tx", "0.6"), trade("tx", "0.4"), trade("tx", "0.4")]]
    [places] = known.missing(asked)
    assert Counter(asked[0][i].price for i in places) == {"0.6": 1, "0.4": 1}


def test_what_came_without_an_id_is_known_by_what_it_says() -> None:
    known = Known([trade(None, "0.4"), trade(None, "0.4", side="sell")])
    assert known.missing([[trade("tx1", "0.4"), trade("tx2", "0.4"), trade("tx3", "0.4", side="sell")]]) == [[1]]


def test_what_a_page_repeats_is_one_trade() -> None:
    asked = [[trade("tx", ts=1), trade("tx", ts=1)], [trade("tx", ts=1), trade("ty", ts=1)]]
    assert Known([]).missing(asked) == [[0, 1], [1]]


@given(st.integers(0, 50 * HOUR_NS), st.integers(0, 30 * HOUR_NS))
def test_a_time_is_cut_at_hours_without_a_hole(low: int, length: int) -> None:
    cut = list(_hours(low, low + length))
    assert cut[0][0] == low and cut[-1][1] == low + length
    assert all(b[0] == a[1] + 1 for a, b in pairwise(cut))
    assert all(a // HOUR_NS == b // HOUR_NS for a, b in cut)
    assert len(_dates(low, low + length)) == (low + length) // (24 * HOUR_NS) - low // (24 * HOUR_NS) + 1


def test_a_page_says_the_same_again() -> None:
    body = b"""{"cursor":"","trades":[
      {"trade_id":"a","ticker":"X","count_fp":"1.00","yes_price_dollars":"0.2500","created_time":"2026-11-20T14:00:00Z"},
      {"trade_id":"b","ticker":"X","count_fp":"2.00","yes_price_dollars":"0.2600","created_time":"2026-11-20T14:00:01Z"}]}"""
    start = _ns("start", "2026-11-20T14:00:00Z")
    request = venue.trades("X", start, start + SECOND)
    assert request is not None
    told = venue.trades_page(request, body).trades
    frame = pages.frame(request, 7, [1], body)
    assert pages.trades(venue, frame) == told[1:] and json.loads(frame)["rest"].startswith("GET /markets/trades?")
    for wrong in (frame.replace(b"[1]", b"[2]"), frame.replace(b"trades", b"nothing"), b"{}", b"\xff"):
        with pytest.raises(Unparsable):
            pages.trades(venue, wrong)


@pytest.mark.parametrize("text", ["", "yesterday", "14:00", "2026-13-01T00:00:00Z"])
def test_a_time_that_is_none_is_told(text: str) -> None:
    with pytest.raises(Permanent, match="is no time"):
        _ns("start", text)


def test_times_are_utc_and_exact() -> None:
    assert _ns("end", "2026-11-20T14:00:00.000001Z") == _ns("end", "2026-11-20T14:00:00.000001") == 1795183200000001000
    assert _ns("end", "1795183200000001000") == 1795183200000001000
