"""Kalshi's side of the conversation: signatures, subscriptions, numbering, errors, REST; told by a tape or a generator.

What is simulated and where it comes from is written beside it; where the venue's behaviour is not known, the
simulator does what gives the client the least help.
"""

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeGuard, TypeVar, cast
from urllib.parse import parse_qsl, unquote

import msgspec

from exchanges.kalshi.generator import TURNOVER_SECONDS, Generator
from exchanges.kalshi.markets import FILTERS, STATES, Exchange, Level, Market, Trade, complement, rfc3339
from exchanges.kalshi.messages import BUFFER_OVERFLOW, CHANNELS, EVENT_TYPES, FIREHOSE, UNFILTERED, UNSEQUENCED
from exchanges.kalshi.signing import (
    KEY_HEADER,
    REST_ROOT,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    public_key,
    signed_text,
    verified,
)
from exchanges.port import Answer, Record, Simulation, Unparsable

_T = TypeVar("_T")

WS_PATH = "/trade-api/ws/v2"
SKEW_MS_MAX = 30_000  # not documented; 30 s was accepted ahead and refused behind, a minute was refused
MARKETS_PER_SUBSCRIPTION_MAX = 256  # not documented either
HEARTBEAT_NS = 10_000_000_000
LIVE_NS = 90 * 86_400 * 1_000_000_000  # what is older is under /historical; two to three months have been seen
HEARTBEAT = b"heartbeat"

BOOK = "orderbook_delta"
_PRIVATE = {"fill", "market_positions", "user_orders", "order_group_updates", "communications"}  # silent here
_REFERENCE = {"cfbenchmarks_value": 24, "cfbenchmarks_value_5hz": 24, "pyth_value": 28}  # error if its list is missing
_LISTS = {24: "index_ids", 28: "underlying_tickers"}
KNOWN_CHANNELS = frozenset({*CHANNELS.values(), *_PRIVATE, *_REFERENCE})

ERRORS = {
    1: "Unable to process message",
    2: "Params required",
    3: "Channels required",
    4: "Subscription IDs required",
    5: "Unknown command",
    7: "Unknown subscription ID",
    8: "Unknown channel name",
    10: "Channel error",
    11: "Invalid parameter",
    12: "Exactly one subscription ID is required",
    13: "Unsupported action",
    14: "Market Ticker required",
    15: "Action required",
    24: "Index IDs required",
    25: "Subscription buffer overflow",
    26: "Market limit per subscription exceeded",
    28: "Underlying tickers required",
}

# ---------------------------------------------------------------------------------------------------------- frames


class _Line(msgspec.Struct, gc=False):
    """A line of a recording."""

    recv_ms: int
    event: msgspec.Raw


class _Message(msgspec.Struct, gc=False):
    """What the simulator needs to know of a market-data message."""

    market_ticker: str | None = None
    event_ticker: str | None = None
    market_id: str = ""
    event_type: str = ""
    result: str = ""
    side: str = ""
    price_dollars: str = ""
    delta_fp: str = ""
    yes_dollars_fp: list[Level] | None = None
    no_dollars_fp: list[Level] | None = None


class _Frame(msgspec.Struct, gc=False):
    type: str
    msg: _Message
    sid: int = 0
    seq: int = 0


class _Type(msgspec.Struct, gc=False):
    type: str


class Detail(NamedTuple):
    """A record, ready to be numbered: what comes after the numbers, and whether a seq is one of them.

    `tail` None: the head is not as the venue writes it, so numbering must encode the frame anew.
    """

    message: _Message
    start: bytes
    tail: bytes | None
    sequenced: bool
    sid: int = 0  # as recorded


_decode_line = msgspec.json.Decoder(_Line).decode
_decode_type = msgspec.json.Decoder(_Type).decode
_decode_frame = msgspec.json.Decoder(_Frame).decode
_decode_trade = msgspec.json.Decoder(Trade).decode
_decode_parts = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_STARTS = {kind: b'{"type":"%b","sid":' % kind.encode() for kind in CHANNELS}


