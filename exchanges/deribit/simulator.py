"""Deribit's side of the conversation: JSON-RPC, subscriptions, credits, heartbeats, REST; told by a tape or made up.

What is simulated and where it comes from is written beside it; where the venue's behaviour is not known, the
simulator does what gives the client the least help. Not simulated: the pace of intervals (each book change is a frame
of its own), private channels, and the count of connections per address. Silent, though they can be subscribed:
announcements, deribit_price_ranking, deribit_price_statistics, block_rfq.trades, platform_state.public_methods_state.
"""

import base64
import hmac
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, cast
from urllib.parse import parse_qsl

import msgspec

from exchanges.deribit.generator import Generator
from exchanges.deribit.markets import Change, Exchange, Instrument
from exchanges.deribit.messages import CHANNELS, INTERVALS, RAW_UNAUTHORIZED, TOO_MANY_REQUESTS, Place, place
from exchanges.deribit.signing import SCHEME, grant_text, request_text
from exchanges.port import Answer, Record, Simulation, Unparsable

WS_PATH = "/ws/api/v2"
REST_ROOT = "/api/v2"
SECOND_NS = 1_000_000_000
CONNECTIONS_MAX = 32  # of an address
CHANNELS_PER_CALL_MAX = 500  # suggested by the documentation; more is not known to be refused
SKEW_MS_MAX = 30_000  # not published
TOKEN_SECONDS = 900
HEARTBEAT_SECONDS_MIN = 10
HEARTBEAT_LATE_NS = 600_000_000  # seen: every 10.6 s with an interval of 10
UNANSWERED_NS = 10 * SECOND_NS  # from the first test_request that was not answered
IDLE_NS = 60 * SECOND_NS  # without heartbeats, subscriptions and traffic
HEARTBEAT_CLOSE = (4000, "heartbeat close")
HANG_UP = (1006, "")

INVALID_PARAMS, UNKNOWN_METHOD = -32602, -32601
BAD_REQUEST, INVALID_ARGUMENTS = 11050, 11029
INVALID_CREDENTIALS, UNAUTHORIZED, NOT_FOUND, FORBIDDEN = 13004, 13009, 13020, 13021
ONLY_WEBSOCKET = 10030
MESSAGES = {
    TOO_MANY_REQUESTS: "too_many_requests",
    ONLY_WEBSOCKET: "must_be_websocket_request",
    INVALID_ARGUMENTS: "invalid_arguments",
    BAD_REQUEST: "bad_request",
    INVALID_CREDENTIALS: "invalid_credentials",
    UNAUTHORIZED: "unauthorized",
    NOT_FOUND: "not_found",
    FORBIDDEN: "forbidden",
    RAW_UNAUTHORIZED: "raw_subscriptions_not_available_for_unauthorized",
    UNKNOWN_METHOD: "Method not found",
    INVALID_PARAMS: "Invalid params",
}
CURRENCIES = frozenset({"BTC", "ETH", "USDC", "USDT", "EURR", "any"})
KINDS = frozenset({"future", "option", "spot", "future_combo", "option_combo", "any"})
DEPTHS = frozenset({1, 5, 10, 20, 50, 100, 1000, 10000})  # of get_order_book
INDEXED = frozenset(name for channel, name in CHANNELS.items() if "{index_name}" in channel)
WINDOWS = frozenset({"1", "10", "20"})  # of a grouped book

_HEAD = b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"'
_TEST_REQUEST = b'{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}'
_HEARTBEAT = b'{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"heartbeat"}}'

# ---------------------------------------------------------------------------------------------------------- frames


class _Frame(msgspec.Struct, gc=False):
    """Of a recorded line: `params` is missing in answers."""

    params: "_Params | None" = None


class _Params(msgspec.Struct, gc=False):
    channel: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"")


class _Message(msgspec.Struct, gc=False):
    """What the simulator needs to know of market data that is one object."""

    timestamp: int = 0
    instrument_name: str = ""
    state: str = ""
    change_id: int = 0
    prev_change_id: int = 0


class _Book(_Message, gc=False):
    bids: list[Change] = []
    asks: list[Change] = []


class _Trade(msgspec.Struct, gc=False):
    instrument_name: str
    trade_seq: int
    timestamp: int


class Detail(NamedTuple):
    """A record, ready to be sent: what comes after the channel's name; and its data as written, and as understood.

    `name` is the channel's, as recorded.
    """

    tail: bytes
    data: bytes
    message: _Message
    name: str


