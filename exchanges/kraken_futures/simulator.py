"""Kraken Futures' side of the conversation: feeds, numbering, heartbeats, errors, REST; from a tape or made up.

What is simulated and where it comes from is written beside it; where the venue's behaviour is not known, the
simulator does what gives the client the least help.
"""

import base64
import binascii
import uuid
import weakref
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import cast
from urllib.parse import parse_qsl

import msgspec

from exchanges.kraken.digits import number, rfc3339, seconds_ns
from exchanges.kraken.signing import decoded
from exchanges.kraken_futures import signing
from exchanges.kraken_futures.generator import Changed, Generator, Happening, Quoted, Traded
from exchanges.kraken_futures.markets import Level, Market, Trade, levels
from exchanges.kraken_futures.messages import FEEDS, HEARTBEAT
from exchanges.port import Answer, Record, Simulation, Unparsable
from ssmd.clock import SECOND_NS

WS_PATH = "/ws/v1"
ROOT = "/derivatives/api/v3/"
CONNECTIONS_MAX = 100
COMMANDS_PER_SECOND_MAX = 100
PING_NS = 60 * SECOND_NS  # without a WebSocket ping from the client
HISTORY_MAX = 100
EXECUTIONS_MAX = 1000
CANDLES = {"1m": 60, "5m": 300, "15m": 900, "30m": 1800, "1h": 3600, "4h": 14_400, "12h": 43_200, "1d": 86_400}

_encode = msgspec.json.Encoder().encode
_decode_any = msgspec.json.Decoder().decode


class _Level(msgspec.Struct):
    price: msgspec.Raw
    qty: msgspec.Raw


class Detail(msgspec.Struct):
    """What a frame says: a book, one level, a trade, trades, or a ticker."""

    feed: str
    product_id: str = ""
    event: str = ""
    seq: int = 0
    timestamp: int = 0
    time: int = 0
    side: str = ""
    type: str = ""
    uid: str = ""
    price: msgspec.Raw = msgspec.Raw(b"0")
    qty: msgspec.Raw = msgspec.Raw(b"0")
    bids: list[_Level] = []
    asks: list[_Level] = []
    trades: list["Detail"] = []

    @property
    def trade(self) -> Trade:
        return Trade(self.uid, self.side, self.type, self.seq, self.time, _text(self.qty), _text(self.price))


_decode_detail = msgspec.json.Decoder(Detail).decode


def record(ts_ns: int, wire: bytes) -> Record | None:
    """A market-data frame as a record; None if it is something else. Raises Unparsable."""
    try:
        found = _decode_any(wire)
        if not isinstance(found, dict) or "event" in found or found.get("feed") not in FEEDS:
            return None
        detail = _decode_detail(wire)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise Unparsable(f"it is no frame of Kraken Futures': {e}") from e
    return Record(ts_ns, detail.feed, FEEDS[detail.feed], detail.product_id, wire, detail)


