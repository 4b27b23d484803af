"""The venues as the conformance tests see them: what is known of their messages, recorded frames, a book of events."""

import gzip
import importlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import yaml

from exchanges.port import (
    Adapter,
    Notice,
    Number,
    Record,
    Request,
    Simulation,
    Simulator,
    Subscription,
    Unparsable,
    Venue,
)
from ssmd.events import BookDelta, BookSnapshot, Event

ROOT = Path(__file__).resolve().parents[2]
RECORDINGS = ROOT.parent / "shared/data"
SECOND_NS = 1_000_000_000
NOW_NS = 1_786_410_915_579_000_000  # 2026-08-11T01:15:15Z
OWN = {"control"}


class Message(NamedTuple):
    """One row of evidence.yaml."""

    channel: str
    variant: str
    role: str
    evidence: str
    source: str
    fixture: str
    date: str
    keys: str  # those that no recording holds, with commas between


@dataclass
class Known:
    """A venue's package, and what is known of its messages."""

    name: str
    messages: list[Message]

    @property
    def venue(self) -> Venue:
        found: Venue = importlib.import_module(f"exchanges.{self.name}").venue
        return found

    def target(self, request: Request) -> str:
        """A request's path and query, as the connector would ask its REST endpoint."""
        endpoint = self.feeds[0]["versions"][-1]["endpoints"]["production"]["rest"]
        query = "&".join(f"{name}={value}" for name, value in request.query.items())
        return urlsplit(endpoint).path.rstrip("/") + request.path + (f"?{query}" if query else "")

    def path(self, fixture: str) -> Path:
        inside = fixture.removeprefix("recordings/")
        return RECORDINGS / inside if inside != fixture else ROOT / "exchanges" / self.name / "fixtures" / fixture

    @property
    def recorded(self) -> list[Message]:
        """One row per file of frames that the venue sent."""
        found = {m.fixture: m for m in self.messages if m.role == "server" and m.evidence == "recorded" and m.fixture}
        return list(found.values())

    @property
    def unseen_keys(self) -> set[str]:
        """Keys that the venue is known to send, but that no recording holds."""
        return {key.strip() for m in self.messages for key in m.keys.split(",")}

    @property
    def feeds(self) -> list[dict[str, Any]]:
        """The YAML of its feeds."""
        every = (yaml.safe_load(path.read_text()) for path in sorted((ROOT / "exchanges/feeds").glob("*.yaml")))
        return [feed for feed in every if feed["venue"] == self.name]

    def adapter(
        self, channels: Sequence[str] = (), symbols: Sequence[str] = (), numbers: Mapping[str, Number] | None = None
    ) -> Adapter:
        return self.venue.adapter(Subscription(tuple(channels), tuple(symbols), numbers=numbers or {}))


def known() -> list[Known]:
    """Every venue that says what it rests on."""
    found = []
    for path in sorted((ROOT / "exchanges").glob("*/evidence.yaml")):
        rows = yaml.safe_load(path.read_text())
        messages = [Message(*(str(row.get(name) or "") for name in Message._fields)) for row in rows]
        found.append(Known(path.parent.name, messages))
    return found


class Wire(NamedTuple):
    """A recorded frame; ts_recv in ns."""

    ts_recv: int
    wire: bytes

    @property
    def date(self) -> str:
        return datetime.fromtimestamp(self.ts_recv / SECOND_NS, UTC).strftime("%Y-%m-%d")


def read(venue: Known, message: Message) -> Iterator[Wire]:
    """The frames of a recording, in whichever form it keeps them: as the venue's simulator reads it, or bare."""
    path = venue.path(message.fixture)
    simulator = venue.venue.simulator(Simulation())
    bare_ns = NOW_NS
    if message.date:
        bare_ns = int(datetime.fromisoformat(message.date).replace(tzinfo=UTC).timestamp()) * SECOND_NS
    if path.suffix == ".json":  # one frame, made readable
        yield Wire(bare_ns, json.dumps(json.loads(path.read_bytes()), separators=(",", ":")).encode())
        return
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        for line in file:
            text = line.strip()
            if not text:
                continue
            try:
                record = simulator.record(text)
            except Unparsable:
                yield Wire(bare_ns, text)
                continue
            if record is not None:
                yield Wire(bare_ns if message.date else record.ts_ns, record.wire)


# --------------------------------------------------------------------------------------------------- conversation


