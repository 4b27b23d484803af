"""Kraken's spot side of the conversation: subscriptions, checksums, heartbeats, errors, REST; from a tape or made up.

What is simulated and where it comes from is written beside it; where the venue's behaviour is not known, the
simulator does what gives the client the least help.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, cast
from urllib.parse import parse_qsl

import msgspec

from exchanges.kraken import signing
from exchanges.kraken.digits import rfc3339
from exchanges.kraken.generator import Booked, Generator, Happening, Listed, Quoted, Traded
from exchanges.kraken.markets import Bar, Change, Level, Market, Trade, frame
from exchanges.kraken.messages import CHANNELS, DEPTHS, HEARTBEAT, INTERVALS, STATUS, TRIGGERS
from exchanges.kraken.recording import Other, Played, Recording, Snapshot, Trades, Update
from exchanges.port import Answer, Record, Simulation

WS_PATH = "/v2"
TAPE_LEVELS = 1000  # recordings were made at this depth: below it nothing is known
TRADES_PER_PAGE_MAX = 1000
BARS_MAX = 720
IDLE_NS = 60_000_000_000  # without a frame from the client; counted as strictly as the documentation can be read
HEARTBEAT_NS = 1_000_000_000
COMMANDS_PER_SECOND_MAX = 50  # the venue's own number moves and is not published
ATTEMPTS_MAX, ATTEMPTS_NS = 150, 600_000_000_000  # at connections
CALLS_MAX, CALLS_PER_SECOND = 15.0, 1.0  # of public REST: a burst, then one a second
TOKEN_SECONDS = 900

_SECOND_NS = 1_000_000_000
_encode = msgspec.json.Encoder().encode
_decode_any = msgspec.json.Decoder().decode

# ------------------------------------------------------------------------------------------------------- records


class BookDetail(NamedTuple):
    """Of a book: what stands or changes, and the frame that subscribers of each depth get (made by `apply`)."""

    bids: list[Level]
    asks: list[Level]
    changes: list[Change]
    timestamp: str
    wires: dict[int, bytes]


class TradeDetail(NamedTuple):
    trades: list[Trade]


class TickerDetail(NamedTuple):
    triggers: frozenset[str]


class BarDetail(NamedTuple):
    interval: int


Detail = BookDetail | TradeDetail | TickerDetail | BarDetail | None


class KrakenSimulator:
    """One simulated exchange; many connections."""

    ws_path = WS_PATH

    def __init__(self, simulation: Simulation) -> None:
        self.markets: dict[str, Market] = {}
        self.depths: set[int] = set()  # that anybody has subscribed to
        self.intervals: set[int] = set()
        self.now_ns = 0  # the latest time that anything happened
        self._recording = Recording()
        self._recorded = False
        self.verbatim = simulation.recorded is not None
        self.recorded_depth = _depth(simulation.recorded or ())
        self._simulation = simulation
        self._generator: Generator | None = None
        self._connections = 0
        self._attempts: deque[int] = deque()  # at a connection, of the last minutes
        self._calls = CALLS_MAX
        self._called_ns = 0
        self._nonces: dict[str, int] = {}
        self.system = "online"

    # ------------------------------------------------------------------------------------------- what happens

    def record(self, line: bytes) -> Record | None:
        played = self._recording.read(line)
        return None if played is None else self._recorded_as(played)

    def archived(self, ts_ns: int, wire: bytes) -> Record | None:
        played = self._recording.archived(ts_ns, wire)
        return None if played is None else self._recorded_as(played)

    def _recorded_as(self, played: Played) -> Record:
        ts_ns, kind, wire, content = played
        detail: Detail
        match content:
            case Snapshot(symbol, timestamp, bids, asks):
                channel, detail = "book", BookDetail(bids, asks, [], timestamp, {})
            case Update(symbol, timestamp, changes):
                channel, detail = "book", BookDetail([], [], changes, timestamp, {})
            case Trades(symbol, trades):
                channel, detail = "trade", TradeDetail(trades)
            case Other(channel, symbol):
                detail = TickerDetail(frozenset(TRIGGERS)) if channel == "ticker" else None
        return Record(ts_ns, kind, channel, symbol, wire, detail)

    def load(self, contents: Iterable[tuple[str, str | None]], first_ns: int, last_ns: int) -> None:
        self.markets = {}
        for _, symbol in sorted(contents, key=str):
            if symbol is not None and symbol not in self.markets:
                self.markets[symbol] = Market(symbol, levels_max=self.recorded_depth or TAPE_LEVELS, known=False)
        self._recording.begin()
        self._recorded = True
        self.now_ns = first_ns

    def apply(self, record: Record) -> None:
        self.now_ns = max(self.now_ns, record.ts_ns)
        market = self.markets.get(record.symbol or "")
        if market is None:
            return
        detail = cast(Detail, record.detail)
        if isinstance(detail, TradeDetail):
            for trade in detail.trades:
                market.add(trade, self.intervals)
        elif isinstance(detail, BookDetail):
            self._book(market, record.kind, detail)

    def _book(self, market: Market, kind: str, detail: BookDetail) -> None:
        if kind == "snapshot":
            market.book.set(detail.bids, detail.asks)
            for depth in self.depths:
                detail.wires[depth] = market.snapshot(depth, detail.timestamp)
            return
        for depth, told in market.book.change(detail.changes, self.depths).items():
            if told:
                bids, asks = ([c[1:] for c in told if c.side == side] for side in ("bids", "asks"))
                detail.wires[depth] = frame("book", "update", [market.book_entry(bids, asks, detail.timestamp)])

    def generate(self, now_ns: int) -> Sequence[Record]:
        if self._generator is None:
            simulation = self._simulation
            self._generator = Generator(
                simulation.seed, simulation.markets, simulation.frames_per_second, now_ns, self.markets
            )
        self.now_ns = max(self.now_ns, now_ns)
        happened = []
        for ts_ns, happening in self._generator.until(now_ns):
            for record in self._told(ts_ns, happening):
                self.apply(record)
                happened.append(record)
            if isinstance(happening, Traded):
                happened += self._bars(ts_ns, happening.market)
        return happened

    def _told(self, ts_ns: int, happening: Happening) -> list[Record]:
        """The records of a happening, not applied yet."""
        market = happening.market
        symbol = market.symbol
        match happening:
            case Booked(_, changes):
                detail = BookDetail([], [], changes, rfc3339(ts_ns), {})
                return [Record(ts_ns, "update", "book", symbol, b"", detail)]
            case Traded(_, trades):
                wire = frame("trade", "update", [market.trade_entry(t) for t in trades])
                return [Record(ts_ns, "update", "trade", symbol, wire, TradeDetail(trades))]
            case Quoted(_, triggers):
                wire = frame("ticker", "update", [market.ticker_entry(ts_ns)])
                return [Record(ts_ns, "update", "ticker", symbol, wire, TickerDetail(triggers))]
            case Listed():
                return [Record(ts_ns, "update", "instrument", None, instruments("update", [market]))]

    def _bars(self, ts_ns: int, market: Market) -> list[Record]:
        return [
            Record(ts_ns, "update", "ohlc", market.symbol, frame("ohlc", "update", [entry]), BarDetail(interval))
            for interval in sorted(self.intervals)
            for entry in [market.bar_entry(interval, ts_ns)]
        ]

    def connect(self) -> "KrakenConnection":
        self._connections += 1
        return KrakenConnection(self, 10_000_000_000_000_000_000 + self._connections)

    def listed(self) -> list[Market]:
        return [market for market in self.markets.values() if market.status != "delisted"]

    # ----------------------------------------------------------------------------------------------------- REST

    def refuses(self, method: str, path: str, headers: Mapping[str, str], now_ns: int) -> Answer | None:
        """Public WebSockets are open to everybody who does not try too often: then the wall before them closes, for as
        long as one goes on."""
        while self._attempts and now_ns - self._attempts[0] >= ATTEMPTS_NS:
            self._attempts.popleft()
        self._attempts.append(now_ns)
        return Answer(429, b"error code: 1015") if len(self._attempts) > ATTEMPTS_MAX else None

    def answer(self, method: str, target: str, headers: Mapping[str, str], now_ns: int, body: bytes = b"") -> Answer:
        """`body` is of a POST. What is wrong comes with HTTP 200, too."""
        path, _, query = target.partition("?")
        try:
            q = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=100))
            if path.startswith("/0/private/"):
                return self._private(method, path, headers, body)
            if not path.startswith("/0/public/"):
                return _error("EGeneral:Unknown method", 404)
            if not self._may_call(now_ns):
                return _error("EGeneral:Too many requests")
            return self._public(path.removeprefix("/0/public/"), q, now_ns)
        except (ValueError, KeyError) as e:
            return _error(f"EGeneral:Invalid arguments:{e}")

    def _may_call(self, now_ns: int) -> bool:
        passed = max(0, now_ns - (self._called_ns or now_ns)) / _SECOND_NS
        self._calls = min(CALLS_MAX, self._calls + passed * CALLS_PER_SECOND)
        self._called_ns = now_ns
        if self._calls < 1:
            return False
        self._calls -= 1
        return True

    def _public(self, name: str, query: dict[str, str], now_ns: int) -> Answer:
        match name:
            case "AssetPairs":
                pairs = self.listed() if "pair" not in query else [self._market(p) for p in query["pair"].split(",")]
                return _ok({market.names[0]: market.asset_pair() for market in pairs})
            case "Assets":
                return _ok({str(m.asset_pair()["base"]): _asset(m) for m in self.listed()})
            case "SystemStatus":
                return _ok({"status": self.system, "timestamp": rfc3339(now_ns)[:19] + "Z"})
            case "Time":
                return _ok({"unixtime": now_ns // _SECOND_NS, "rfc1123": ""})
            case "Trades":
                return self._trades(query)
            case "Depth":
                market = self._market(query["pair"])
                count = int(query.get("count", 100))
                sides = {
                    side: [[price, size, now_ns // _SECOND_NS] for price, size in market.book.sides[side].best(count)]
                    for side in ("asks", "bids")
                }
                return _ok({market.names[0]: sides})
            case "OHLC":
                return self._bars_of(query)
        return _error("EGeneral:Unknown method")

    def _market(self, name: str) -> Market:
        for market in self.markets.values():
            if name in {*market.names, market.symbol}:
                return market
        raise KeyError("unknown pair")

    def _trades(self, query: dict[str, str]) -> Answer:
        """After the id `since` (ns), oldest first; without it the newest ones. `last` is the id to go on from."""
        try:
            market = self._market(query["pair"])
        except KeyError:
            return _error("EQuery:Unknown asset pair")
        count = min(int(query.get("count", TRADES_PER_PAGE_MAX)), TRADES_PER_PAGE_MAX)
        since = int(query.get("since", 0))
        page = [t for t in market.trades if t.ts_ns > since]
        page = page[:count] if "since" in query else page[-count:]
        rows = [[t.price, t.size, t.ts_ns / 1e9, t.side[0], t.order_type[0], "", t.number] for t in page]
        last = str(page[-1].ts_ns) if page else str(since)
        return _ok({market.names[0]: rows, "last": last})

    def _bars_of(self, query: dict[str, str]) -> Answer:
        """The newest 720 bars, whatever `since`; the last one is not finished."""
        market = self._market(query["pair"])
        minutes = int(query.get("interval", 1))
        if minutes not in INTERVALS:
            return _error("EGeneral:Invalid arguments:interval")
        length = minutes * 60 * _SECOND_NS
        bars: dict[int, Bar] = {}
        for trade in market.trades:
            begin = trade.ts_ns // length * length
            bars.setdefault(begin, Bar(begin, trade.price)).add(trade)
        rows = [
            [b.begin_ns // _SECOND_NS, b.open, b.high, b.low, b.close, market.average(b), f"{b.volume:f}", b.trades]
            for b in list(bars.values())[-BARS_MAX:]
        ]
        last = rows[-2][0] if len(rows) > 1 else 0
        return _ok({market.names[0]: rows, "last": last})

    def _private(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Signed as the venue wants it; the simulation's public key is the shared secret in base64."""
        key_id, secret = self._simulation.key_id, self._simulation.public_key
        form = dict(parse_qsl(body.decode()))
        nonce = form.get("nonce", "")
        if method != "POST" or not nonce.isdigit():
            return _error("EAPI:Invalid nonce")
        given = headers.get(signing.KEY_HEADER.lower(), "")
        if not given or (key_id is not None and given != key_id):
            return _error("EAPI:Invalid key")
        if secret is not None:
            expected = signing.signature(signing.decoded(given, secret, "Kraken"), path, nonce, body)
            if headers.get(signing.SIGNATURE_HEADER.lower()) != expected:
                return _error("EAPI:Invalid signature")
        if int(nonce) <= self._nonces.get(given, -1):
            return _error("EAPI:Invalid nonce")
        self._nonces[given] = int(nonce)
        match path.removeprefix("/0/private/"):
            case "Balance":
                return _ok({"ZUSD": "1000.0000"})
            case "GetWebSocketsToken":
                return _ok({"token": "simulated", "expires": TOKEN_SECONDS})
        return _error("EGeneral:Unknown method")


