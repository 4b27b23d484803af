"""What the venue really sent: each frame has its place and meaning, chains hold, books do not cross, shapes agree."""

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from exchanges.deribit import venue
from exchanges.deribit.adapter import DeribitAdapter
from exchanges.deribit.messages import place
from exchanges.deribit.simulator import DeribitSimulator
from exchanges.port import Record, Simulation, Subscription
from ssmd import frames
from ssmd.events import BookSnapshot, Ticker, Trade
from tests.exchanges.deribit.books import Books

FIXTURES = Path(__file__).parents[3] / "exchanges" / "deribit" / "fixtures" / "ws"
CAPTURE = FIXTURES / "cryptofeed-2021-07.ws.gz"
MIXED = FIXTURES / "crypto-msg-parser-2021-to-2023.jsonl"
NOW = 1_786_410_915_579_000_000
SECOND = 1_000_000_000
EVENTS = venue.events("2026-11-20")


def _lines() -> list[bytes]:
    return [line for line in gzip.decompress(CAPTURE.read_bytes()).splitlines() if line.strip()]


def _capture() -> Iterator[tuple[int, bytes]]:
    """Time in ns and frame, as they were received."""
    for line in _lines():
        head, _, wire = line.strip().partition(b": ")
        if b"<" not in head:
            yield int(Decimal(head.decode()) * SECOND), wire


def test_the_capture_has_its_places_its_chains_and_its_answer() -> None:
    subscription = Subscription(
        ("book.{instrument_name}.raw", "trades.{instrument_name}.raw", "ticker.{instrument_name}.raw"), ()
    )
    adapter = DeribitAdapter(subscription)
    channels: Counter[str] = Counter()
    for ts, wire in _capture():
        told = adapter.received(wire, ts)
        assert (told.bad, told.owed, told.notices) == (None, (), ())
        channels[told.channel] += 1
    assert channels == {"control": 1, "book": 46, "ticker": 89}


@pytest.mark.parametrize("lost", range(11, 46, 5))
def test_a_change_taken_out_of_the_capture_breaks_its_book_alone(lost: int) -> None:
    """Unless it was the book's last one."""
    books = [wire for _, wire in _capture() if b'"channel":"book.' in wire]
    names = tuple({json.loads(wire)["params"]["data"]["instrument_name"] for wire in books})
    adapter = DeribitAdapter(Subscription(("book.{instrument_name}.raw",), names))
    adapter.opened()
    name = json.loads(books[lost])["params"]["data"]["instrument_name"]
    later = any(json.loads(wire)["params"]["data"]["instrument_name"] == name for wire in books[lost + 1 :])
    notices = [n for k, wire in enumerate(books) if k != lost for n in adapter.received(wire, 0).notices]
    assert [(n.kind, n.symbols) for n in notices] == ([("break", (name,))] if later else [])


def test_books_built_from_the_capture_never_cross_and_tickers_agree_with_them() -> None:
    """A raw ticker and its book's change leave at the same moment, in either order."""
    books = Books()
    told: dict[str, list[tuple[str, tuple[Decimal | None, Decimal | None]]]] = {}
    for _, wire in _capture():
        where = place(json.loads(wire)["params"]["channel"]) if b'"method"' in wire else None
        if where is None:
            continue
        assert where.symbol is not None
        events = EVENTS(where.channel, wire)
        books.take(events)
        assert books.crossed() == []
        for event in events:
            if isinstance(event, Ticker):
                bid, ask = (None if p is None else Decimal(p) for p in (event.bid, event.ask))
                told.setdefault(where.symbol, []).append(("ticker", (bid, ask)))
        if where.channel == "book":
            told.setdefault(where.symbol, []).append(("book", books.best(where.symbol)))
    compared = 0
    for steps in told.values():
        for k, (kind, quoted) in enumerate(steps):
            if kind == "ticker":
                before = [best for what, best in steps[:k] if what == "book"][-2:]
                after = [best for what, best in steps[k:] if what == "book"][:2]
                assert quoted in before + after
                compared += 1
    assert compared == 89