def record(ts_ns: int, wire: bytes) -> Record | None:
    """A market-data frame as a record; None if it is something else. Raises Unparsable."""
    try:
        frame = _decode_frame(wire)
    except msgspec.DecodeError as e:
        _check_no_data(wire, e)
        return None
    kind = frame.type
    channel = CHANNELS.get(kind)
    if channel is None:
        return None
    message = frame.msg
    symbol = message.event_ticker if kind in EVENT_TYPES else message.market_ticker
    if not symbol:
        raise Unparsable(f"{kind} names no instrument")
    start = _STARTS[kind]
    head = b'%b%d,"seq":%d,' % (start, frame.sid, frame.seq) if frame.seq else b"%b%d," % (start, frame.sid)
    tail = wire[len(head) :] if wire.startswith(head) and wire.startswith(b'"msg":', len(head)) else None
    return Record(ts_ns, kind, channel, symbol, wire, Detail(message, start, tail, frame.seq > 0, frame.sid))


def _check_no_data(wire: bytes, error: msgspec.DecodeError) -> None:
    """Recordings also hold answers to the recorder's commands, whose `msg` may be missing or a list."""
    try:
        kind = _decode_type(wire).type
    except msgspec.DecodeError:
        raise Unparsable(f"its event is no frame of Kalshi's: {error}") from error
    if kind in CHANNELS:
        raise Unparsable(f"its event is no {kind} of Kalshi's: {error}") from error


def numbered(record: Record, sid: int, seq: int) -> bytes:
    """The record's frame under these numbers, every other byte as it was."""
    detail = cast(Detail, record.detail)
    if detail.tail is not None:
        if detail.sequenced:
            return b'%b%d,"seq":%d,%b' % (detail.start, sid, seq, detail.tail)
        return b"%b%d,%b" % (detail.start, sid, detail.tail)
    parts = _decode_parts(record.wire)
    parts["sid"] = msgspec.Raw(b"%d" % sid)
    if detail.sequenced:
        parts["seq"] = msgspec.Raw(b"%d" % seq)
    return _encode(parts)


# ------------------------------------------------------------------------------------------------------- simulator


