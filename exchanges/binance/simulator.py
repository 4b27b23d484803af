"""Binance's side of the conversation: subscriptions, ids, errors, limits, REST; told by a tape or a generator.

What is simulated and where it comes from is written beside it; where the venue's behaviour is not known, the
simulator does what gives the client the least help. Not simulated: streams named in the URL, the raw path `/ws`.
"""

import re
import weakref
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, cast
from urllib.parse import parse_qs, parse_qsl, urlsplit

import msgspec

from exchanges.binance.generator import Generator
from exchanges.binance.markets import MS_NS, Levels, Market
from exchanges.binance.messages import SHUTDOWN
from exchanges.binance.product import Product, channel_of, is_for_all, kind_of, stream_name, symbol_of
from exchanges.binance.signing import KEY_HEADER, hmac_hex, public_key, verified
from exchanges.port import Answer, Record, Simulation, Unparsable
from ssmd import frames

SECOND_NS = 1_000_000_000
LIFE_NS = 24 * 3600 * SECOND_NS
NOTICE_NS = 600 * SECOND_NS  # of a shutdown; a later text promises none
ATTEMPTS_MAX, ATTEMPTS_NS = 300, 300_000_000_000  # at connections
SKEW_MS_MAX = 1000  # a timestamp may be so far ahead
BAN_AFTER = 10  # requests in spite of a 429
METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
_ID = re.compile(r"[0-9A-Za-z]{1,36}")
_KEY = re.compile(r"[0-9A-Za-z]{16,64}")

# ------------------------------------------------------------------------------------------------------ recordings


class _Data(msgspec.Struct, gc=False):
    """What the simulator needs to know of a payload."""

    e: str = ""
    s: str = ""
    u: int = 0
    t: int = 0
    T: int = 0
    p: str = ""
    q: str = ""
    m: bool = False
    X: str = "MARKET"


class _Depth(msgspec.Struct, gc=False):
    u: int
    b: Levels
    a: Levels


class _Line(msgspec.Struct, gc=False):
    """A recorded frame of a combined stream, or a book by REST."""

    stream: str = ""
    data: msgspec.Raw = msgspec.Raw()
    lastUpdateId: int | None = None
    bids: Levels = []
    asks: Levels = []


class _Rest(msgspec.Struct, gc=False):
    """An archived answer of REST."""

    rest: str
    status: int
    body: msgspec.Raw


class Detail(NamedTuple):
    """What a record does to the markets: its payload, and books that were recorded just before it."""

    stream: str
    data: bytes
    books: tuple[tuple[str, int, Levels, Levels], ...] = ()


_decode_line = msgspec.json.Decoder(_Line).decode
_decode_data = msgspec.json.Decoder(_Data).decode
_decode_rest = msgspec.json.Decoder(_Rest).decode
_decode_depth = msgspec.json.Decoder(_Depth).decode
_decode_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

# `<ns> <frame>`; `<seconds>: <frame>`; `<url> -> <seconds>: <body>` by HTTP, `<url> <- …` sent, `<url> <-> …` opened.
_RECORDED = re.compile(
    rb"(?P<ns>[0-9]{19}) (?P<frame>\{.*)|(?P<s>[0-9]+)\.(?P<fraction>[0-9]{1,9}): (?P<text>\{.*)"
    rb"|(?P<url>[a-z]+://\S+) (?P<way><->|<-|->) [0-9.]+(?:: (?P<body>.*))?",
    re.DOTALL,
)

# ------------------------------------------------------------------------------------------------------- simulator