_decode_frame = msgspec.json.Decoder(_Frame).decode
_decode_message = msgspec.json.Decoder(_Message).decode
_decode_book = msgspec.json.Decoder(_Book).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_trade = msgspec.json.Decoder(_Trade).decode
_decode_parts = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def record(ts_ns: int, wire: bytes) -> Record | None:
    """A notification as a record, at its own time if `ts_ns` is 0; None if it is something else. Raises Unparsable."""
    try:
        params = _decode_frame(wire).params
    except (msgspec.DecodeError, RecursionError) as e:
        raise Unparsable(f"it is no message of Deribit's: {e}") from e
    where = None if params is None or params.channel is None else place(params.channel)
    if params is None or where is None:
        return None
    return made(ts_ns, where.channel, where.symbol, bytes(params.data), wire, params.channel or "")


def made(ts_ns: int, channel: str, symbol: str | None, data: bytes, wire: bytes, name: str) -> Record:
    """A record of a channel from its data, as `wire` had it. Raises Unparsable."""
    try:
        if channel == "book":
            message: _Message = _decode_book(data)
        elif channel in {"trades", "markprice_options", "deribit_price_ranking"}:
            first = next(iter(_decode_items(data)), msgspec.Raw(b"{}"))
            message = _decode_message(first)
        else:
            message = _decode_message(data)
    except (msgspec.DecodeError, RecursionError) as e:
        raise Unparsable(f"its data is no {channel} of Deribit's: {e}") from e
    named = message.instrument_name or None
    tail = b'","data":%b}}' % data
    return Record(
        ts_ns or message.timestamp * 1_000_000,
        channel,
        channel,
        symbol or named,
        wire,
        Detail(tail, data, message, name),
    )


def notification(channel: str, data: bytes) -> bytes:
    return b'%b%b","data":%b}}' % (_HEAD, channel.encode(), data)


_TEMPLATES = {name: channel for channel, name in reversed(CHANNELS.items())}  # the first of each


@lru_cache(1 << 12)
def _name(channel: str, symbol: str | None) -> str:
    """What the venue's channel for this could be called."""
    name = _TEMPLATES[channel].replace("{instrument_name}", symbol or "any").replace("{index_name}", symbol or "any")
    for part, filled in (("interval", "100ms"), ("kind", "any"), ("currency", "any"), ("resolution", "1")):
        name = name.replace(f"{{{part}}}", filled)
    return name


# ------------------------------------------------------------------------------------------------------- simulator


class _Refused(Exception):
    """A call that fails with an error code."""

    def __init__(self, code: int, reason: str = "", param: str = "") -> None:
        super().__init__(MESSAGES[code])
        self.code = code
        told = {"reason": reason, "param": param} if reason else None
        self.error = {"code": code, "message": MESSAGES[code], **({"data": told} if told else {})}


class _Credits:
    """A pool that refills: 10,000 credits a second (docs.deribit.com/articles/rate-limits)."""

    def __init__(self, pool: int, cost: int) -> None:
        self._pool = self._left = float(pool)
        self._cost = cost
        self._ns = 0

    def spend(self, now_ns: int) -> None:
        """Raises _Refused if there is too little left."""
        if self._ns:
            self._left = min(self._pool, self._left + max(0, now_ns - self._ns) / SECOND_NS * 10_000)
        self._ns = now_ns
        if self._left < self._cost:
            raise _Refused(TOO_MANY_REQUESTS)
        self._left -= self._cost


class _Caller:
    """Whoever calls, by WebSocket or HTTP: its credits, and the rights it has shown."""

    def __init__(self, scope: frozenset[str] | None = None) -> None:
        self.scope = scope  # None: not signed in
        self._subscribing = _Credits(30_000, 3_000)
        self._listing = _Credits(500_000, 10_000)
        self._rest = _Credits(50_000, 500)

    def spend(self, method: str, now_ns: int) -> None:
        if "subscribe" in method:
            self._subscribing.spend(now_ns)
        elif method == "public/get_instruments":
            self._listing.spend(now_ns)
        else:
            self._rest.spend(now_ns)


Parameters = dict[str, object]
_Method = Callable[[Parameters, _Caller, int], object]