class KalshiSimulator:
    """One simulated exchange; many connections."""

    ws_path = WS_PATH

    def __init__(self, simulation: Simulation) -> None:
        self._key_id = simulation.key_id
        self._public = None if simulation.public_key is None else public_key(simulation.public_key)
        self.markets_per_subscription_max = MARKETS_PER_SUBSCRIPTION_MAX
        self.scopes = ["read"]  # of the key
        self.live_ns = LIVE_NS
        self.exchange = Exchange()
        self._recorded: set[str] = set()
        self.verbatim = simulation.recorded is not None
        self._sids: dict[tuple[str, str | None], int] = {}  # of an archived day: channel and market (None: any)
        self.last_recorded_sid = 0
        self._simulation = simulation
        self._generator: Generator | None = None

    # ------------------------------------------------------------------------------------------- what happens

    def record(self, line: bytes) -> Record | None:
        try:
            content = _decode_line(line)
        except (msgspec.DecodeError, RecursionError) as e:
            raise Unparsable(f'it is not like {{"recv_ms":1786410915524,"event":{{…}}}}: {e}') from e
        try:
            return record(content.recv_ms * 1_000_000, bytes(content.event))
        except RecursionError as e:
            raise Unparsable("its event is nested too deeply") from e

    def archived(self, ts_ns: int, wire: bytes) -> Record | None:
        try:
            found = record(ts_ns, wire)
        except RecursionError as e:
            raise Unparsable("it is nested too deeply") from e
        if found is not None:
            sid = cast(Detail, found.detail).sid
            self._sids.setdefault((found.channel, found.symbol), sid)
            self._sids.setdefault((found.channel, None), sid)
            self.last_recorded_sid = max(self.last_recorded_sid, sid)
        return found

    def recorded_sid(self, channel: str, markets: Sequence[str]) -> int:
        """Under which sid an archived day has a channel, of the first of these markets; 0 if it has nothing of it."""
        named = (self._sids.get((channel, market), 0) for market in markets)
        return next(filter(None, named), self._sids.get((channel, None), 0))

    def load(self, contents: Iterable[tuple[str, str | None]], first_ns: int, last_ns: int) -> None:
        self.exchange = Exchange()
        for channel, symbol in sorted(contents, key=str):
            if symbol is not None and symbol not in self.exchange.markets and channel not in UNFILTERED:
                self.exchange.open(Market(symbol, first_ns, last_ns))
        self._recorded = set(self.exchange.markets)

    def apply(self, record: Record) -> None:
        kind = record.kind
        detail = cast(Detail, record.detail)
        message = detail.message
        market = self.exchange.markets.get(record.symbol or "")
        if market is None:
            if kind in EVENT_TYPES or not message.market_ticker:
                return
            market = Market(message.market_ticker, record.ts_ns, record.ts_ns)
            self.exchange.open(market)
        if message.market_id:
            market.market_id = message.market_id
        if kind == "orderbook_delta":
            market.book.add(message.side, message.price_dollars, message.delta_fp)
        elif kind == "orderbook_snapshot":
            market.book.set(message.yes_dollars_fp, message.no_dollars_fp)
        elif kind == "trade":
            self.exchange.trade(_trade(record))
        elif kind == "ticker":
            market.quotes = detail.tail
        elif message.event_type in STATES and market.ticker not in self._recorded:
            # A recording's market stays open: a client that comes back must find it, or miss its last frames.
            market.state = STATES[message.event_type]
            market.result = message.result or market.result

    def generate(self, now_ns: int) -> Sequence[Record]:
        if self._generator is None:
            simulation = self._simulation
            self._generator = Generator(
                simulation.seed,
                simulation.markets,
                simulation.frames_per_second,
                now_ns,
                self.exchange,
                simulation.turnover_seconds or TURNOVER_SECONDS,
            )
        happened = []
        for ts_ns, kind, message in self._generator.until(now_ns):
            head = b'{"type":"%b","sid":0,' % kind.encode() + (b"" if kind in UNSEQUENCED else b'"seq":1,')
            new = record(ts_ns, head + b'"msg":%b}' % _encode(message))
            assert new is not None
            self.apply(new)
            happened.append(new)
        return happened

    def connect(self) -> "KalshiConnection":
        return KalshiConnection(self)

    # ------------------------------------------------------------------------------------------------ signature

    def refuses(self, method: str, path: str, headers: Mapping[str, str], now_ns: int) -> Answer | None:
        if self._public is None:
            return None
        key_id = headers.get(KEY_HEADER.lower(), "")
        timestamp = headers.get(TIMESTAMP_HEADER.lower(), "")
        signature = headers.get(SIGNATURE_HEADER.lower(), "")
        if not (key_id and timestamp and signature):
            return _error(401, "authentication_error", "missing authentication headers")
        if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 20):
            return _error(401, "authentication_error", "invalid timestamp")
        if abs(now_ns // 1_000_000 - int(timestamp)) > SKEW_MS_MAX:
            return _error(401, "header_timestamp_expired", "header timestamp expired")
        if self._key_id is not None and key_id != self._key_id:
            return _error(401, "authentication_error", None, "NOT_FOUND")
        if not verified(self._public, signature, signed_text(timestamp, method, path)):
            return _error(401, "authentication_error", "authentication_error", "INCORRECT_API_KEY_SIGNATURE")
        return None

    # ----------------------------------------------------------------------------------------------------- REST

    def answer(self, method: str, target: str, headers: Mapping[str, str], now_ns: int, body: bytes = b"") -> Answer:
        path, _, query = target.partition("?")
        if method != "GET":
            return _error(405, "method_not_allowed", f"{method} is not allowed")
        if not path.startswith(REST_ROOT + "/"):
            return _error(404, "not_found", "not found")
        parts = [unquote(part) for part in path.removeprefix(REST_ROOT + "/").split("/")]
        try:
            q = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=100))
            return self._rest(parts, path, q, headers, now_ns)
        except ValueError as e:
            return _error(400, "bad_request", str(e))

    def _rest(
        self, parts: list[str], path: str, query: dict[str, str], headers: Mapping[str, str], now_ns: int
    ) -> Answer:
        exchange = self.exchange
        cutoff_ns = max(0, now_ns - self.live_ns)
        match parts:
            case ["exchange", "status"]:
                return _ok({"exchange_active": True, "exchange_estimated_resume_time": None, "trading_active": True})
            case ["markets"]:
                return self._markets(query, lambda m: m.over_ns is None or m.over_ns >= cutoff_ns)
            case ["markets", "trades"]:
                return self._trades(query, lambda ts_ns: ts_ns >= cutoff_ns)
            case ["historical", "cutoff"]:
                names = ("market_settled_ts", "trades_created_ts", "orders_updated_ts")
                return _ok(dict.fromkeys(names, rfc3339(cutoff_ns)))
            case ["historical", "markets"]:
                if len({"tickers", "event_ticker", "series_ticker"} & {k for k, v in query.items() if v}) > 1:
                    raise ValueError("tickers, event_ticker and series_ticker exclude each other")
                return self._markets(query, lambda m: m.over_ns is not None and m.over_ns < cutoff_ns)
            case ["historical", "trades"] if query.get("ticker", "") in {"", *exchange.markets}:
                return self._trades(query, lambda ts_ns: ts_ns < cutoff_ns)
            case ["markets", ticker] if ticker in exchange.markets:
                return _ok({"market": exchange.markets[ticker].object()})
            case ["markets", ticker, "orderbook"] if ticker in exchange.markets:
                return self._order_book(exchange.markets[ticker], query)
            case ["series"]:
                return _ok({"series": self._series()})
            case ["series", "fee_changes"]:
                return _ok({"series_fee_change_arr": []})
            case ["events"]:
                return self._events(query)
            case ["events", ticker] if ticker in exchange.events:
                return _ok({"event": exchange.events[ticker], "markets": self._nested(ticker)})
            case ["portfolio", "balance"]:
                balance = {
                    "balance": 100_000,
                    "portfolio_value": 0,
                    "updated_ts": now_ns // 1_000_000_000,
                    "balance_dollars": "1000.0000",
                }
                return self.refuses("GET", path, headers, now_ns) or _ok(balance)
            case ["api_keys"]:
                key = {"api_key_id": headers.get(KEY_HEADER.lower(), ""), "name": "simulated", "scopes": self.scopes}
                return self.refuses("GET", path, headers, now_ns) or _ok({"api_keys": [key]})
        return _error(404, "not_found", "not found")

    def _series(self) -> list[dict[str, object]]:
        names = dict.fromkeys(m.series_ticker for m in self.exchange.markets.values())
        told = {"category": "Simulated", "fee_type": "quadratic", "fee_multiplier": 1, "frequency": "custom"}
        return [{"ticker": name, "title": name, **told} for name in names]

    def _markets(self, query: dict[str, str], kept: Callable[[Market], bool]) -> Answer:
        """Those that are `kept` on this side of the cutoff."""
        status = query.get("status", "")
        if status and status not in FILTERS:
            raise ValueError(f"status {status!r} is none of {', '.join(FILTERS)}")
        tickers = set(filter(None, query.get("tickers", "").split(",")))
        found = [
            m
            for m in self.exchange.markets.values()
            if kept(m)
            and (not status or m.state in FILTERS[status])
            and query.get("series_ticker", m.series_ticker) == m.series_ticker
            and query.get("event_ticker", m.event_ticker) == m.event_ticker
            and (not tickers or m.ticker in tickers)
        ]
        page, cursor = _page(found, lambda m: m.ticker, query, 100, 1000)
        return _ok({"cursor": cursor, "markets": [m.object() for m in page]})

    def _events(self, query: dict[str, str]) -> Answer:
        status = query.get("status", "")
        if status and status not in FILTERS:
            raise ValueError(f"status {status!r} is none of {', '.join(FILTERS)}")
        alive = {m.event_ticker for m in self.exchange.markets.values() if not status or m.state in FILTERS[status]}
        found = [
            e
            for ticker, e in self.exchange.events.items()
            if ticker in alive and query.get("series_ticker", e["series_ticker"]) == e["series_ticker"]
        ]
        page, cursor = _page(found, lambda e: str(e["event_ticker"]), query, 200, 200)
        if query.get("with_nested_markets") == "true":
            page = [{**e, "markets": self._nested(str(e["event_ticker"]))} for e in page]
        return _ok({"cursor": cursor, "events": page})

    def _nested(self, event_ticker: str) -> list[dict[str, object]]:
        return [m.object() for m in self.exchange.markets.values() if m.event_ticker == event_ticker]

    def _trades(self, query: dict[str, str], kept: Callable[[int], bool]) -> Answer:
        """Newest first, of those `kept` on this side of the cutoff; both ends of the window are included."""
        limit = _limit(query, 100, 1000)
        low, high = int(query.get("min_ts", 0)), int(query.get("max_ts", 1 << 40))
        before = _from_cursor(query.get("cursor", ""))
        ticker = query.get("ticker")
        page: list[dict[str, object]] = []
        last = 0
        for number, trade in reversed(self.exchange.trades):
            if before.isdigit() and number >= int(before):
                continue
            if (
                ticker in {None, trade.market_ticker}
                and low <= trade.time_ms // 1000 <= high
                and kept(trade.time_ms * 1_000_000)
            ):
                if len(page) == limit:
                    return _ok({"cursor": _to_cursor(str(last)), "trades": page})
                page.append(trade.object())
                last = number
        return _ok({"cursor": "", "trades": page})

    def _order_book(self, market: Market, query: dict[str, str]) -> Answer:
        depth = int(query.get("depth", 0))
        if not 0 <= depth <= 100:
            raise ValueError("depth is from 0 (all) to 100")
        sides = {f"{side}_dollars": market.book.levels(side)[-depth:] for side in ("yes", "no")}
        return _ok({"orderbook_fp": sides})