class KrakenFuturesSimulator:
    """One simulated exchange; many connections."""

    ws_path = WS_PATH

    def __init__(self, simulation: Simulation) -> None:
        self.markets: dict[str, Market] = {}
        self.now_ns = 0  # the latest time that anything happened
        self._simulation = simulation
        self._generator: Generator | None = None
        self._connections: weakref.WeakSet[KrakenFuturesConnection] = weakref.WeakSet()
        self._nonces: dict[str, int] = {}
        self._last_ns = 0  # of the recording

    # ------------------------------------------------------------------------------------------- what happens

    def record(self, line: bytes) -> Record | None:
        """`SECONDS: FRAME`, or a bare frame, which came when it says; else what the recorder asked for."""
        line = line.strip()
        if not line.startswith(b"{"):
            when, _, text = line.partition(b": ")
            if not when[:1].isdigit():
                return None
            self._last_ns = seconds_ns(when.decode(errors="replace"))
            return record(self._last_ns, text)
        found = record(self._last_ns, line)
        if found is not None:
            detail = cast(Detail, found.detail)
            self._last_ns = max(self._last_ns, 1_000_000 * (detail.timestamp or detail.time))
            return found._replace(ts_ns=self._last_ns)
        return None

    def archived(self, ts_ns: int, wire: bytes) -> Record | None:
        return record(ts_ns, wire)

    def load(self, contents: Iterable[tuple[str, str | None]], first_ns: int, last_ns: int) -> None:
        self.markets = {}
        for _, product in sorted(contents, key=str):
            if product is not None:
                self.markets.setdefault(product, Market(product, known=False))
        self.now_ns = first_ns
        self._last_ns = 0

    def apply(self, record: Record) -> None:
        self.now_ns = max(self.now_ns, record.ts_ns)
        market = self.markets.get(record.symbol or "")
        if market is None:
            return
        detail = cast(Detail, record.detail)
        match record.kind:
            case "book_snapshot":
                market.set(_texts(detail.bids), _texts(detail.asks), detail.seq, detail.timestamp)
            case "book":
                market.change(detail.side, _text(detail.price), _text(detail.qty), detail.seq, detail.timestamp)
            case "trade":
                market.add(detail.trade)
            case "trade_snapshot":
                for trade in reversed(detail.trades):
                    market.add(trade.trade)
            case _:
                market.ticker[record.kind] = record.wire

    def generate(self, now_ns: int) -> Sequence[Record]:
        if self._generator is None:
            simulation = self._simulation
            self._generator = Generator(
                simulation.seed, simulation.markets, simulation.frames_per_second, now_ns, self.markets
            )
        self.now_ns = max(self.now_ns, now_ns)
        happened = []
        for ts_ns, happening in self._generator.until(now_ns):
            for wire in self._wires(ts_ns, happening):
                new = record(ts_ns, wire)
                assert new is not None
                self.apply(new)
                happened.append(new)
        return happened

    def _wires(self, ts_ns: int, happening: Happening) -> list[bytes]:
        market, time_ms = happening.market, ts_ns // 1_000_000
        match happening:
            case Changed(_, side, price, size):
                return [market.delta(side, price, size, time_ms)]
            case Traded(_, uid, side, kind, price, size):
                return [market.traded(Trade(uid, side, kind, market.trade_seq + 1, time_ms, size, price))]
            case Quoted():
                return [market.tick(feed, ts_ns) for feed in ("ticker", "ticker_lite")]

    def connect(self) -> "KrakenFuturesConnection":
        connection = KrakenFuturesConnection(self)
        self._connections.add(connection)
        return connection

    # ----------------------------------------------------------------------------------------------------- REST

    def refuses(self, method: str, path: str, headers: Mapping[str, str], now_ns: int) -> Answer | None:
        """Public feeds are open to everybody, up to a number of connections; with which status is not documented."""
        if sum(connection.ended is None for connection in self._connections) >= CONNECTIONS_MAX:
            return Answer(429, b'{"result":"error","error":"apiLimitExceeded"}')
        return None

    def answer(self, method: str, target: str, headers: Mapping[str, str], now_ns: int, body: bytes = b"") -> Answer:
        path, _, query = target.partition("?")
        try:
            q = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=100))
            parts = path.strip("/").split("/")
            match parts:
                case ["api", "history", "v3", "market", product, "executions"]:
                    return self._executions(self.markets[product], q)
                case ["api", "charts", "v1", "trade", product, resolution]:
                    return self._candles(self.markets[product], CANDLES[resolution], q)
            return self._derivatives(path.removeprefix(ROOT), path, q, headers, now_ns)
        except KeyError:
            return _error("contractNotFound", now_ns)
        except ValueError:
            return _error("invalidArgument", now_ns)

    def _derivatives(
        self, name: str, path: str, query: dict[str, str], headers: Mapping[str, str], now_ns: int
    ) -> Answer:
        markets = self.markets
        match name:
            case "instruments":
                return _ok({"instruments": [m.instrument() for m in markets.values()]}, now_ns)
            case "tickers":
                return _ok({"tickers": [m.rest_ticker(now_ns) for m in markets.values() if m.tradeable]}, now_ns)
            case "orderbook":
                market = markets[query["symbol"]]
                book = {"bids": levels(market.best_first("buy")), "asks": levels(market.best_first("sell"))}
                return _ok({"orderBook": book}, now_ns)
            case "history":
                return _ok({"history": self._history(markets[query["symbol"]], query)}, now_ns)
            case "accounts":
                refused = self._unsigned(path, headers)
                return _ok({"accounts": {}}, now_ns) if refused is None else _error(refused, now_ns)
        return Answer(404, _encode({"result": "error", "error": "notFound", "serverTime": rfc3339(now_ns)}))

    def _history(self, market: Market, query: dict[str, str]) -> list[dict[str, object]]:
        """The newest before `lastTime`, newest first."""
        before_ms = 1 << 62
        if "lastTime" in query:
            last = datetime.fromisoformat(query["lastTime"].replace("Z", "+00:00")).astimezone(UTC)
            before_ms = int(last.timestamp() * 1000)
        found = [t for t in market.trades if t.time_ms < before_ms][-HISTORY_MAX:]
        return [
            {
                "time": rfc3339(t.time_ms * 1_000_000)[:23] + "Z",
                "trade_id": t.number,
                "price": float(t.price),
                "size": float(t.size),
                "side": t.side,
                "type": t.kind,
                "uid": t.uid,
            }
            for t in reversed(found)
        ]

    def _executions(self, market: Market, query: dict[str, str]) -> Answer:
        since, before = int(query.get("since", 0)), int(query.get("before", 1 << 62))
        found = [t for t in market.trades if since <= t.time_ms < before]
        if query.get("sort", "desc") == "desc":
            found.reverse()
        start = 0
        if "continuationToken" in query:
            start = int(_decoded(query["continuationToken"]))
        page = found[start : start + EXECUTIONS_MAX]
        answer: dict[str, object] = {"elements": [_execution(t) for t in page], "len": len(page)}
        if start + len(page) < len(found):
            answer["continuationToken"] = base64.urlsafe_b64encode(str(start + len(page)).encode()).decode()
        return Answer(200, _encode(answer))

    def _candles(self, market: Market, seconds: int, query: dict[str, str]) -> Answer:
        """Asked in seconds, answered in milliseconds."""
        first, last = int(query.get("from", 0)), int(query.get("to", 1 << 40))
        candles: dict[int, list[Trade]] = {}
        for trade in market.trades:
            begin = trade.time_ms // 1000 // seconds * seconds
            if first <= begin <= last:
                candles.setdefault(begin, []).append(trade)
        rows = []
        for begin, trades in candles.items():
            prices = [number(msgspec.Raw(t.price.encode())) for t in trades]
            rows.append(
                {
                    "time": begin * 1000,
                    "open": prices[0],
                    "high": max(prices, key=float),
                    "low": min(prices, key=float),
                    "close": prices[-1],
                    "volume": f"{sum(float(t.size) for t in trades):f}",
                }
            )
        return Answer(200, _encode({"candles": rows, "more_candles": False}))

    def _unsigned(self, path: str, headers: Mapping[str, str]) -> str | None:
        """What is wrong with the signature. The simulation's public key is the shared secret in base64."""
        key_id, secret = self._simulation.key_id, self._simulation.public_key
        given = headers.get(signing.KEY_HEADER.lower(), "")
        nonce = headers.get(signing.NONCE_HEADER.lower(), "")
        if not given or (key_id is not None and given != key_id):
            return "authenticationError"
        if secret is not None:
            expected = signing.signature(decoded(given, secret, "Kraken Futures"), path, nonce)
            if headers.get(signing.SIGNATURE_HEADER.lower()) != expected:
                return "authenticationError"
        if nonce:
            last = self._nonces.get(given, -1)
            if int(nonce) == last:
                return "nonceDuplicate"
            if int(nonce) < last:
                return "nonceBelowThreshold"
            self._nonces[given] = int(nonce)
        return None