@dataclass
class Talk:
    """A client's adapter and a simulated connection, with nothing between them."""

    known: Known
    simulator: Simulator
    adapter: Adapter
    now_ns: int = NOW_NS
    wires: list[bytes] = field(default_factory=list)
    routes: list[str] = field(default_factory=list)
    symbols: list[str | None] = field(default_factory=list)
    bad: list[tuple[str, bytes]] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    records: Sequence[Record] = ()  # of the market, at the last tick

    def __post_init__(self) -> None:
        self.connection = self.simulator.connect()
        self.send(self.adapter.opened())

    def send(self, texts: Iterable[bytes]) -> None:
        for text in texts:
            self.deliver(self.connection.received(text, self.now_ns))

    def deliver(self, wires: Iterable[bytes]) -> None:
        for wire in wires:
            told = self.adapter.received(wire, self.now_ns)
            self.wires.append(wire)
            self.routes.append(told.channel)
            self.symbols.append(told.symbol)
            self.notices += told.notices
            if told.bad is not None:
                self.bad.append((told.bad, wire))
            self.send(told.owed)
            self._ask(getattr(told, "asks", ()))

    def _ask(self, requests: Iterable[Request]) -> None:
        """REST that the adapter wants comes back as a frame, as the connector does it."""
        for request in requests:
            target = self.known.target(request)
            answer = self.simulator.answer(request.method, target, {}, self.now_ns)
            head = json.dumps({"rest": f"{request.method} {target}", "status": answer.status}, separators=(",", ":"))
            self.deliver([head[:-1].encode() + b',"body":' + answer.body + b"}"])

    def tick(self, seconds: float) -> None:
        """Time goes by; what the generated market did meanwhile arrives."""
        self.records = self.simulator.generate(self.now_ns + int(seconds * SECOND_NS))
        self.pass_time(seconds, self.records)

    def pass_time(self, seconds: float, records: Sequence[Record]) -> None:
        """Time goes by, and this arrives."""
        self.now_ns += int(seconds * SECOND_NS)
        for record in records:
            self.market(record)
        due = self.adapter.tick(self.now_ns)
        if due is not None:
            self.notices += due.notices
            self.send(due.owed)
            self._ask(getattr(due, "asks", ()))
        self.connection.heartbeat(self.now_ns)

    def market(self, record: Record) -> None:
        self.deliver(self.connection.market(record))


# ----------------------------------------------------------------------------------------------------------- books


class Books:
    """Order books made of events; levels by price."""

    def __init__(self) -> None:
        self.sides: dict[str, dict[str, dict[Decimal, Decimal]]] = {}

    def apply(self, event: Event) -> None:
        if isinstance(event, BookSnapshot):
            self.sides[event.symbol] = {
                "bid": {Decimal(p): Decimal(s) for p, s in event.bids},
                "ask": {Decimal(p): Decimal(s) for p, s in event.asks},
            }
        elif isinstance(event, BookDelta) and event.symbol in self.sides:
            side, price = self.sides[event.symbol][event.side], Decimal(event.price)
            size = (
                Decimal(event.size)
                if event.size is not None
                else side.get(price, Decimal()) + Decimal(event.change or 0)
            )
            if size:
                side[price] = size
            else:
                side.pop(price, None)

    def top(self, symbol: str) -> tuple[Decimal | None, Decimal | None]:
        sides = self.sides.get(symbol, {"bid": {}, "ask": {}})
        return max(sides["bid"], default=None), min(sides["ask"], default=None)

    def crossed(self, symbol: str) -> bool:
        bid, ask = self.top(symbol)
        return bid is not None and ask is not None and bid > ask

    def negative(self, symbol: str) -> bool:
        return any(size < 0 for side in self.sides.get(symbol, {}).values() for size in side.values())


# ---------------------------------------------------------------------------------------------------------- shapes

Shape = frozenset[tuple[str, str]]
_KINDS = ("type", "event_type", "e", "event", "method")


def shape(value: Any, path: str = "") -> set[tuple[str, str]]:
    """Every path in a JSON value with its type; the elements of a list share one path."""
    if isinstance(value, dict):
        return {(path, "object")}.union(*(shape(v, f"{path}.{k}") for k, v in value.items()))
    if isinstance(value, list):
        return {(path, "list")}.union(*(shape(v, f"{path}[]") for v in value))
    kind = {str: "string", bool: "bool", int: "number", float: "number", type(None): "null"}[type(value)]
    return {(path, kind)}


def kind_of(channel: str, frame: Any) -> str:
    """Channel and the frame's own word for what it is, wherever it has one."""
    found: list[str] = []

    def look(value: Any, depth: int) -> None:
        if isinstance(value, list) and value:
            look(value[0], depth)
        elif isinstance(value, dict):
            found.extend(str(value[name]) for name in _KINDS if isinstance(value.get(name), str))
            if depth < 2:
                for inner in value.values():
                    if isinstance(inner, (dict, list)):
                        look(inner, depth + 1)

    look(frame, 0)
    return "/".join([channel, *found[:2]])