class DeribitSimulator:
    """One simulated exchange; many connections. HMAC has no public half: `public_key` is the client secret itself."""

    ws_path = WS_PATH

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._secret = None if simulation.public_key is None else simulation.public_key.strip()
        self.scope = "account:read trade:read connection mainaccount"
        self.exchange = Exchange()
        self._recorded: set[str] = set()
        self.verbatim = simulation.recorded is not None
        self._generator: Generator | None = None
        self._tokens: dict[str, tuple[frozenset[str], int]] = {}  # token -> rights, until when (ns)
        self._http = _Caller()
        self._connections: weakref.WeakSet[DeribitConnection] = weakref.WeakSet()
        self._methods: dict[str, _Method] = {
            "public/auth": self._auth,
            "public/get_time": lambda params, caller, now_ns: now_ns // 1_000_000,
            "public/test": lambda params, caller, now_ns: {"version": "1.2.26"},
            "public/hello": lambda params, caller, now_ns: {"version": "1.2.26"},
            "public/status": lambda params, caller, now_ns: {"locked": "false", "locked_indices": []},
            "public/get_currencies": self._get_currencies,
            "public/get_instruments": self._get_instruments,
            "public/get_instrument": lambda params, caller, now_ns: self._instrument(params).object(),
            "public/get_order_book": self._get_order_book,
            "public/ticker": lambda params, caller, now_ns: self._instrument(params).ticker,
            "public/get_last_trades_by_instrument": self._get_last_trades,
            "public/get_last_trades_by_instrument_and_time": self._get_last_trades_by_time,
            "private/get_account_summary": self._get_account_summary,
            "private/get_account_summaries": self._get_account_summary,
        }

    # ------------------------------------------------------------------------------------------- what happens

    def record(self, line: bytes) -> Record | None:
        """Lines of two kinds: a frame alone, and what the venue sent after the seconds at which it was received:

            1626993723.804855: {"jsonrpc":"2.0","method":"subscription",…

        Lines `URL <- seconds: …` (what the recorder sent), `URL -> …` and `URL <-> …` are passed over.
        """
        line = line.strip()
        if line.startswith(b"{"):
            return record(0, line)
        head, colon, wire = line.partition(b": ")
        if b" <" in head or b" ->" in head or line.startswith(b"configuration: "):
            return None
        try:
            seconds, _, part = head.partition(b".")
            ts_ns = int(seconds) * SECOND_NS + int(part[:9].ljust(9, b"0"))
        except ValueError:
            colon = b""
        if not colon:
            raise Unparsable("it is neither a frame nor like `1626993723.804855: {…}`")
        return record(ts_ns, wire)

    def archived(self, ts_ns: int, wire: bytes) -> Record | None:
        return record(ts_ns, wire)

    def load(self, contents: Iterable[tuple[str, str | None]], first_ns: int, last_ns: int) -> None:
        self.exchange = Exchange()
        for _, symbol in sorted(contents, key=str):
            known = symbol is None or symbol in self.exchange.instruments
            if not known and self.exchange.open(str(symbol), first_ns // 1_000_000) is None:
                self.exchange.indices.add(str(symbol))
        self._recorded = set(self.exchange.instruments)

    def apply(self, record: Record) -> None:
        detail = cast(Detail, record.detail)
        if record.symbol is None:
            return
        instrument = self.exchange.instruments.get(record.symbol) or self.exchange.open(
            record.symbol, record.ts_ns // 1_000_000
        )
        if instrument is None:  # an index
            return
        if record.kind == "book":
            _change(instrument, cast(_Book, detail.message))
        elif record.kind == "trades":
            for raw in _decode_items(detail.data):
                self._traded(bytes(raw))
        elif record.kind == "ticker":
            instrument.ticker = _decode_parts(detail.data)
        elif record.kind == "instrument_state" and instrument.name not in self._recorded:
            # A recording's instrument stays listed: a client that comes back must find it, or miss its last frames.
            instrument.state = detail.message.state

    def _traded(self, raw: bytes) -> None:
        try:
            trade = _decode_trade(raw)
        except msgspec.DecodeError as e:
            raise Unparsable(f"its trade is not as Deribit documents: {e}") from e
        instrument = self.exchange.instruments.get(trade.instrument_name)
        if instrument is not None:
            instrument.trades.append((trade.trade_seq, trade.timestamp, raw))

    def generate(self, now_ns: int) -> Sequence[Record]:
        if self._generator is None:
            s = self._simulation
            self._generator = Generator(s.seed, s.markets, s.frames_per_second, now_ns, self.exchange)
        happened = []
        for ts_ns, channel, symbol, data in self._generator.until(now_ns):
            body = _encode(data)
            name = _name(channel, symbol)
            new = made(ts_ns, channel, symbol, body, notification(name, body), name)
            self.apply(new)
            happened.append(new)
        return happened

    def connect(self) -> "DeribitConnection":
        connection = DeribitConnection(self)
        self._connections.add(connection)
        return connection

    # --------------------------------------------------------------------------------------------------- calls

    def call(self, method: str, params: Parameters, caller: _Caller, now_ns: int) -> object:
        """The result of a method that HTTP and WebSocket share. Raises _Refused."""
        run = self._methods.get(method)
        if run is None:
            raise _Refused(UNKNOWN_METHOD)
        caller.spend(method, now_ns)
        return run(params, caller, now_ns)

    def _instrument(self, params: Parameters) -> Instrument:
        name = params.get("instrument_name")
        if not isinstance(name, str):
            raise _Refused(INVALID_PARAMS, "must be string", "instrument_name")
        found = self.exchange.instruments.get(name)
        if found is None:
            raise _Refused(NOT_FOUND)
        return found

    def _get_currencies(self, params: Parameters, caller: _Caller, now_ns: int) -> object:
        listed = {i.kind.base for i in self.exchange.instruments.values()} | CURRENCIES - {"any"}
        return [{"currency": c, "currency_long": c, "coin_type": c, "fee_precision": 4} for c in sorted(listed)]

    def _get_instruments(self, params: Parameters, caller: _Caller, now_ns: int) -> object:
        currency, kind = params.get("currency", "any"), params.get("kind", "any")
        if currency not in CURRENCIES:
            raise _Refused(INVALID_PARAMS, "invalid", "currency")
        if kind not in KINDS:
            raise _Refused(INVALID_PARAMS, "invalid", "kind")
        if params.get("expired") not in {None, False, True, "false", "true"}:
            raise _Refused(INVALID_PARAMS, "must be boolean", "expired")
        expired = params.get("expired") in {True, "true"}
        listed = self.exchange.listed(str(currency), str(kind))
        return [i.object() for i in listed if (i.state == "delivered") is expired]

    def _get_order_book(self, params: Parameters, caller: _Caller, now_ns: int) -> object:
        instrument = self._instrument(params)
        depth = _integer(params, "depth", 5)
        if depth not in DEPTHS:
            raise _Refused(INVALID_PARAMS, "invalid depth", "depth")
        book = instrument.book
        best = {
            f"best_{side[:-1]}_{what}": msgspec.Raw(book.best(side)[k])
            for side in ("bids", "asks")
            for k, what in enumerate(("price", "amount"))
        }
        sides = {side: _pairs(book.levels(side, depth)) for side in ("bids", "asks")}
        return {
            **instrument.ticker,
            **best,
            "timestamp": book.ts_ms,
            "state": instrument.state,
            "instrument_name": instrument.name,
            "change_id": book.change_id,
            **sides,
        }

    def _get_last_trades(self, params: Parameters, caller: _Caller, now_ns: int) -> object:
        return self._trades(params)

    def _get_last_trades_by_time(self, params: Parameters, caller: _Caller, now_ns: int) -> object:
        for needed in ("start_timestamp", "end_timestamp"):
            if needed not in params:
                raise _Refused(INVALID_PARAMS, "value required", needed)
        return self._trades(params)

    def _trades(self, params: Parameters) -> object:
        instrument = self._instrument(params)
        count = _integer(params, "count", 10)
        if not 1 <= count <= 1000:
            raise _Refused(INVALID_PARAMS, "must be from 1 to 1000", "count")
        sorting = params.get("sorting", "default")
        if sorting not in {"asc", "desc", "default"}:
            raise _Refused(INVALID_PARAMS, "invalid", "sorting")
        forever = 1 << 62
        first, last = _integer(params, "start_seq", 0), _integer(params, "end_seq", forever)
        since, until = _integer(params, "start_timestamp", 0), _integer(params, "end_timestamp", forever)
        found = [(n, raw) for n, ms, raw in instrument.trades if first <= n <= last and since <= ms <= until]
        found.sort(reverse=sorting != "asc")
        return {"trades": [msgspec.Raw(raw) for _, raw in found[:count]], "has_more": len(found) > count}

    # ---------------------------------------------------------------------------------------------------- keys

    def _auth(self, params: Parameters, caller: _Caller, now_ns: int) -> object:
        grant = params.get("grant_type")
        if grant == "client_credentials":
            good = self._is_secret(params.get("client_secret"))
        elif grant == "client_signature":
            good = self._is_signature(params, now_ns)
        elif grant == "refresh_token":
            good = self._rights(str(params.get("refresh_token")), now_ns) is not None
        else:
            raise _Refused(INVALID_PARAMS, "invalid", "grant_type")
        if not good or (grant != "refresh_token" and not self._is_client(params.get("client_id"))):
            raise _Refused(INVALID_CREDENTIALS)
        caller.scope = frozenset(self.scope.split())
        token = f"{len(self._tokens)}.simulated"
        self._tokens[token] = caller.scope, now_ns + TOKEN_SECONDS * SECOND_NS
        return {
            "access_token": token,
            "token_type": "bearer",
            "expires_in": TOKEN_SECONDS,
            "refresh_token": token,
            "scope": self.scope,
            "enabled_features": [],
        }

    def _is_client(self, client_id: object) -> bool:
        return isinstance(client_id, str) and self._simulation.key_id in {None, client_id}

    def _is_secret(self, secret: object) -> bool:
        return isinstance(secret, str) and (self._secret is None or hmac.compare_digest(secret.encode(), self._secret))

    def _is_signature(self, params: Parameters, now_ns: int) -> bool:
        timestamp, nonce, data = (str(params.get(k, "")) for k in ("timestamp", "nonce", "data"))
        return bool(nonce) and self._is_signed(timestamp, grant_text(timestamp, nonce, data), params, now_ns)

    def _is_signed(self, timestamp: str, text: bytes, params: Mapping[str, object], now_ns: int) -> bool:
        if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 20):
            return False
        if abs(now_ns // 1_000_000 - int(timestamp)) > SKEW_MS_MAX:
            return False
        given = str(params.get("signature", "")).encode()
        return bool(given) and (
            self._secret is None
            or hmac.compare_digest(given, hmac.new(self._secret, text, "sha256").hexdigest().encode())
        )

    def _rights(self, token: str, now_ns: int) -> frozenset[str] | None:
        scope, until = self._tokens.get(token, (frozenset[str](), 0))
        return scope if now_ns < until else None

    def _get_account_summary(self, params: Parameters, caller: _Caller, now_ns: int) -> object:
        token = params.get("access_token")
        scope = caller.scope if token is None else self._rights(str(token), now_ns)
        if scope is None:
            raise _Refused(UNAUTHORIZED, "invalid_token" if token is not None else "", "access_token")
        if not scope & {"account:read", "account:read_write"}:
            raise _Refused(FORBIDDEN)
        return {"id": 1, "username": "simulated", "type": "main", "summaries": []}

    # ----------------------------------------------------------------------------------------------------- HTTP

    def refuses(self, method: str, path: str, headers: Mapping[str, str], now_ns: int) -> Answer | None:
        """The WebSocket is open to everyone, up to a number of connections."""
        if sum(connection.ended is None for connection in self._connections) >= CONNECTIONS_MAX:
            return Answer(429, b'{"error":"too many connections"}')
        return None

    def answer(self, method: str, target: str, headers: Mapping[str, str], now_ns: int, body: bytes = b"") -> Answer:
        path, _, query = target.partition("?")
        name = path.removeprefix(REST_ROOT + "/")
        if not path.startswith(REST_ROOT + "/"):
            return Answer(404, b'{"error":"not found"}')
        try:
            if method != "GET":
                raise _Refused(BAD_REQUEST)
            params: Parameters = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=100))
            if name in {"public/subscribe", "public/unsubscribe", "public/set_heartbeat", "private/subscribe"}:
                raise _Refused(ONLY_WEBSOCKET)
            self._http.scope = self._authorized(method, target, headers, now_ns)
            return Answer(200, _reply(None, "result", self.call(name, params, self._http, now_ns), now_ns))
        except ValueError:
            return Answer(400, _reply(None, "error", _Refused(BAD_REQUEST).error, now_ns))
        except _Refused as refused:
            status = 401 if refused.code == UNAUTHORIZED else 400
            return Answer(status, _reply(None, "error", refused.error, now_ns))

    def _authorized(self, method: str, target: str, headers: Mapping[str, str], now_ns: int) -> frozenset[str] | None:
        """The rights that an Authorization header gives; None if there is none. Raises _Refused if it is wrong."""
        scheme, _, rest = headers.get("authorization", "").partition(" ")
        if not scheme:
            return None
        if scheme.lower() == "bearer":
            scope = self._rights(rest, now_ns)
            if scope is None:
                raise _Refused(UNAUTHORIZED, "invalid_token", "access_token")
            return scope
        if scheme == SCHEME:
            given = dict(part.strip().partition("=")[::2] for part in rest.split(","))
            text = request_text(given.get("ts", ""), given.get("nonce", ""), method, target)
            good = self._is_signed(given.get("ts", ""), text, {"signature": given.get("sig", "")}, now_ns)
        else:
            given_id, _, secret = base64.b64decode(rest).decode(errors="replace").partition(":")
            given, good = {"id": given_id}, scheme == "Basic" and self._is_secret(secret)
        if not good or not self._is_client(given.get("id")):
            raise _Refused(INVALID_CREDENTIALS)
        return frozenset(self.scope.split())


