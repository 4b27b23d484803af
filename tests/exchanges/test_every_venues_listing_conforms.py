"""Every venue's listing becomes instruments: the same few fields, exact, and open means what is subscribed to."""

from decimal import Decimal

import msgspec
import pytest

from exchanges.port import Instrument, Request, Simulation, Simulator, Unparsable
from tests.exchanges import venues
from tests.exchanges.venues import NOW_NS, Known

VENUES = venues.known()
YEAR_2000_NS = 946_684_800_000_000_000


def listed(known: Known, made: Simulator, request: Request | None, now_ns: int) -> tuple[list[str], list[Instrument]]:
    """The symbols and the instruments of all pages."""
    symbols: list[str] = []
    found: list[Instrument] = []
    while request is not None:
        answer = made.answer(request.method, known.target(request), {}, now_ns)
        assert answer.status == 200, answer
        page = known.venue.instruments_page(request, answer.body)
        symbols += page.symbols
        for record in page.records:
            assert msgspec.json.decode(msgspec.json.encode(record)) == record
            assert set(known.venue.listing.lasting(record)) <= set(record)
            found += known.venue.listing.instruments_of(record)
        request = page.next
    return symbols, found


def simulator(known: Known, markets: int = 9) -> Simulator:
    made = known.venue.simulator(Simulation(seed=3, markets=markets, frames_per_second=400))
    made.generate(NOW_NS)
    return made


@pytest.mark.parametrize("known", VENUES, ids=lambda k: k.name)
def test_open_instruments_are_those_that_are_subscribed_to(known: Known) -> None:
    made = simulator(known)
    for request in known.venue.instruments([]):
        symbols, found = listed(known, made, request, NOW_NS)
        assert symbols
        assert sorted(symbols) == sorted(i.symbol for i in found if i.status == "open")
        for one in found:
            assert one.tick_size is not None and Decimal(one.tick_size) > 0, one
            for number in (one.lot_size, one.contract_size):
                assert number is None or Decimal(number) > 0, one
            for time in (one.ts_open, one.ts_close, one.ts_expiry, one.ts_settled):
                assert time is None or time > YEAR_2000_NS, one
            assert one.kind != "other" and (one.base or one.event), one
            assert one.settlement_value is None, one


@pytest.mark.parametrize("known", VENUES, ids=lambda k: k.name)
def test_an_instruments_series_find_it(known: Known) -> None:
    made = simulator(known)
    [request] = known.venue.instruments([])
    _, found = listed(known, made, request, NOW_NS)
    for series in {s for one in found for s in one.series}:
        if known.name == "polymarket":
            continue  # a slug is one market's; the simulator knows no other filters
        [narrow] = known.venue.instruments([series])
        assert {i.symbol for i in listed(known, made, narrow, NOW_NS)[1]} == {
            i.symbol for i in found if series in i.series
        }


@pytest.mark.parametrize("known", VENUES, ids=lambda k: k.name)
def test_what_only_trades_is_no_change(known: Known) -> None:
    """Books and volumes move on; what lasts of the records does not."""
    made = simulator(known)
    [request] = known.venue.instruments([])

    def lasting() -> dict[str, object]:
        answer = made.answer(request.method, known.target(request), {}, NOW_NS)
        records = known.venue.instruments_page(request, answer.body).records
        listing = known.venue.listing
        return {i.symbol: (listing.lasting(r), i) for r in records for i in listing.instruments_of(r)}

    before = lasting()
    for step in range(20):
        made.generate(NOW_NS + step * 100_000_000)
    assert lasting() == before


@pytest.mark.parametrize("known", VENUES, ids=lambda k: k.name)
def test_a_record_that_makes_no_sense_is_told(known: Known) -> None:
    records: list[dict[str, object]] = [{"clobTokenIds": "{"}, {"clobTokenIds": ["1"], "question": 7}]
    if known.name != "polymarket":  # where a market may be listed before it has tokens
        records += [{}, {"symbol": 7}, {"ticker": "A", "status": "unheard-of"}]
    for record in records:
        with pytest.raises(Unparsable):
            known.venue.listing.instruments_of(record)


def test_a_market_of_kalshi_lives_from_creation_to_settlement() -> None:
    [known] = [k for k in VENUES if k.name == "kalshi"]
    made = known.venue.simulator(Simulation(seed=3, markets=2, frames_per_second=200, turnover_seconds=4))
    made.generate(NOW_NS)
    first = known.venue.instruments([])[0]
    [oldest, _] = listed(known, made, first, NOW_NS)[1]
    seen: dict[str, list[str]] = {}
    requests = [first, *known.venue.listing.further([]), *known.venue.listing.named([oldest.symbol])]
    last: Instrument | None = None
    for tenth in range(1, 75):
        now_ns = NOW_NS + tenth * 100_000_000
        made.generate(now_ns)
        for request in requests:
            for one in listed(known, made, request, now_ns)[1]:
                history = seen.setdefault(one.symbol, [])
                if history[-1:] != [one.status]:
                    history.append(one.status)
                last = one if one.symbol == oldest.symbol else last
    assert seen[oldest.symbol] == ["open", "closed", "settled"]
    assert last is not None and last.settlement_value in {"0", "1"}
    assert last.ts_settled is not None and last.ts_close is not None and last.ts_settled > last.ts_close
    assert ["upcoming", "open"] in seen.values()