def test_messages_of_every_kind_are_understood() -> None:
    adapter = DeribitAdapter(Subscription((), ()))
    kinds: Counter[str] = Counter()
    for wire in MIXED.read_bytes().splitlines():
        told = adapter.received(wire, 0)
        assert told.bad is None and told.notices == ()
        events = EVENTS(told.channel, wire)
        kinds[told.channel] += 1
        for event in events:
            assert event.symbol == told.symbol and event.ts_event is not None
            if isinstance(event, BookSnapshot):
                assert event.bids[0] == max(event.bids, key=lambda level: Decimal(level[0]))
                assert Decimal(event.bids[0][0]) < Decimal(event.asks[0][0])
            if isinstance(event, Trade):
                assert event.side == "buy" and Decimal(event.price) > 0
    assert kinds == {
        "trades": 3,
        "book": 5,
        "book_grouped": 3,
        "quote": 2,
        "chart_trades": 3,
        "ticker": 3,
        "control": 7,  # answers by REST in the same form
    }


@pytest.mark.parametrize(
    ("name", "channel", "count"),
    [
        ("ticker_BTC-27NOV26-88000-C.json", "ticker", 1),
        ("trades_option_BTC.json", "trades", 1),
        ("ws_quote.json", "quote", 1),
        ("ws_test_request.json", "control", 0),
        ("ws_ticker.json", "ticker", 1),
        ("ws_trades.json", "trades", 2),
        ("ws_trades_option_combo.json", "trades", 1),
        ("subscribe_ack.json", "control", 0),
    ],
)
def test_single_frames_of_2025_and_2026(shared_data: Path, name: str, channel: str, count: int) -> None:
    wire = (shared_data / "deribit/ws" / name).read_bytes().strip()
    told = DeribitAdapter(Subscription((), ())).received(wire, 0)
    assert (told.channel, told.bad) == (channel, None)
    assert len(EVENTS(channel, wire)) == count
    assert bool(told.owed) == (name == "ws_test_request.json")
    line = frames.parse(frames.message(1, b"c", 1, wire))
    assert list(EVENTS(channel, line.wire())) == list(EVENTS(channel, wire))


# ----------------------------------------------------------------------------------------------------- replaying


def _tape() -> tuple[DeribitSimulator, list[Record]]:
    simulator = DeribitSimulator(Simulation())
    found = [record for line in _lines() if (record := simulator.record(line)) is not None]
    contents = {(r.channel, r.symbol) for r in found}
    simulator.load(contents, found[0].ts_ns, found[-1].ts_ns)
    return simulator, found


def test_the_capture_is_replayed_byte_for_byte_under_the_clients_channel() -> None:
    simulator, found = _tape()
    recorded = [(ts, wire) for ts, wire in _capture() if b'"method"' in wire]
    assert [r.ts_ns for r in found] == [ts for ts, _ in recorded] and len(found) == 135
    connection = simulator.connect()
    names = sorted({str(r.symbol) for r in found})
    channels = [f"{kind}.{name}.100ms" for kind in ("book", "ticker") for name in names]
    call = {"jsonrpc": "2.0", "id": 1, "method": "public/subscribe", "params": {"channels": channels}}
    (answer,) = connection.received(json.dumps(call).encode(), NOW)  # no snapshots: the recorded ones will come
    assert sorted(json.loads(answer)["result"]) == sorted(channels)
    assert connection.covers({(r.channel, r.symbol) for r in found})
    for record, (_, wire) in zip(found, recorded, strict=True):
        simulator.apply(record)
        assert list(connection.market(record)) == [wire.replace(b'.raw","data"', b'.100ms","data"')]


