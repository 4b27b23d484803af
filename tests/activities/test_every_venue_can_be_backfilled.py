"""For every venue: of the trades that its WebSocket brought some are lost, and exactly those come back by REST."""

from dataclasses import replace
from random import Random
from typing import cast

import pytest

from activities import pages
from activities.backfill import Known
from exchanges.kalshi.simulator import KalshiSimulator
from exchanges.port import TradesRequest
from ssmd.events import Trade
from tests.exchanges.test_every_venue_conforms import EVERY, followed
from tests.exchanges.test_every_venues_rest_conforms import MINUTE_NS, ask, simulator, traded
from tests.exchanges.venues import NOW_NS, SECOND_NS
from tests.exchanges.venues import Known as Venue
from tests.exchanges.venues import known as known_venues


@EVERY
def test_what_was_lost_comes_back_and_nothing_twice(known: Venue) -> None:
    talk = followed(known)
    _, key = simulator(known)
    live = traded(known, talk)
    symbol = max((t.symbol for t in live), key=[t.symbol for t in live].count)
    start, end = NOW_NS + 5 * SECOND_NS, NOW_NS + 20 * SECOND_NS
    inside = [t for t in live if t.symbol == symbol and start + SECOND_NS < (t.ts_event or 0) < end - SECOND_NS]
    lost = Random(3).sample(inside, len(inside) // 3)
    assert len(lost) > 2
    kept = [t for t in live if t not in lost]
    archived = Known(kept)
    request: TradesRequest | None = known.venue.trades(symbol, start, end)
    told: list[tuple[TradesRequest, bytes, list[Trade]]] = []
    asked = 0
    while request is not None:
        asked += 1
        body = ask(known, talk.simulator, request, key, talk.now_ns + asked * MINUTE_NS).body
        page = known.venue.trades_page(request, body)
        told.append((request, body, page.trades))
        request = page.next
    news = archived.missing([trades for _, _, trades in told])
    frames = [
        pages.frame(replace(request, headers={}), 1, new, body)
        for (request, body, _), new in zip(told, news, strict=True)
        if new
    ]
    back = [trade for frame in frames for trade in pages.trades(known.venue, frame)]
    assert sorted(str(t.trade_id) for t in back) == sorted(str(t.trade_id) for t in lost)
    assert not any(archived.missing([trades for _, _, trades in told])), "the second time there is nothing"


@pytest.mark.parametrize(
    ("passed", "step"),
    [(5, 0), (12, 0), (25, 0), (3, 10)],
    ids=["not passed", "half", "wholly", "passed while it is asked"],
)
def test_at_kalshi_none_is_lost_to_the_cutoff(passed: int, step: int) -> None:
    """Of trades from second 5 to 20; the cutoff is at second `passed`, and `step` later with each request."""
    [kalshi] = [known for known in known_venues() if known.name == "kalshi"]
    talk = followed(kalshi)
    _, key = simulator(kalshi)
    start, end = NOW_NS + 5 * SECOND_NS, NOW_NS + 20 * SECOND_NS
    inside = {t.trade_id for t in traded(kalshi, talk) if start <= (t.ts_event or 0) <= end}
    made = cast(KalshiSimulator, talk.simulator)
    moment = talk.now_ns + MINUTE_NS
    made.live_ns = moment - (NOW_NS + passed * SECOND_NS)  # so long that the first request finds it there
    request: TradesRequest | None = kalshi.venue.trades("", start, end)
    found: list[str | None] = []
    asked = []
    while request is not None:
        body = ask(kalshi, made, request, key, moment).body
        page = kalshi.venue.trades_page(request, body)
        asked.append((request.path, len(page.trades)))
        found += [t.trade_id for t in page.trades]
        request, moment = page.next, moment + step * SECOND_NS
    assert len(inside) > 10 and set(found) == inside
    told = dict(asked)
    assert asked[0][0] == "/markets/trades" and told["/historical/cutoff"] == 0
    assert ("/historical/trades" in told) == (passed + step > 5)
    if passed == 12:
        assert told["/markets/trades"] and told["/historical/trades"], "the control: either alone is not all of it"
    if passed == 25:
        assert (told["/markets/trades"], told["/historical/trades"]) == (0, len(inside))


@EVERY
def test_a_venue_says_whether_it_tells_of_all_at_once(known: Venue) -> None:
    assert (known.venue.trades("", NOW_NS, NOW_NS) is not None) == (known.name == "kalshi")
    if known.name == "kalshi":
        request = known.venue.trades("", NOW_NS, NOW_NS)
        assert request is not None and "ticker" not in request.query
