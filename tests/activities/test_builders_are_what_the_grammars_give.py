"""`ssmd data builders` says what becomes of each channel; recorded frames become exactly that and nothing else."""

from collections import defaultdict
from datetime import date

import pytest

from activities import builders, replay
from exchanges import port
from exchanges.kalshi import events as kalshi
from ssmd import frames, tables
from ssmd.errors import Permanent
from ssmd.events import BookDelta, BookSnapshot, Event, Trade
from tests.exchanges import venues

FRAMES_MAX = 5_000
NOT_RECORDED = {"binance_usdm_market"}
DAY = date(2026, 11, 20)


@pytest.mark.parametrize("known", venues.known(), ids=lambda k: k.name)
def test_recorded_frames_become_what_is_told(known: venues.Known) -> None:
    seen: dict[str, set[type[Event]]] = defaultdict(set)
    for message in known.recorded:
        if not known.path(message.fixture).exists():
            continue  # it may not be copied, and is not here
        adapter = known.adapter()
        adapter.opened()
        for i, wire in enumerate(venues.read(known, message)):
            if i == FRAMES_MAX:
                break
            route = adapter.received(wire.wire, wire.ts_recv)
            if route.bad is None:
                grammar = known.venue.events(wire.date)
                found = {type(event) for event in grammar(route.channel, wire.wire)}
                channels = grammar.channels()
                family = f"{route.channel.partition('_')[0]}_<interval>"
                told = channels[route.channel if route.channel in channels else family]
                assert found <= set(told), (route.channel, wire.wire[:200])
                seen[route.channel] |= found
    assert any(seen.values()) or known.name in NOT_RECORDED


@pytest.mark.parametrize("known", venues.known(), ids=lambda k: k.name)
def test_a_channel_that_is_understood_in_bulk_becomes_that_too(known: venues.Known) -> None:
    grammar = known.venue.events(DAY.isoformat())
    assert isinstance(grammar, port.BulkGrammar)
    for channel, kinds in grammar.channels().items():
        bulk = grammar.bulk(channel)
        assert bulk is None or bulk.event in kinds, channel


def test_a_type_that_is_not_named_would_be_found() -> None:
    """What the test above compares with is read from the parsers' own types."""

    def either(wire: bytes) -> "list[BookSnapshot | BookDelta]":
        return []

    assert port.kinds(either) == (BookSnapshot, BookDelta)
    assert port.kinds(kalshi._trade_in_dollars) == (Trade,)
    assert port.kinds(kalshi._nothing) == ()


def test_builders_name_tables_and_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {b.channel: b for b in builders.builders("kalshi", DAY)}
    assert found["trade"].tables == ("trades",)
    assert found["orderbook_delta"].tables == ("book_deltas",)
    assert found[frames.GAP].tables == ("gaps",) and found[frames.SESSION].tables == ("sessions",)
    assert found[frames.CONTROL].tables == ()
    assert {table for b in found.values() for table in b.tables} == set(tables.TABLES)
    assert {b.code.split()[1] for b in found.values()} == {replay.software("kalshi")}
    with pytest.raises(Permanent, match="there is no feed 'nyse'"):
        builders.builders("nyse", DAY)