def _trade(record: Record) -> Trade:
    detail = cast(Detail, record.detail)
    raw = detail.tail[6:-1] if detail.tail is not None else bytes(_decode_parts(record.wire)["msg"])
    try:
        return _decode_trade(raw)
    except msgspec.DecodeError as e:
        raise Unparsable(f"its trade is not as Kalshi documents: {e}") from e


def _ok(content: dict[str, object]) -> Answer:
    return Answer(200, _encode(content))


def _error(status: int, code: str, message: str | None, details: str | None = None) -> Answer:
    said = {"code": code, "message": message, "details": details}
    return Answer(status, _encode({"error": {k: v for k, v in said.items() if v is not None}}))


def _page(
    found: list[_T], key: Callable[[_T], str], query: dict[str, str], default: int, most: int
) -> tuple[list[_T], str]:
    """One page in the order of the key, and the cursor: it names the last key given, so new entries do not shift it."""
    limit = _limit(query, default, most)
    after = _from_cursor(query.get("cursor", ""))
    rest = sorted((entry for entry in found if key(entry) > after), key=key)
    return rest[:limit], _to_cursor(key(rest[limit - 1])) if len(rest) > limit else ""


def _limit(query: dict[str, str], default: int, most: int) -> int:
    limit = int(query.get("limit", default))
    if not 1 <= limit <= most:
        raise ValueError(f"limit is from 1 to {most}")
    return limit