def _depth(channels: Iterable[str]) -> int:
    """The depth of the books of an archived day; 0 if it has none."""
    depths = (name.removeprefix("book.") for name in channels if name.startswith("book"))
    return max((int(depth) if depth.isdigit() else DEPTHS[0] for depth in depths), default=0)


def _asset(market: Market) -> dict[str, object]:
    return {"aclass": "currency", "altname": market.base, "decimals": 10, "display_decimals": 5, "status": "enabled"}


def _ok(result: object) -> Answer:
    return Answer(200, _encode({"error": [], "result": result}))


def _error(text: str, status: int = 200) -> Answer:
    return Answer(status, _encode({"error": [text]}))


def instruments(kind: str, markets: Sequence[Market]) -> bytes:
    """Its `data` is an object, unlike all others."""
    names = dict.fromkeys(name for market in markets for name in (market.base, market.quote))
    assets = [
        {
            "id": name,
            "status": "enabled",
            "precision": 10,
            "precision_display": 5,
            "borrowable": False,
            "collateral_value": 0.0,
        }
        for name in names
    ]
    pairs = [market.pair() for market in markets]
    return _encode({"channel": "instrument", "type": kind, "data": {"assets": assets, "pairs": pairs}})


# ------------------------------------------------------------------------------------------------------ connection