@pytest.mark.parametrize("joined_at", [0, 40, 70, 134])
def test_who_joins_a_replay_late_has_the_same_books_in_the_end(joined_at: int) -> None:
    simulator, found = _tape()
    names = tuple(sorted({str(r.symbol) for r in found}))
    adapter = DeribitAdapter(Subscription(("book.{instrument_name}.100ms", "ticker.{instrument_name}.100ms"), names))
    connection = simulator.connect()
    books, reference = Books(), Books()

    def deliver(wires: Any) -> None:
        for wire in wires:
            told = adapter.received(wire, NOW)
            assert told.bad is None and told.notices == ()
            books.take(EVENTS(told.channel, wire))

    for k, record in enumerate(found):
        if k == joined_at:
            for text in adapter.opened():
                deliver(connection.received(text, NOW))
        simulator.apply(record)
        reference.take(EVENTS(record.channel, record.wire))
        deliver(connection.market(record))
    assert books.sides == reference.sides and len(books.sides) == 10


# -------------------------------------------------------------------------------------------------------- shapes


def _shape(value: object) -> object:
    """Keys and types, all the way down; lists by their first entry."""
    if isinstance(value, dict):
        return {key: _shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        flat = bool(value) and not isinstance(value[0], dict | list)
        return " ".join(str(_shape(inner)) for inner in value) if flat else [_shape(inner) for inner in value[:1]]
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def _made_up() -> dict[tuple[str, str], dict[str, Any]]:
    """One frame of the simulator's for each channel and kind of instrument, whose lists and fields are filled."""
    simulator = DeribitSimulator(Simulation(seed=1, markets=12, frames_per_second=2000))
    simulator.generate(NOW)
    connection = simulator.connect()
    channels = ["trades.any.any.100ms", "instrument.state.any.any", "instrument.creation.any.any", "platform_state"]
    for name in simulator.exchange.instruments:
        channels += [f"book.{name}.100ms", f"book.{name}.none.20.100ms", f"ticker.{name}.100ms", f"quote.{name}"]
        channels += [f"incremental_ticker.{name}", f"perpetual.{name}.100ms", f"chart.trades.{name}.1"]
    channels += ["deribit_price_index.btc_usd", "markprice.options.btc_usd", "deribit_volatility_index.btc_usd"]
    channels += ["estimated_expiration_price.btc_usd"]
    call = {"jsonrpc": "2.0", "id": 1, "method": "public/subscribe", "params": {"channels": channels}}
    wires = list(connection.received(json.dumps(call).encode(), NOW))
    for step in range(1, 700):
        for record in simulator.generate(NOW + step * SECOND // 10):
            wires += connection.market(record)
    made: dict[tuple[str, str], dict[str, Any]] = {}
    for wire in wires[1:]:
        frame = json.loads(wire)
        where = place(frame["params"]["channel"])
        assert where is not None
        data = frame["params"]["data"]
        first = data[0] if isinstance(data, list) else data
        instrument = simulator.exchange.instruments.get(first.get("instrument_name", ""))
        kind = "" if instrument is None else instrument.kind.kind
        kind = "perpetual" if instrument is not None and instrument.name.endswith("-PERPETUAL") else kind
        what = f"{where.channel}/{first['type']}" if "type" in first else where.channel
        filled = all(value not in ([], None) for value in first.values())
        if filled and "liquidation" not in first and "combo_id" not in first:
            made.setdefault((what, kind), frame)
    return made


@pytest.fixture(scope="module")
def made_up() -> dict[tuple[str, str], dict[str, Any]]:
    return _made_up()


# Keys that the venue has added since the recording was made: exactly these, in the newer recordings named beside.
LATER: dict[str, set[str]] = {
    "trades": {"contracts"},  # ws_trades.json, 2025
    "ticker": {"interest_value", "volume_notional", "volume_usd"},  # ws_ticker.json, 2025; ticker_BTC-27NOV26…, 2026
}


def _differences(recorded: Any, simulated: Any, path: str = "") -> set[str]:
    """Keys that are missing (-) or more (+), and types that differ; of null and empty lists nothing can be said."""
    if isinstance(recorded, dict) and isinstance(simulated, dict):
        found = {f"-{path}.{k}" for k in recorded.keys() - simulated.keys()}
        found |= {f"+{path}.{k}" for k in simulated.keys() - recorded.keys()}
        for key in recorded.keys() & simulated.keys():
            found |= _differences(recorded[key], simulated[key], f"{path}.{key}")
        return found
    if isinstance(recorded, list) and isinstance(simulated, list):
        return _differences(recorded[0], simulated[0], f"{path}[]") if recorded and simulated else set()
    same = recorded == simulated or "NoneType" in (recorded, simulated)
    return set() if same else {f"{path}: {recorded} or {simulated}"}


def _kind(name: str) -> str:
    from exchanges.deribit.markets import kind_of

    kind = kind_of(name)
    assert kind is not None
    return "perpetual" if name.endswith("-PERPETUAL") else kind.kind


def _compare(frame: dict[str, Any], made_up: dict[tuple[str, str], dict[str, Any]]) -> set[str]:
    where = place(frame["params"]["channel"])
    assert where is not None
    data = frame["params"]["data"]
    first = data[0] if isinstance(data, list) else data
    what = f"{where.channel}/{first['type']}" if "type" in first else where.channel
    if what == "chart_trades":
        simulated = next(f for (w, _), f in made_up.items() if w == what)
    else:
        simulated = made_up[what, _kind(first["instrument_name"])]
    assert frame.keys() == simulated.keys() and frame["params"].keys() == simulated["params"].keys()
    return _differences(_shape(frame), _shape(simulated))


def test_frames_of_the_simulator_have_the_recorded_shapes(made_up: dict[tuple[str, str], dict[str, Any]]) -> None:
    """By the free recordings: nothing is missing, and what is more is what later recordings have."""
    compared = 0
    for wire in [*MIXED.read_bytes().splitlines(), *(wire for _, wire in _capture())]:
        frame = json.loads(wire)
        if "params" not in frame:
            continue
        where = place(frame["params"]["channel"])
        assert where is not None
        later = {d.rsplit(".", 1)[1] for d in _compare(frame, made_up) if d.startswith("+")}
        other = {d for d in _compare(frame, made_up) if not d.startswith("+")}
        assert not other and later <= LATER.get(where.channel, set()), (other, later, frame)
        compared += 1
    assert compared > 150


@pytest.mark.parametrize(
    "name",
    ["ws_quote", "ws_ticker", "ws_trades", "ws_trades_option_combo", "ticker_BTC-27NOV26-88000-C", "trades_option_BTC"],
)
def test_frames_of_the_simulator_have_the_newest_shapes(
    shared_data: Path, name: str, made_up: dict[tuple[str, str], dict[str, Any]]
) -> None:
    """By frames of 2025 and 2026: the same keys exactly; the newer engine's own marks are not simulated."""
    frame = json.loads((shared_data / f"deribit/ws/{name}.json").read_text())
    rare = {"starbase_match_id", "starbase_timestamp", "combo_trade_id"}
    assert {d for d in _compare(frame, made_up) if d.rsplit(".", 1)[1] not in rare} == set()


def test_answers_of_the_simulator_have_the_recorded_shapes(shared_data: Path) -> None:
    recorded = json.loads((shared_data / "deribit/ws/subscribe_ack.json").read_text())
    connection = DeribitSimulator(Simulation()).connect()
    call = {"jsonrpc": "2.0", "id": 1, "method": "public/subscribe", "params": {"channels": ["platform_state"]}}
    (answer,) = connection.received(json.dumps(call).encode(), NOW)
    assert _differences(_shape(recorded), _shape(json.loads(answer))) == set()
    beat = json.loads((shared_data / "deribit/ws/ws_test_request.json").read_text())
    call = {"jsonrpc": "2.0", "id": 2, "method": "public/set_heartbeat", "params": {"interval": 10}}
    connection.received(json.dumps(call).encode(), NOW)
    assert beat in [json.loads(wire) for wire in connection.due(NOW + 12 * SECOND)]