def _change(instrument: Instrument, message: _Book) -> None:
    book = instrument.book
    if not message.prev_change_id:
        book.clear()
    for side, changes in (("bids", message.bids), ("asks", message.asks)):
        book.apply(side, changes)
    book.change_id, book.ts_ms, book.known = message.change_id, message.timestamp, True


def _pairs(levels: Iterable[tuple[bytes, bytes]]) -> list[list[msgspec.Raw]]:
    return [[msgspec.Raw(price), msgspec.Raw(amount)] for price, amount in levels]


def _integer(params: Parameters, name: str, otherwise: int) -> int:
    """HTTP has texts. Raises _Refused."""
    given = params.get(name, otherwise)
    if (
        isinstance(given, bool)
        or not isinstance(given, int | str)
        or (isinstance(given, str) and not given.isdecimal())
    ):
        raise _Refused(INVALID_PARAMS, "must be integer", name)
    return int(given)


def _reply(number: object, kind: str, content: object, now_ns: int) -> bytes:
    """A JSON-RPC answer; `usDiff` is what the venue took for it."""
    us = now_ns // 1000
    head: dict[str, object] = {"jsonrpc": "2.0"} | ({} if number is None else {"id": number})
    return _encode({**head, kind: content, "usIn": us, "usOut": us + 400, "usDiff": 400, "testnet": False})


