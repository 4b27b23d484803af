"""Where a venue understands many frames at once, they say what each of them says by itself."""

import random
import re
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

PRECISION = Precision(price=12, size=12, digits=38)
TABLES = {"Trade": "trades", "Ticker": "tickers", "BookDelta": "book_deltas", "BookSnapshot": "book_snapshots"}


def rows(bulk: Bulk, wires: Sequence[bytes]) -> list[dict[str, Any]]:
    """What the rollup would make of them at once."""
    values, counts = bulk.columns([msgspec.json.decode(wire, type=bulk.frame) for wire in wires])
    schema = tables.schema(TABLES[bulk.event.__name__], PRECISION)
    n = range(len(wires))
    return columns.batch(schema, pa.array(n, pa.int64()), ["c"] * len(wires), n, values, counts, plain=True).to_pylist()


def reference(grammar: BulkGrammar, channel: str, wires: Sequence[bytes], bulk: Bulk) -> list[dict[str, Any]]:
    """What each of them is by itself."""
    schema = tables.schema(TABLES[bulk.event.__name__], PRECISION)
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
        if bulk is not None:
            every = [w for c, w in zip(talk.routes, talk.wires, strict=True) if c == channel]
            wires = [w for w in every if {type(event) for event in grammar(channel, w)} <= {bulk.event}]
            assert len(wires) > 0.9 * len(every), "hardly any frame is out of the ordinary"
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


ODD = (
    *(
        b"1e-5",
        b"-1",
        b"1.",
        b".5",
        b"01",
        b"+1",
        b"1E3",
        b"null",
        b'"1.5"',
        b'""',
        b'"-1.50"',
        b'"1e2"',
        b'"x"',
        b"true",
    ),
    *(b"0", b'"0"', b'"0.000"', b"-0.0", b"[]", b"{}", b'"2026-08-11 01:00:00Z"', b'"2026-08-11T01:00:00.1234567Z"'),
    *(b'"2026-08-11T010000.000000Z"', b'"buy"', b'"BUY"', b'"change"', b'"snapshot"', b"99999999999999999999", b"1.5"),
)
VALUE = re.compile(rb'(?<=[:\[,])("[^"]*"|-?[0-9][0-9.eE+-]*|true|false|null)(?=[,\]}])')


def mutated(wire: bytes, rng: random.Random) -> bytes:
    """A frame with one of its values replaced, one of its bytes changed, or its end cut off."""
    values = list(VALUE.finditer(wire))
    way = rng.random()
    if values and way < 0.8:
        value = rng.choice(values)
        return wire[: value.start()] + rng.choice(ODD) + wire[value.end() :]
    at = rng.randrange(len(wire))
    return wire[:at] + bytes([rng.randrange(32, 127)]) + wire[at + 1 :] if way < 0.95 else wire[:at]


@EVERY
def test_frames_with_something_odd_are_refused_or_say_the_same(known: Known) -> None:
    """`rows` of a frame may fail, and it is taken by itself then; what they give is what it says by itself."""
    grammar = known.venue.events("2026-08-11")
    if not isinstance(grammar, BulkGrammar):
        pytest.skip(f"{known.name} takes its frames one by one")
    talk, rng = followed(known, seconds=3), random.Random(8)
    frames: dict[str, list[bytes]] = {}
    for channel, wire in zip(talk.routes, talk.wires, strict=True):
        frames.setdefault(channel, []).append(wire)
    same = 0
    for channel, wires in frames.items():
        bulk = grammar.bulk(channel)
        for _ in range(600 if bulk is not None else 0):
            assert bulk is not None
            wire = mutated(rng.choice(wires), rng)
            try:
                found = rows(bulk, [wire])
            except (Unparsable, msgspec.DecodeError, UnicodeDecodeError, KeyError, *columns.UNFIT):
                continue
            assert found == reference(grammar, channel, [wire], bulk), wire
            same += 1
    assert same > 100


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