def _execution(trade: Trade) -> dict[str, object]:
    """Only what a client may rely on, and one thing more that it must not trip over."""
    size, price = (number(msgspec.Raw(text.encode())) for text in (trade.size, trade.price))
    execution = {
        "uid": trade.uid,
        "makerOrder": {"direction": "Sell" if trade.side == "buy" else "Buy"},
        "takerOrder": {"direction": trade.side.capitalize()},
        "timestamp": trade.time_ms,
        "quantity": size,
        "price": price,
        "markPrice": price,
        "limitFilled": False,
        "usdValue": "0",
    }
    uid = str(uuid.uuid5(uuid.NAMESPACE_OID, trade.uid))
    return {"uid": uid, "timestamp": trade.time_ms, "event": {"Execution": {"execution": execution}}}


def _decoded(token: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(token)
    except binascii.Error as e:
        raise ValueError(str(e)) from e


def _ok(content: dict[str, object], now_ns: int) -> Answer:
    return Answer(200, _encode({"result": "success", **content, "serverTime": rfc3339(now_ns)}))


def _error(error: str, now_ns: int) -> Answer:
    return Answer(200, _encode({"result": "error", "error": error, "serverTime": rfc3339(now_ns)}))


def _text(raw: msgspec.Raw) -> str:
    return bytes(raw).decode()


def _texts(found: Sequence[_Level]) -> list[Level]:
    return [(_text(level.price), _text(level.qty)) for level in found]


# ------------------------------------------------------------------------------------------------------ connection


class KrakenFuturesConnection:
    """The server's grammar on one connection."""

    def __init__(self, simulator: KrakenFuturesSimulator) -> None:
        self._simulator = simulator
        self._feeds: dict[str, dict[str | None, None]] = {}  # feed -> products
        self._greeted = False
        self._heard_ns = 0  # a ping
        self._beat_ns = 0
        self._commands: list[int] = []  # times of late
        self._ended: tuple[int, str] | None = None

    @property
    def subscriptions(self) -> int:
        return sum(len(products) for feed, products in self._feeds.items() if feed != HEARTBEAT)

    @property
    def ended(self) -> tuple[int, str] | None:
        return self._ended

    # ------------------------------------------------------------------------------------------- market data

    def market(self, record: Record) -> Sequence[bytes]:
        return (record.wire,) if record.symbol in self._feeds.get(record.channel, ()) else ()

    def covers(self, contents: Iterable[tuple[str, str | None]]) -> bool:
        return all(product in self._feeds.get(feed, ()) for feed, product in contents)

    def overflow(self) -> Sequence[bytes]:
        """What the venue says to a client that reads too slowly is not known: it hangs up."""
        self._ended = (1006, "the client reads too slowly")
        return ()

    def heartbeat(self, now_ns: int) -> bytes | None:
        """The venue is not known to send WebSocket pings."""
        return None

    def pinged(self, now_ns: int) -> None:
        """The client sent a WebSocket ping."""
        self._heard_ns = now_ns

    def due(self, now_ns: int) -> Sequence[bytes]:
        if not self._greeted:
            return self._greeting(now_ns)
        if now_ns - self._heard_ns > PING_NS:
            self._ended = (1006, "no ping for a minute")
        if HEARTBEAT in self._feeds and now_ns - self._beat_ns >= SECOND_NS:
            self._beat_ns = now_ns
            return [_encode({"feed": HEARTBEAT, "time": now_ns // 1_000_000})]
        return ()

    def _greeting(self, now_ns: int) -> list[bytes]:
        self._greeted = True
        self._heard_ns = now_ns
        return [b'{"event":"info","version":1}']

    # ----------------------------------------------------------------------------------------------- commands

    def received(self, wire: bytes, now_ns: int) -> Sequence[bytes]:
        greeting = [] if self._greeted else self._greeting(now_ns)
        self._commands = [ns for ns in self._commands if now_ns - ns < SECOND_NS] + [now_ns]
        if len(self._commands) > COMMANDS_PER_SECOND_MAX:
            return [*greeting, _encode({"event": "alert", "message": "Too many requests"})]
        try:
            command = _decode_any(wire)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return [*greeting, _wrong("Json Error")]
        if not isinstance(command, dict):
            return [*greeting, _wrong("Json Error")]
        event = command.get("event")
        if event == "challenge":
            message = str(uuid.uuid5(uuid.NAMESPACE_OID, str(command.get("api_key"))))
            return [*greeting, _encode({"event": "challenge", "message": message})]
        if event not in {"subscribe", "unsubscribe"}:
            return [*greeting, _wrong("Invalid event")]
        return [*greeting, *self._change(command, event)]

    def _change(self, command: dict[str, object], event: str) -> list[bytes]:
        """Each product is acknowledged by itself (recording of July 2021); one that is wrong fails the request."""
        feed = command.get("feed")
        if not isinstance(feed, str) or feed not in {*FEEDS.values(), HEARTBEAT}:
            return [_wrong("Invalid feed")]
        if feed == HEARTBEAT:
            return self._heartbeat(event)
        products = command.get("product_ids")
        if not isinstance(products, list) or not products or not all(isinstance(p, str) for p in products):
            return [_wrong("Invalid product ids")]
        markets = self._simulator.markets
        if any(p not in markets or not markets[p].tradeable for p in products) and event == "subscribe":
            return [_wrong("Invalid product id")]
        have = self._feeds.setdefault(feed, {})
        acks, data = [], []
        for product in dict.fromkeys(products):
            if event == "unsubscribe" and product not in have:
                acks.append(_ack("unsubscribed_failed", feed, product))
                continue
            acks.append(_ack(f"{event}d", feed, product))
            if event == "subscribe":
                have[product] = None
                data += self._snapshot(feed, markets[product])
            else:
                del have[product]
        return acks + data

    def _heartbeat(self, event: str) -> list[bytes]:
        if event == "subscribe":
            self._feeds[HEARTBEAT] = {None: None}
        else:
            self._feeds.pop(HEARTBEAT, None)
        return [_encode({"event": f"{event}d", "feed": HEARTBEAT})]

    def _snapshot(self, feed: str, market: Market) -> list[bytes]:
        """What stands now. Of a product in a recording that has not begun to tell of it there is none: it will come."""
        if feed in {"ticker", "ticker_lite"}:
            return [market.ticker[feed]] if feed in market.ticker else []
        if not market.known:
            return []
        return [market.snapshot() if feed == "book" else market.trade_snapshot()]


def _ack(event: str, feed: str, product: str) -> bytes:
    return _encode({"event": event, "feed": feed, "product_ids": [product]})


def _wrong(message: str) -> bytes:
    return _encode({"event": "error", "message": message})
