"""Where a venue understands many frames at once, they say what each of them says by itself."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from activities import columns
from exchanges.port import Bulk, BulkGrammar, Simulation, Unparsable
from ssmd import tables
from ssmd.config import Precision

from . import venues
from .test_every_venue_conforms import EVERY, followed
from .venues import Known

TABLES = {"Trade": "trades", "Ticker": "tickers", "BookDelta": "book_deltas", "BookSnapshot": "book_snapshots"}


def rows(bulk: Bulk, wires: Sequence[bytes]) -> list[dict[str, Any]]:
    """What the rollup would make of them at once."""
    values, counts = bulk.columns([msgspec.json.decode(wire, type=bulk.frame) for wire in wires])
    schema = tables.schema(TABLES[bulk.event.__name__], Precision(price=8, size=8))
    n = range(len(wires))
    return columns.batch(schema, pa.array(n, pa.int64()), ["c"] * len(wires), n, values, counts, plain=True).to_pylist()


def reference(grammar: BulkGrammar, channel: str, wires: Sequence[bytes], bulk: Bulk) -> list[dict[str, Any]]:
    """What each of them is by itself."""
    schema = tables.schema(TABLES[bulk.event.__name__], Precision(price=8, size=8))
    found = []
    for n, wire in enumerate(wires):
        for item, event in enumerate(grammar(channel, wire)):
            assert type(event) is bulk.event
            values = {name: [getattr(event, name)] for name in event.__struct_fields__} | {"item": [item]}
            found += columns.batch(schema, pa.array([n], pa.int64()), ["c"], [n], values).to_pylist()
    return found


@EVERY
def test_frames_of_a_market_are_understood_at_once(known: Known) -> None:
    grammar = known.venue.events("2026-08-11")
    if not isinstance(grammar, BulkGrammar):
        pytest.skip(f"{known.name} takes its frames one by one")
    talk = followed(known, seconds=10)
    taken = 0
    for channel in set(talk.routes):
        bulk = grammar.bulk(channel)
        wires = [w for c, w in zip(talk.routes, talk.wires, strict=True) if c == channel]
        if bulk is not None:
            assert rows(bulk, wires) == reference(grammar, channel, wires, bulk)
            taken += len(wires)
    assert taken > len(talk.wires) / 2


@EVERY
def test_recorded_frames_say_the_same_at_once(known: Known) -> None:
    """Or, of what is out of the ordinary, nothing at all."""
    for message in known.recorded:
        if not known.path(message.fixture).exists():
            continue
        for record in list(venues.read(known, message))[:2000]:
            grammar = known.venue.events(record.date)
            channel = known.adapter().received(record.wire, record.ts_recv).channel
            bulk = grammar.bulk(channel) if isinstance(grammar, BulkGrammar) and channel[0] != "_" else None
            if bulk is None:
                continue
            assert isinstance(grammar, BulkGrammar)
            try:
                found = rows(bulk, [record.wire])
            except (Unparsable, msgspec.DecodeError, *columns.UNFIT):
                continue
            assert found == reference(grammar, channel, [record.wire], bulk), record.wire


def test_the_market_is_generated_alike() -> None:
    """The control: a bulk that is off by one frame is seen."""
    known = next(k for k in venues.known() if k.name == "kalshi")
    grammar = known.venue.events("2026-08-11")
    assert isinstance(grammar, BulkGrammar)
    bulk = grammar.bulk("orderbook_delta")
    assert bulk is not None
    simulator = known.venue.simulator(Simulation(seed=1, markets=3, frames_per_second=300))
    simulator.generate(venues.NOW_NS)
    made = simulator.generate(venues.NOW_NS + venues.SECOND_NS)
    wires = [record.wire for record in made if record.kind == "orderbook_delta"]
    assert len(wires) > 5 and rows(bulk, wires[1:]) != reference(grammar, "orderbook_delta", wires[:-1], bulk)