class BinanceSimulator:
    """One simulated exchange; many connections."""

    def __init__(self, product: Product, simulation: Simulation) -> None:
        self.product = product
        self.markets: dict[str, Market] = {}
        self.subscribed: Counter[str] = Counter()  # streams, over all connections
        self.life_ns = LIFE_NS
        self.notice_ns = NOTICE_NS
        self.restricted = False  # answers all with HTTP 451
        self.caches_books = False  # books by REST stay as they were when they were first asked for
        self.hmac_secret: bytes | None = None
        self.rights = True
        self._cached: dict[str, dict[str, object]] = {}
        self._attempts: deque[int] = deque()  # at a connection, of the last minutes
        self._key_id = simulation.key_id
        self._public = None if simulation.public_key is None else public_key(simulation.public_key)
        self._simulation = simulation
        self._generator: Generator | None = None
        self._books: list[tuple[str, int, Levels, Levels]] = []  # recorded, for the next record
        self._last_depth = ""
        self._minute = 0
        self._weight = 0
        self._refused = 0

    @property
    def ws_path(self) -> str:
        return self.product.ws_path

    def wanted(self, stream: str) -> bool:
        return self.subscribed[stream] > 0

    def unsubscribed(self, streams: Iterable[str]) -> None:
        for name in streams:
            if self.exists(name):
                self.subscribed[name] -= 1

    def exists(self, name: str) -> bool:
        """Whether this route serves the stream. Names are in lower case."""
        channel = name if is_for_all(name) else name.partition("@")[2]
        lower = is_for_all(name) or name == stream_name(symbol_of(name), channel)
        return lower and kind_of(channel) in self.product.kinds

    # ------------------------------------------------------------------------------------------- what happens

    def record(self, line: bytes) -> Record | None:
        found = _RECORDED.fullmatch(line.strip())
        if found is None:
            raise Unparsable("it is neither like `1723161253937085768 {…}` nor like `1628952395.799805: {…}`")
        if found["url"] is not None:
            if found["way"] == b"->" and found["body"]:
                asked = parse_qs(urlsplit(found["url"].decode(errors="replace")).query)
                self._book(asked.get("symbol", [""])[0], _parsed(found["body"]))
            return None
        ts_ns = int(found["ns"]) if found["ns"] else int(found["s"] + found["fraction"].ljust(9, b"0"))
        wire = found["frame"] or found["text"]
        frame = _parsed(wire)
        if not frame.stream:
            self._book(symbol_of(self._last_depth), frame)
            return None
        return self._record(ts_ns, frame.stream, wire, bytes(frame.data))

    def archived(self, ts_ns: int, wire: bytes) -> Record | None:
        """A book by REST is no record, but what the next one finds."""
        if frames.is_rest(wire):
            answer = _decode_rest(wire)
            if answer.status == 200:
                self._book(parse_qs(urlsplit(answer.rest).query).get("symbol", [""])[0], _parsed(bytes(answer.body)))
            return None
        frame = _parsed(wire)
        return self._record(ts_ns, frame.stream, wire, bytes(frame.data)) if frame.stream else None

    def _book(self, symbol: str, frame: _Line) -> None:
        """A book by REST. Where the recorder does not say whose it is, it is the one whose depth came last."""
        if frame.lastUpdateId is not None and symbol:
            self._books.append((symbol, frame.lastUpdateId, frame.bids, frame.asks))

    def _record(self, ts_ns: int, stream: str, wire: bytes, data: bytes) -> Record | None:
        channel = channel_of(stream)
        if channel is None:
            return None
        try:
            kind = "" if data.startswith(b"[") else _decode_data(data).e
        except msgspec.DecodeError as e:
            raise Unparsable(f"its frame is no {channel} of Binance's: {e}") from e
        if channel == "depth":
            self._last_depth = stream
        books, self._books = tuple(self._books), []
        detail = Detail(stream, data, books)
        if is_for_all(stream):
            return Record(ts_ns, kind or channel, stream, None, wire, detail)
        return Record(ts_ns, kind or channel, stream.partition("@")[2], symbol_of(stream), wire, detail)

    def load(self, contents: Iterable[tuple[str, str | None]], first_ns: int, last_ns: int) -> None:
        self._books.clear()
        self.markets = {symbol: Market(symbol, first_ns) for symbol in sorted({s for _, s in contents if s})}

    def apply(self, record: Record) -> None:
        detail = cast(Detail, record.detail)
        for symbol, last_id, bids, asks in detail.books:
            self.market(symbol, record.ts_ns).load(last_id, bids, asks)
        if record.symbol is None:
            return
        market = self.market(record.symbol, record.ts_ns)
        if record.kind == "depthUpdate" and channel_of(detail.stream) == "depth":
            depth = _decode_depth(detail.data)
            market.update(depth.u, depth.b, depth.a)
        elif record.kind == "trade":
            data = _decode_data(detail.data)
            if data.X == "MARKET":
                market.trade(data.t, data.p, data.q, data.T, data.m, self.product.linked)
        elif record.kind == "aggTrade":
            market.aggregate(_decode_any(detail.data))

    def market(self, symbol: str, ts_ns: int) -> Market:
        found = self.markets.get(symbol)
        if found is None:
            found = self.markets[symbol] = Market(symbol, ts_ns)
        return found

    def generate(self, now_ns: int) -> Sequence[Record]:
        if self._generator is None:
            s = self._simulation
            self._generator = Generator(self.product, s.seed, s.markets, s.frames_per_second, now_ns, self.wanted)
            self.markets = self._generator.markets
        happened = []
        for ts_ns, channel, symbol, payload in self._generator.until(now_ns):
            stream = channel if symbol is None else stream_name(symbol, channel)
            data = _encode(payload)
            wire = b'{"stream":%b,"data":%b}' % (_encode(stream), data)
            happened.append(Record(ts_ns, channel, channel, symbol, wire, Detail(stream, data)))
        return happened

    def connect(self) -> "BinanceConnection":
        return BinanceConnection(self)

    # ------------------------------------------------------------------------------------------------ refusals

    def refuses(self, method: str, path: str, headers: Mapping[str, str], now_ns: int) -> Answer | None:
        """The WebSockets of market data want no key; an address may try so many in five minutes. With which status
        more are refused is not documented."""
        while self._attempts and now_ns - self._attempts[0] >= ATTEMPTS_NS:
            self._attempts.popleft()
        self._attempts.append(now_ns)
        if len(self._attempts) > ATTEMPTS_MAX:
            return _error(429, -1003, "Too many requests.")
        return _restricted() if self.restricted else None

    def _refuses_signed(self, query: str, headers: Mapping[str, str], now_ns: int) -> Answer | None:
        """A signed request that is not good; which HTTP status goes with each code is not documented."""
        key_id = headers.get(KEY_HEADER.lower(), "")
        text = query.rpartition("&signature=")[0]
        asked = dict(parse_qsl(query, keep_blank_values=True))
        if not _KEY.fullmatch(key_id):
            return _error(401, -2014, "API-key format invalid.")
        if "timestamp" not in asked or "signature" not in asked:
            return _error(400, -1102, "Mandatory parameter was not sent, was empty/null, or malformed.")
        window = asked.get("recvWindow", "5000")
        if not (asked["timestamp"].isdecimal() and window.isdecimal()):
            return _error(400, -1130, "Data sent for parameter is not valid.")
        behind = now_ns // MS_NS - int(asked["timestamp"])
        if behind > min(int(window), 60_000) or behind <= -SKEW_MS_MAX:
            return _error(400, -1021, "Timestamp for this request is outside of the recvWindow.")
        if self._key_id is not None and key_id != self._key_id:
            return _error(401, -2015, "Invalid API-key, IP, or permissions for action.")
        if not self._signed(text.encode(), asked["signature"]):
            return _error(400, -1022, "Signature for this request is not valid.")
        if not self.rights:
            return _error(401, -2015, "Invalid API-key, IP, or permissions for action.")
        return None

    def _signed(self, text: bytes, signature: str) -> bool:
        if self.hmac_secret is not None:
            return hmac_hex(self.hmac_secret, text) == signature
        return self._public is None or verified(self._public, signature, text)

    def _too_many(self, weight: int, now_ns: int) -> Answer | None:
        """Windows are fixed minutes. Who asks on in spite of 429 is banned."""
        minute = now_ns // (60 * SECOND_NS)
        if minute != self._minute:
            self._minute, self._weight, self._refused = minute, 0, 0
        self._weight += weight
        if self._weight <= self.product.weight_per_minute:
            return None
        self._refused += 1
        after = {"Retry-After": str(60 - now_ns // SECOND_NS % 60)}
        if self._refused > BAN_AFTER:
            return _error(418, -1003, "Way too much request weight used; IP banned until later.", after)
        return _error(429, -1003, "Too much request weight used.", after)

    # ----------------------------------------------------------------------------------------------------- REST

    def answer(self, method: str, target: str, headers: Mapping[str, str], now_ns: int, body: bytes = b"") -> Answer:
        if self.restricted:
            return _restricted()
        path, _, query = target.partition("?")
        api, _, what = path.rpartition("/")
        asked = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=100))
        if method != "GET":
            return _error(405, -1000, f"Request method '{method}' not supported")
        try:
            limit = int(asked.get("limit", "0"))
            return self._too_many(self._weigh(what, limit), now_ns) or self._rest(
                api, what, asked, limit, query, headers, now_ns
            )
        except ValueError:
            return _error(400, -1100, "Illegal characters found in a parameter.")

    def _weigh(self, what: str, limit: int) -> int:
        if what == "depth":
            if self.product.linked:
                return 2 if limit <= 50 else 5 if limit <= 100 else 10 if limit <= 500 else 20
            return 5 if limit <= 100 else 25 if limit <= 500 else 50 if limit <= 1000 else 250
        weights = {"historicalTrades": 200 if self.product.linked else 25, "trades": 25, "aggTrades": 4}
        return weights.get(what, 20 if what in {"account", "commission", "commissionRate", "exchangeInfo"} else 1)

    def _rest(
        self,
        api: str,
        what: str,
        asked: dict[str, str],
        limit: int,
        query: str,
        headers: Mapping[str, str],
        now_ns: int,
    ) -> Answer:
        linked = self.product.linked
        if what == "balance" and api == "/fapi/v3" and linked:
            return self._refuses_signed(query, headers, now_ns) or _ok([{"asset": "USDT", "balance": "0.00000000"}])
        if api != self.product.api and (api, linked) != ("/api/v3/account", False):
            return _error(404, -1000, "not found")
        if what == "ping":
            return _ok({})
        if what == "time":
            return _ok({"serverTime": now_ns // MS_NS})
        if what == "exchangeInfo":
            return self._listing(asked, now_ns)
        if what == "account":
            account = {"canTrade": True, "canWithdraw": False, "accountType": "SPOT", "permissions": ["SPOT"]}
            return self._refuses_signed(query, headers, now_ns) or _ok({**account, "balances": [], "uid": 1})
        if "symbol" not in asked:
            return _error(400, -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        market = self.markets.get(asked["symbol"])
        if market is None:
            return _error(400, -1121, "Invalid symbol.")
        match what:
            case "depth":
                return self._depth(market, limit or 100, now_ns)
            case "trades":
                return _ok(list(market.trades)[-min(limit or 500, 1000) :])
            case "historicalTrades" if linked and not headers.get(KEY_HEADER.lower()):
                return _error(401, -2014, "API-key format invalid.")
            case "historicalTrades":
                return self._history(market, asked, min(limit or 500, 500 if linked else 1000))
            case "aggTrades":
                return self._aggregates(market, asked, min(limit or 500, 1000))
            case "commission":
                rates = {"maker": "0.00100000", "taker": "0.00100000", "buyer": "0.00000000", "seller": "0.00000000"}
                found = {"symbol": market.symbol, "standardCommission": rates}
                return self._refuses_signed(query, headers, now_ns) or _ok(found)
            case "commissionRate":
                found = {"symbol": market.symbol, "makerCommissionRate": "0.0002", "takerCommissionRate": "0.0005"}
                return self._refuses_signed(query, headers, now_ns) or _ok(found)
        return _error(404, -1000, "not found")

    def _listing(self, asked: dict[str, str], now_ns: int) -> Answer:
        names = [asked["symbol"]] if "symbol" in asked else list(self.markets)
        if any(name not in self.markets for name in names):
            return _error(400, -1121, "Invalid symbol.")
        limits = [
            {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1}
            | {"limit": self.product.weight_per_minute}
        ]
        symbols = [self.markets[name].listing(self.product) for name in names]
        told = {"timezone": "UTC", "serverTime": now_ns // MS_NS, "rateLimits": limits, "exchangeFilters": []}
        return _ok({**told, "symbols": symbols})

    def _depth(self, market: Market, limit: int, now_ns: int) -> Answer:
        if not market.known:  # the recording has not told it yet
            return _error(503, -1001, "Internal error; unable to process your request. Please try again.")
        deepest = self.product.snapshots[0][0]
        found = market.depth(min(limit, deepest), now_ns, self.product)
        return _ok(self._cached.setdefault(market.symbol, found) if self.caches_books else found)

    def _history(self, market: Market, asked: dict[str, str], limit: int) -> Answer:
        first = int(asked["fromId"]) if "fromId" in asked else None
        if first is None:
            return _ok(list(market.trades)[-limit:])
        return _ok([row for row in market.trades if cast(int, row["id"]) >= first][:limit])

    def _aggregates(self, market: Market, asked: dict[str, str], limit: int) -> Answer:
        rows = list(market.aggregates)
        if "fromId" in asked:
            if "startTime" in asked or "endTime" in asked:
                return _error(400, -1128, "Combination of optional parameters invalid.")
            return _ok([row for row in rows if cast(int, row["a"]) >= int(asked["fromId"])][:limit])
        start, end = int(asked.get("startTime", "0")), int(asked.get("endTime", str(1 << 62)))
        found = [row for row in rows if start <= cast(int, row["T"]) <= end]
        return _ok(found[:limit] if "startTime" in asked else found[-limit:])


class _Refused(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class BinanceConnection:
    """The server's grammar on one connection."""

    def __init__(self, simulator: BinanceSimulator) -> None:
        self._simulator = simulator
        self._streams: dict[str, None] = {}
        weakref.finalize(self, simulator.unsubscribed, self._streams)  # a connection that is gone wants nothing
        self._combined = True
        self._heard_ns: deque[int] = deque()
        self._opened_ns = 0
        self._pinged_ns = 0
        self._told = False
        self.ended: tuple[int, str] | None = None

    @property
    def subscriptions(self) -> int:
        return len(self._streams)

    # ------------------------------------------------------------------------------------------- market data

    def market(self, record: Record) -> Sequence[bytes]:
        detail = cast(Detail, record.detail)
        if detail.stream not in self._streams:
            return ()
        return (record.wire if self._combined else detail.data,)

    def covers(self, contents: Iterable[tuple[str, str | None]]) -> bool:
        return all((c if s is None else stream_name(s, c)) in self._streams for c, s in contents)

    def overflow(self) -> Sequence[bytes]:
        """What the venue says is not documented; a client that does not read is cut off."""
        self.ended = (1008, "too slow")
        return ()

    def heartbeat(self, now_ns: int) -> bytes | None:
        self._opened_ns = self._opened_ns or now_ns
        if now_ns - self._opened_ns >= self._simulator.life_ns:
            self.ended = (1001, "its 24 hours are over")
            return None
        if self._pinged_ns and now_ns - self._pinged_ns < self._simulator.product.ping_seconds * SECOND_NS:
            return None
        first, self._pinged_ns = not self._pinged_ns, now_ns
        return None if first else str(now_ns // MS_NS).encode()

    def due(self, now_ns: int) -> Sequence[bytes]:
        """A word before the end of the connection's life."""
        life_ns, notice_ns = self._simulator.life_ns, self._simulator.notice_ns
        if self._told or not self._opened_ns or now_ns < self._opened_ns + life_ns - notice_ns:
            return ()
        self._told = True
        notice = b'{"e":"%b","E":%d}' % (SHUTDOWN.encode(), now_ns // MS_NS)
        return (b'{"stream":"!%b","data":%b}' % (SHUTDOWN.encode(), notice) if self._combined else notice,)

    # ----------------------------------------------------------------------------------------------- commands

    def pinged(self, now_ns: int) -> None:
        """Pings, pongs and commands count alike, and too many in a second are the end."""
        heard = self._heard_ns
        heard.append(now_ns)
        while heard[0] <= now_ns - SECOND_NS:
            heard.popleft()
        if len(heard) > self._simulator.product.commands_per_second:
            self.ended = (1008, "Too many requests")

    def received(self, wire: bytes, now_ns: int) -> Sequence[bytes]:
        self.pinged(now_ns)
        if self.ended is not None:
            return ()
        number: object = None
        try:
            try:
                command = _decode_any(wire)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                raise _Refused(3, "Invalid JSON: expected value at line 1 column 1") from None
            if not isinstance(command, dict):
                raise _Refused(2, "Invalid request: expected an object")
            number = _number(command)
            return [_encode({"result": self._command(command), "id": number})]
        except _Refused as refused:
            told = {"code": refused.code, "msg": str(refused)}
            if refused.code == 4:
                return [_encode({"error": told, "id": number})]
            return [_encode(told if number is None else {**told, "id": number})]

    def _command(self, command: dict[str, object]) -> object:
        method = command.get("method")
        if "method" not in command:
            raise _Refused(2, "Invalid request: missing field `method` at line 1 column 1")
        if method not in METHODS:
            expected = ", ".join(f"`{m}`" for m in METHODS)
            raise _Refused(2, f"Invalid request: unknown variant `{method}`, expected one of {expected}")
        params = command.get("params", [])
        if not isinstance(params, list):
            raise _Refused(2, "Invalid request: params must be an array")
        if method == "LIST_SUBSCRIPTIONS":
            return list(self._streams)
        if method.endswith("PROPERTY"):
            return self._property(params, sets=method == "SET_PROPERTY")
        if not all(isinstance(name, str) for name in params):
            raise _Refused(2, "Invalid request: stream names must be strings")
        if not params:
            raise _Refused(2, "Invalid request: missing field `params`")
        if method == "SUBSCRIBE":
            self._subscribe(params)
        else:
            gone = [name for name in dict.fromkeys(params) if name in self._streams]
            for name in gone:
                del self._streams[name]
            self._simulator.unsubscribed(gone)
        return None

    def _subscribe(self, names: list[str]) -> None:
        new = [name for name in dict.fromkeys(names) if name not in self._streams]
        if len(self._streams) + len(new) > self._simulator.product.streams_max:
            raise _Refused(4, "Too many subscriptions")
        for name in new:  # one that does not exist is acknowledged, and silent
            self._streams[name] = None
            if self._simulator.exists(name):
                self._simulator.subscribed[name] += 1

    def _property(self, params: list[object], *, sets: bool) -> object:
        if len(params) > 1 + sets:
            raise _Refused(2, "Invalid request: too many parameters")
        if not params or not isinstance(params[0], str):
            raise _Refused(2, "Invalid request: property name must be a string")
        if params[0] != "combined":
            raise _Refused(0, "Unknown property")
        if not sets:
            return self._combined
        if len(params) < 2 or not isinstance(params[1], bool):
            raise _Refused(1, "Invalid value type: expected Boolean")
        self._combined = params[1]
        return None


def _number(command: dict[str, object]) -> object:
    number = command.get("id")
    whole = isinstance(number, int) and not isinstance(number, bool) and -(1 << 63) <= number < 1 << 63
    if number is None or whole or (isinstance(number, str) and _ID.fullmatch(number)):
        return number
    raise _Refused(2, "Invalid request: request ID must be an unsigned integer")


def _parsed(wire: bytes) -> _Line:
    try:
        return _decode_line(wire)
    except (msgspec.DecodeError, RecursionError) as e:
        raise Unparsable(f"it holds no message of Binance's: {e}") from e


def _ok(content: object) -> Answer:
    return Answer(200, _encode(content))


def _error(status: int, code: int, text: str, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, _encode({"code": code, "msg": text}), headers or {})


def _restricted() -> Answer:
    return _error(451, 0, "Service unavailable from a restricted location according to 'b. Eligibility'.")