class _Refused(Exception):
    """A command that fails, for all of its symbols."""


class KrakenConnection:
    """The server's grammar on one connection."""

    def __init__(self, simulator: KrakenSimulator, connection_id: int) -> None:
        self._simulator = simulator
        self._id = connection_id
        self._subscriptions: dict[str, dict[str | None, int | str]] = {}  # channel -> symbol -> its parameter
        self._greeted = False
        self._spoke = False  # since the last look
        self._quiet_ns = 0
        self._heard_ns = 0
        self._commands: list[int] = []  # times of late
        self._ended: tuple[int, str] | None = None

    @property
    def subscriptions(self) -> int:
        return sum(len(symbols) for symbols in self._subscriptions.values())

    @property
    def ended(self) -> tuple[int, str] | None:
        return self._ended

    # ------------------------------------------------------------------------------------------- market data

    def market(self, record: Record) -> Sequence[bytes]:
        subscribed = self._subscriptions.get(record.channel)
        if subscribed is None or record.symbol not in subscribed:
            return ()
        parameter = subscribed[record.symbol]
        wire: bytes | None = record.wire
        match cast(Detail, record.detail):
            case BookDetail(wires=wires) if not self._simulator.verbatim:
                wire = wires.get(int(parameter))
            case TickerDetail(triggers) if parameter not in triggers:
                wire = None
            case BarDetail(interval) if parameter != interval:
                wire = None
        if wire is None:
            return ()
        self._spoke = True
        return (wire,)

    def covers(self, contents: Iterable[tuple[str, str | None]]) -> bool:
        return all(symbol in self._subscriptions.get(channel, ()) for channel, symbol in contents)

    def overflow(self) -> Sequence[bytes]:
        """What the venue says to a client that reads too slowly is not known: it hangs up."""
        self._ended = (1006, "the client reads too slowly")
        return ()

    def heartbeat(self, now_ns: int) -> bytes | None:
        """The venue is not known to send WebSocket pings."""
        return None

    def due(self, now_ns: int) -> Sequence[bytes]:
        """The greeting; a heartbeat for each second without another frame, once there is a subscription."""
        if not self._greeted:
            return self._greeting(now_ns)
        if now_ns - self._heard_ns > IDLE_NS:
            self._ended = (1000, "no activity for a minute")
        if self._spoke or not self.subscriptions:
            self._spoke = False
            self._quiet_ns = now_ns
        elif now_ns - self._quiet_ns >= HEARTBEAT_NS:
            self._quiet_ns = now_ns
            return (HEARTBEAT,)
        return ()

    def _greeting(self, now_ns: int) -> list[bytes]:
        self._greeted = True
        self._heard_ns = self._quiet_ns = now_ns
        system: dict[str, object] = {
            "version": "2.0.10",
            "system": self._simulator.system,
            "api_version": "v2",
            "connection_id": self._id,
        }
        return [_encode({"channel": STATUS, "type": "update", "data": [system]})]

    # ----------------------------------------------------------------------------------------------- commands

    def received(self, wire: bytes, now_ns: int) -> Sequence[bytes]:
        greeting = [] if self._greeted else self._greeting(now_ns)
        self._heard_ns = now_ns
        self._spoke = True
        stamps: dict[str, object] = {"time_in": rfc3339(now_ns), "time_out": rfc3339(now_ns)}
        try:
            command = _decode_any(wire)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            command = None
        if not isinstance(command, dict) or not isinstance(command.get("method"), str):
            return [*greeting, _encode({"error": "Malformed request", "method": "error", **stamps})]
        number = command.get("req_id")
        stamps |= {"req_id": number} if isinstance(number, int) else {}
        method = command["method"]
        try:
            self._keep_pace(now_ns)
            if method == "ping":
                return [*greeting, _encode({"method": "pong", **stamps})]
            run: dict[str, Callable[[dict[str, object], dict[str, object]], list[bytes]]] = {
                "subscribe": self._subscribe,
                "unsubscribe": self._unsubscribe,
            }
            if method not in run:
                raise _Refused("Method not supported")
            params = command.get("params")
            if not isinstance(params, dict):
                raise _Refused("Params required")
            return [*greeting, *run[method](params, stamps)]
        except _Refused as refused:
            return [*greeting, _encode({"error": str(refused), "method": method, "success": False, **stamps})]

    def _keep_pace(self, now_ns: int) -> None:
        self._commands = [ns for ns in self._commands if now_ns - ns < _SECOND_NS] + [now_ns]
        if len(self._commands) > COMMANDS_PER_SECOND_MAX:
            raise _Refused("Exceeded msg rate")

    def _subscribe(self, params: dict[str, object], stamps: dict[str, object]) -> list[bytes]:
        """One answer for each symbol, each followed by its snapshot."""
        channel, told, parameter = self._checked(params)
        default = channel != "trade"
        snapshot = params.get("snapshot", default)
        if not isinstance(snapshot, bool):
            raise _Refused("Snapshot must be a boolean")
        frames = []
        have = self._subscriptions.setdefault(channel, {})
        for symbol in _symbols(channel, params):
            entry = {"channel": channel, **told, "snapshot": snapshot} | ({} if symbol is None else {"symbol": symbol})
            if symbol is not None and self._unknown(symbol):
                frames.append(_failure("subscribe", f"Currency pair not supported {symbol}", symbol, stamps))
            elif symbol in have:
                frames.append(_failure("subscribe", "Already subscribed", symbol, stamps))
            else:
                have[symbol] = parameter
                if channel == "book":
                    self._simulator.depths.add(int(parameter))
                elif channel == "ohlc":
                    self._simulator.intervals.add(int(parameter))
                frames.append(_encode({"method": "subscribe", "result": entry, "success": True, **stamps}))
                frames += self._snapshot(channel, symbol, parameter) if snapshot else []
        if not have:
            del self._subscriptions[channel]
        return frames

    def _unknown(self, symbol: str) -> bool:
        market = self._simulator.markets.get(symbol)
        return market is None or market.status == "delisted"

    def _unsubscribe(self, params: dict[str, object], stamps: dict[str, object]) -> list[bytes]:
        """The parameter must be the one that was subscribed to."""
        channel, told, parameter = self._checked(params)
        have = self._subscriptions.get(channel, {})
        frames = []
        for symbol in _symbols(channel, params):
            if have.get(symbol) != parameter:
                frames.append(_failure("unsubscribe", "Subscription Not Found", symbol, stamps))
                continue
            del have[symbol]
            entry = {"channel": channel, **told} | ({} if symbol is None else {"symbol": symbol})
            frames.append(_encode({"method": "unsubscribe", "result": entry, "success": True, **stamps}))
        if not have:
            self._subscriptions.pop(channel, None)
        return frames

    def _checked(self, params: dict[str, object]) -> tuple[str, dict[str, object], int | str]:
        """The channel, its parameter as an answer has it, and its value."""
        channel = params.get("channel")
        if not isinstance(channel, str) or channel not in CHANNELS - {STATUS}:
            raise _Refused("Channel not supported")
        name, possible, default, complaint = _PARAMETERS.get(channel, ("", (), 0, ""))
        if not name:
            return channel, {}, 0
        value = params.get(name, default)
        if isinstance(value, bool) or value not in possible:
            raise _Refused(complaint)
        if channel == "book" and value != (self._simulator.recorded_depth or value):
            raise _Refused(complaint)  # an archived book cannot be told at another depth
        return channel, {name: value}, value

    def _snapshot(self, channel: str, symbol: str | None, parameter: int | str) -> list[bytes]:
        """What stands now. Of a pair in a recording that has not begun to tell of it there is none: it will come.
        What an archived day says of pairs is not told before its time either."""
        simulator = self._simulator
        if symbol is None and simulator.verbatim:
            return []
        if symbol is None:
            return [instruments("snapshot", simulator.listed())]
        market, now_ns = simulator.markets[symbol], simulator.now_ns
        if channel == "book":
            return [market.snapshot(int(parameter), rfc3339(now_ns))] if market.book.known else []
        if channel == "ticker":
            return [frame("ticker", "snapshot", [market.ticker_entry(now_ns)])] if market.book.known else []
        if channel == "ohlc":
            minutes = int(parameter)
            return [frame("ohlc", "snapshot", [market.bar_entry(minutes, now_ns)])] if minutes in market.bars else []
        trades = list(market.trades)[-50:]
        return [frame("trade", "snapshot", [market.trade_entry(t) for t in trades])] if trades else []


_PARAMETERS: dict[str, tuple[str, tuple[int | str, ...], int | str, str]] = {
    "book": ("depth", DEPTHS, 10, "Subscription depth not supported"),
    "ohlc": ("interval", INTERVALS, 1, "Subscription ohlc interval not supported"),
    "ticker": ("event_trigger", TRIGGERS, "trades", "Event trigger not supported"),
}


def _symbols(channel: str, params: dict[str, object]) -> list[str | None]:
    if channel == "instrument":
        return [None]
    symbols = params.get("symbol")
    if not isinstance(symbols, list) or not symbols or not all(isinstance(s, str) for s in symbols):
        raise _Refused("Symbol(s) required")
    return list(dict.fromkeys(symbols))


def _failure(method: str, error: str, symbol: str | None, stamps: dict[str, object]) -> bytes:
    named = {} if symbol is None else {"symbol": symbol}
    return _encode({"error": error, "method": method, "success": False, **named, **stamps})