# ------------------------------------------------------------------------------------------------------ connection


class DeribitConnection:
    """The server's grammar on one connection."""

    def __init__(self, simulator: DeribitSimulator) -> None:
        self._simulator = simulator
        self._caller = _Caller()
        self._channels: dict[str, Place] = {}
        self._routes: dict[tuple[str, str | None], tuple[str, ...]] = {}
        self._tickers: dict[str, dict[str, msgspec.Raw]] = {}  # what incremental_ticker has told
        self._ended: tuple[int, str] | None = None
        self._interval_ns = 0
        self._next_beat_ns = 0
        self._asked_ns = 0  # when the first test_request that is not answered was sent
        self._heard_ns = 0
        self._busy = False  # something was sent since the last heartbeat

    @property
    def subscriptions(self) -> int:
        return len(self._channels)

    @property
    def ended(self) -> tuple[int, str] | None:
        return self._ended

    # ------------------------------------------------------------------------------------------- market data

    def market(self, record: Record) -> Sequence[bytes]:
        if self._ended is not None:
            return ()
        detail = cast(Detail, record.detail)
        if self._simulator.verbatim:
            wires = [record.wire] if detail.name in self._channels else []
        else:
            names = self._routes.get((record.channel, record.symbol))
            if names is None:
                names = self._route(record.channel, record.symbol)
            wires = [b"%b%b%b" % (_HEAD, name.encode(), detail.tail) for name in names]
            if record.symbol is not None:
                wires += self._derived(record.channel, record.symbol)
        self._busy = self._busy or bool(wires)
        return wires

    def _route(self, channel: str, symbol: str | None) -> tuple[str, ...]:
        instrument = self._simulator.exchange.instruments.get(symbol or "")
        found = tuple(
            name for name, p in self._channels.items() if p.channel == channel and _about(p, symbol, instrument)
        )
        self._routes[channel, symbol] = found
        return found

    def _derived(self, channel: str, symbol: str) -> list[bytes]:
        """Channels that tell the same in another form."""
        if channel == "book":
            names = self._routes.get(("book_grouped", symbol))
            return [self._window(n) for n in (self._route("book_grouped", symbol) if names is None else names)]
        if channel == "ticker":
            names = self._routes.get(("incremental_ticker", symbol))
            return [self._increment(n) for n in (self._route("incremental_ticker", symbol) if names is None else names)]
        return []

    def _window(self, name: str) -> bytes:
        """The best levels; a price step is accepted, but not applied."""
        instrument = self._simulator.exchange.instruments[cast(str, self._channels[name].symbol)]
        book = instrument.book
        depth = int(name.rsplit(".", 2)[1])
        data = {
            "timestamp": book.ts_ms,
            "instrument_name": instrument.name,
            "change_id": book.change_id,
            "bids": _pairs(book.levels("bids", depth)),
            "asks": _pairs(book.levels("asks", depth)),
        }
        return notification(name, _encode(data))

    def _increment(self, name: str) -> bytes:
        ticker = self._simulator.exchange.instruments[cast(str, self._channels[name].symbol)].ticker
        told = self._tickers.get(name)
        always = {"timestamp", "instrument_name"}
        new = {k: v for k, v in ticker.items() if told is None or k in always or bytes(told.get(k, b"")) != bytes(v)}
        self._tickers[name] = ticker
        return notification(name, _encode({"type": "snapshot" if told is None else "change", **new}))

    def covers(self, contents: Iterable[tuple[str, str | None]]) -> bool:
        return all(self._routes.get(where) or self._route(*where) for where in contents)

    def overflow(self) -> Sequence[bytes]:
        """The venue hangs up on a client that reads too slowly."""
        self._ended = (1008, "connection_too_slow")
        return ()

    # ------------------------------------------------------------------------------------------------ heartbeats

    def heartbeat(self, now_ns: int) -> None:
        """It sends no Pings."""
        return None

    def due(self, now_ns: int) -> Sequence[bytes]:
        if self._ended is not None:
            return ()
        if not self._heard_ns:
            self._heard_ns = now_ns
        if self._asked_ns and now_ns - self._asked_ns >= UNANSWERED_NS:
            self._ended = HEARTBEAT_CLOSE
        elif not self._interval_ns and not self._channels and now_ns - self._heard_ns >= IDLE_NS:
            self._ended = HANG_UP
        elif self._interval_ns and now_ns >= self._next_beat_ns:
            self._next_beat_ns = now_ns + self._interval_ns + HEARTBEAT_LATE_NS
            self._asked_ns = self._asked_ns or now_ns
            busy, self._busy = self._busy, False
            return [_TEST_REQUEST] if busy else [_HEARTBEAT, _TEST_REQUEST]
        return ()

    # ----------------------------------------------------------------------------------------------- calls

    def received(self, wire: bytes, now_ns: int) -> Sequence[bytes]:
        if self._ended is not None:
            return ()
        self._heard_ns = now_ns
        number: object = None
        try:
            try:
                call = _decode_any(wire)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                raise _Refused(BAD_REQUEST) from None
            if not isinstance(call, dict) or not isinstance(call.get("method"), str) or call.get("jsonrpc") != "2.0":
                raise _Refused(BAD_REQUEST)
            given = call.get("id")
            number = given if isinstance(given, int | str) and not isinstance(given, bool) else None
            params = call.get("params", {})
            if not isinstance(params, dict):
                raise _Refused(INVALID_PARAMS)
            return self._call(call["method"], params, number, now_ns)
        except _Refused as refused:
            if refused.code == TOO_MANY_REQUESTS:
                self._ended = (1008, "too_many_requests")
            return [_reply(number, "error", refused.error, now_ns)]

    def _call(self, method: str, params: Parameters, number: object, now_ns: int) -> list[bytes]:
        data: list[bytes] = []
        if method in {"public/subscribe", "private/subscribe"}:
            self._caller.spend(method, now_ns)
            if method == "private/subscribe" and self._caller.scope is None:
                raise _Refused(UNAUTHORIZED)
            result, data = self._subscribe(params)
        elif method in {"public/unsubscribe", "private/unsubscribe"}:
            self._caller.spend(method, now_ns)
            result = self._unsubscribe(_channels(params))
        elif method in {"public/unsubscribe_all", "private/unsubscribe_all"}:
            self._caller.spend(method, now_ns)
            self._unsubscribe(list(self._channels))
            result = "ok"
        elif method == "public/set_heartbeat":
            self._set_heartbeat(params, now_ns)
            result = "ok"
        elif method == "public/disable_heartbeat":
            self._interval_ns = self._asked_ns = 0
            result = "ok"
        else:
            result = self._simulator.call(method, params, self._caller, now_ns)
            if method == "public/test":
                self._asked_ns = 0
        return [_reply(number, "result", result, now_ns), *data]

    def _set_heartbeat(self, params: Parameters, now_ns: int) -> None:
        interval = params.get("interval")
        if isinstance(interval, bool) or not isinstance(interval, int | float) or interval < HEARTBEAT_SECONDS_MIN:
            raise _Refused(INVALID_PARAMS, f"must be at least {HEARTBEAT_SECONDS_MIN}", "interval")
        self._interval_ns = int(interval * SECOND_NS)
        self._next_beat_ns = now_ns + self._interval_ns + 2 * SECOND_NS  # seen: the first after 12 s
        self._asked_ns = 0

    def _subscribe(self, params: Parameters) -> tuple[object, list[bytes]]:
        """An unknown channel, instrument or interval is left out without a word; one that is there already is acked,
        but sends nothing anew. A raw interval without authentication fails the whole call."""
        places = {name: place(name) for name in _channels(params)}
        if self._caller.scope is None and any(p is not None and p.interval == "raw" for p in places.values()):
            raise _Refused(RAW_UNAUTHORIZED)
        accepted = {name: p for name, p in places.items() if p is not None and self._exists(name, p)}
        new = [name for name in accepted if name not in self._channels]
        self._channels |= accepted
        self._routes.clear()
        return sorted(accepted, reverse=True), [wire for name in new for wire in self._first(name, accepted[name])]

    def _exists(self, name: str, p: Place) -> bool:
        if p.interval is not None and p.interval not in INTERVALS:
            return False
        if p.channel == "book_grouped" and (name.rsplit(".", 2)[1] not in WINDOWS or p.interval == "raw"):
            return False
        if p.scope and (p.scope[-1] not in CURRENCIES or not KINDS.issuperset(p.scope[:-1])):
            return False
        exchange = self._simulator.exchange
        return p.symbol is None or p.symbol in (exchange.indices if p.channel in INDEXED else exchange.instruments)

    def _first(self, name: str, p: Place) -> list[bytes]:
        """What a new subscription brings at once. Of a recording's book that it has not told of yet there is nothing:
        the recorded snapshot will come."""
        instrument = self._simulator.exchange.instruments.get(p.symbol or "")
        if instrument is None:
            return []
        if p.channel == "book" and instrument.book.known:
            return [notification(name, _snapshot(instrument))]
        if p.channel == "book_grouped" and instrument.book.known:
            return [self._window(name)]
        if p.channel == "ticker" and instrument.ticker:
            return [notification(name, _encode(instrument.ticker))]
        if p.channel == "incremental_ticker" and instrument.ticker:
            return [self._increment(name)]
        return []

    def _unsubscribe(self, names: Iterable[str]) -> object:
        gone = [name for name in names if self._channels.pop(name, None) is not None]
        for name in gone:
            self._tickers.pop(name, None)
        self._routes.clear()
        return gone


def _snapshot(instrument: Instrument) -> bytes:
    book = instrument.book
    sides = {side: [["new", *pair] for pair in _pairs(book.levels(side))] for side in ("bids", "asks")}
    return _encode(
        {
            "type": "snapshot",
            "timestamp": book.ts_ms,
            "instrument_name": instrument.name,
            "change_id": book.change_id,
            **sides,
        }
    )


def _channels(params: Parameters) -> list[str]:
    given = params.get("channels")
    if not isinstance(given, list) or not all(isinstance(c, str) for c in given):
        raise _Refused(INVALID_PARAMS, "must be a list of strings", "channels")
    if len(given) > CHANNELS_PER_CALL_MAX:
        raise _Refused(INVALID_PARAMS, "too many channels", "channels")
    return list(dict.fromkeys(given))


def _about(p: Place, symbol: str | None, instrument: Instrument | None) -> bool:
    """Whether a channel tells of this instrument or index."""
    if p.symbol is not None:
        return p.symbol == symbol
    if not p.scope or instrument is None:
        return True
    kind, currency = p.scope
    return kind in {"any", instrument.kind.kind} and currency in {"any", instrument.kind.currency}