def _to_cursor(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def _from_cursor(cursor: str) -> str:
    """A cursor that is none is ignored, as the venue is reported to do."""
    try:
        return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except ValueError:
        return ""


# ------------------------------------------------------------------------------------------------------ connection


class _Subscription:
    """A sid: one counter for all its markets (None: all there are), used by answers on it too."""

    __slots__ = ("channel", "markets", "quiet", "seq", "sequenced", "sid", "yes_price")

    def __init__(self, sid: int, channel: str, markets: dict[str, None] | None, params: dict[str, object]) -> None:
        self.sid = sid
        self.channel = channel
        self.markets = None if channel in UNFILTERED else markets
        self.seq = 0
        self.sequenced = channel not in UNSEQUENCED
        self.yes_price = channel == BOOK and params.get("use_yes_price") is True
        self.quiet = params.get("skip_ticker_ack") is True

    def numbers(self) -> dict[str, object]:
        """The sid and, on channels that have one, the next seq."""
        if not self.sequenced:
            return {"sid": self.sid}
        self.seq += 1
        return {"sid": self.sid, "seq": self.seq}


class _Refused(Exception):
    """A command that fails with an error code."""

    def __init__(self, code: int, subscription: _Subscription | None = None) -> None:
        super().__init__(ERRORS[code])
        self.code = code
        self.subscription = subscription


class KalshiConnection:
    """The server's grammar on one connection."""

    def __init__(self, simulator: KalshiSimulator) -> None:
        self._simulator = simulator
        self._subscriptions: dict[int, _Subscription] = {}
        self._last_sid = simulator.last_recorded_sid
        self._routes: dict[tuple[str, str | None], tuple[_Subscription, ...]] = {}
        self._beat_ns: int | None = None
        self._commands: dict[str, Callable[[dict[str, object], int | None, dict[str, object]], list[bytes]]] = {
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "update_subscription": self._update,
        }

    @property
    def subscriptions(self) -> int:
        return len(self._subscriptions)

    # ------------------------------------------------------------------------------------------- market data

    def market(self, record: Record) -> Sequence[bytes]:
        subscriptions = self._routes.get((record.channel, record.symbol))
        if subscriptions is None:
            subscriptions = self._route(record.channel, record.symbol)
        if self._simulator.verbatim:
            return (record.wire,) if subscriptions else ()
        frames = []
        for subscription in subscriptions:
            subscription.seq += 1
            wire = numbered(record, subscription.sid, subscription.seq)
            frames.append(_on_yes_scale(wire, record.kind) if subscription.yes_price else wire)
        return frames

    def _route(self, channel: str, symbol: str | None) -> tuple[_Subscription, ...]:
        found = tuple(
            s
            for s in self._subscriptions.values()
            if s.channel == channel and (s.markets is None or symbol in s.markets)
        )
        self._routes[channel, symbol] = found
        return found

    def covers(self, contents: Iterable[tuple[str, str | None]]) -> bool:
        return all(self._routes.get(place) or self._route(*place) for place in contents)

    def overflow(self) -> Sequence[bytes]:
        """Error 25 ends a subscription whose client reads too slowly."""
        return [self.end(sid, BUFFER_OVERFLOW) for sid in list(self._subscriptions)]

    def end(self, sid: int, code: int) -> bytes:
        """End a subscription with a terminal error."""
        subscription = self._subscriptions.pop(sid)
        self._routes.clear()
        return _encode({"type": "error", **subscription.numbers(), "msg": {"code": code, "msg": ERRORS[code]}})

    def heartbeat(self, now_ns: int) -> bytes | None:
        if self._beat_ns is not None and now_ns - self._beat_ns < HEARTBEAT_NS:
            return None
        first = self._beat_ns is None
        self._beat_ns = now_ns
        return None if first else HEARTBEAT

    def due(self, now_ns: int) -> Sequence[bytes]:
        return ()

    @property
    def ended(self) -> None:
        return None

    # ----------------------------------------------------------------------------------------------- commands

    def received(self, wire: bytes, now_ns: int) -> Sequence[bytes]:
        number: int | None = None
        try:
            try:
                command = _decode_any(wire)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                raise _Refused(1) from None
            if not isinstance(command, dict):
                raise _Refused(1)
            given = command.get("id")
            number = given if isinstance(given, int) and not isinstance(given, bool) and given > 0 else None
            return self._command(command, number)
        except _Refused as refused:
            numbers = refused.subscription.numbers() if refused.subscription is not None else {}
            body = {"code": refused.code, "msg": str(refused)}
            return [_encode({**_id(number), "type": "error", **numbers, "msg": body})]

    def _command(self, command: dict[str, object], number: int | None) -> list[bytes]:
        cmd = command.get("cmd")
        if cmd == "list_subscriptions":
            listed = [{"channel": s.channel, "sid": s.sid} for s in self._subscriptions.values()]
            return [_encode({**_id(number), "type": "ok", "msg": listed})]
        run = self._commands.get(cmd) if isinstance(cmd, str) else None
        if run is None:
            raise _Refused(5)
        params = command.get("params")
        if not isinstance(params, dict):
            raise _Refused(2)
        return run(params, number, command)

    def _subscribe(self, params: dict[str, object], number: int | None, command: dict[str, object]) -> list[bytes]:
        channels = params.get("channels")
        if not channels:
            raise _Refused(3)
        if not _is_texts(channels):
            raise _Refused(11)
        markets = _markets(params)
        for channel in channels:
            self._check(channel, markets, params)
        answers, data = [], []
        for channel in dict.fromkeys(channels):
            sid = self._new_sid(channel, markets or [])
            own = None if markets is None else dict.fromkeys(markets)
            subscription = self._subscriptions[sid] = _Subscription(sid, channel, own, params)
            body = {"channel": channel, "sid": sid}
            answers.append(_encode({**_id(number), "type": "subscribed", "msg": body}))
            if channel == BOOK:
                data += self._snapshots(subscription, markets or [])
            elif channel == "ticker" and params.get("send_initial_snapshot") is True:
                data += self._quotes(subscription)
        self._routes.clear()
        return answers + data

    def _new_sid(self, channel: str, markets: list[str]) -> int:
        """The next; of an archived day's channel the one that its frames have."""
        recorded = self._simulator.recorded_sid(channel, markets)
        if recorded and recorded not in self._subscriptions:
            return recorded
        self._last_sid += 1
        return self._last_sid

    def _check(self, channel: str, markets: list[str] | None, params: dict[str, object]) -> None:
        if channel not in KNOWN_CHANNELS:
            raise _Refused(8)
        if channel in _REFERENCE and not params.get(_LISTS[_REFERENCE[channel]]):
            raise _Refused(_REFERENCE[channel])
        if channel == BOOK and not markets:
            raise _Refused(14)
        if channel not in FIREHOSE | {BOOK} and markets:
            raise _Refused(11)
        if channel not in UNFILTERED and markets and len(markets) > self._simulator.markets_per_subscription_max:
            raise _Refused(26)
        if channel != "ticker" and ("market_id" in params or "market_ids" in params):
            raise _Refused(11)
        for flag in ("use_yes_price", "send_initial_snapshot", "skip_ticker_ack"):
            if not isinstance(params.get(flag, False), bool):
                raise _Refused(11)

    def _unsubscribe(self, params: dict[str, object], number: int | None, command: dict[str, object]) -> list[bytes]:
        sids = params.get("sids")
        if not sids:
            raise _Refused(4)
        if not _is_numbers(sids):
            raise _Refused(11)
        if any(sid not in self._subscriptions for sid in sids):
            raise _Refused(7)
        answers = []
        for sid in dict.fromkeys(sids):
            subscription = self._subscriptions.pop(sid)
            answers.append(_encode({**_id(number), **subscription.numbers(), "type": "unsubscribed"}))
        self._routes.clear()
        return answers

    def _update(self, params: dict[str, object], number: int | None, command: dict[str, object]) -> list[bytes]:
        """`action` beside `params` instead of in it counts as none."""
        sids = params.get("sids", [params["sid"]] if "sid" in params else [])
        if not _is_numbers(sids) or len(sids) != 1 or ("sid" in params and "sids" in params):
            raise _Refused(12)
        subscription = self._subscriptions.get(sids[0])
        if subscription is None:
            raise _Refused(7)
        action = params.get("action")
        if action is None:
            raise _Refused(15, subscription)
        if action not in {"add_markets", "delete_markets", "get_snapshot"}:
            raise _Refused(13, subscription)
        try:
            markets = _markets(params)
        except _Refused as refused:
            raise _Refused(refused.code, subscription) from None
        if not markets:
            raise _Refused(14, subscription)
        if subscription.markets is None or (action == "get_snapshot" and subscription.channel != BOOK):
            raise _Refused(13, subscription)
        if action == "get_snapshot":
            return self._snapshots(subscription, [m for m in markets if m in subscription.markets], number)
        if action == "delete_markets":
            for market in markets:
                subscription.markets.pop(market, None)
            self._routes.clear()
            return [self._updated(subscription, number)]
        new = [m for m in dict.fromkeys(markets) if m not in subscription.markets]
        if len(subscription.markets) + len(new) > self._simulator.markets_per_subscription_max:
            raise _Refused(26, subscription)
        subscription.markets.update(dict.fromkeys(new))
        self._routes.clear()
        snapshots = new if subscription.channel == BOOK else []
        return [self._updated(subscription, number), *self._snapshots(subscription, snapshots)]

    def _updated(self, subscription: _Subscription, number: int | None) -> bytes:
        """The full list after the update, unless the client asked to be spared it."""
        body = {} if subscription.quiet else {"msg": {"market_tickers": list(subscription.markets or ())}}
        return _encode({**_id(number), **subscription.numbers(), "type": "ok", **body})

    def _snapshots(self, subscription: _Subscription, markets: Sequence[str], number: int | None = None) -> list[bytes]:
        """One for each market. Of a market that does not exist it is empty, as captures show; of one in a recording
        that has not begun to tell of it there is none: the recorded one will come."""
        frames = []
        for ticker in markets:
            market = self._simulator.exchange.markets.get(ticker)
            if market is not None and not market.book.known:
                continue
            body: dict[str, object] = {"market_ticker": ticker, "market_id": market.market_id if market else ""}
            for side in ("yes", "no") if market is not None else ():
                assert market is not None
                levels = market.book.levels(side)
                if levels:
                    body[f"{side}_dollars_fp"] = levels
            kind = "orderbook_snapshot"
            wire = _encode({"type": kind, **_id(number), **subscription.numbers(), "msg": body})
            frames.append(_on_yes_scale(wire, kind) if subscription.yes_price else wire)
        return frames

    def _quotes(self, subscription: _Subscription) -> list[bytes]:
        known = self._simulator.exchange.markets
        markets = known if subscription.markets is None else subscription.markets
        tails = [known[m].quotes for m in markets if m in known]
        return [b"%b%d,%b" % (_STARTS["ticker"], subscription.sid, tail) for tail in tails if tail is not None]


def _id(number: int | None) -> dict[str, object]:
    return {} if number is None else {"id": number}


def _markets(params: dict[str, object]) -> list[str] | None:
    """The markets of a command; None: not given."""
    if "market_ticker" in params and "market_tickers" in params:
        raise _Refused(11)
    if "market_ticker" in params:
        one = params["market_ticker"]
        if not isinstance(one, str):
            raise _Refused(11)
        return [one]
    if "market_tickers" not in params:
        return None
    many = params["market_tickers"]
    if not _is_texts(many):
        raise _Refused(11)
    return many


def _is_texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(v, str) for v in value)


def _is_numbers(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(isinstance(v, int) and not isinstance(v, bool) for v in value)


def _on_yes_scale(wire: bytes, kind: str) -> bytes:
    """The frame with prices of the NO side as prices of YES (`use_yes_price`)."""
    frame = _decode_any(wire)
    body = frame["msg"]
    if kind == "orderbook_snapshot" and "no_dollars_fp" in body:
        body["no_dollars_fp"] = [[complement(price), size] for price, size in body["no_dollars_fp"]]
    elif kind == "orderbook_delta" and body["side"] == "no":
        body["price_dollars"] = complement(body["price_dollars"])
    return _encode(frame)
