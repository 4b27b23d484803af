"""The server's grammar: the market channel and, beside it, the three REST services on one port.

Where the venue says nothing, neither does this: unknown tokens and empty lists are met with silence, and nothing is
acknowledged. What is no command gets `INVALID OPERATION`, which is unconfirmed.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast
from urllib.parse import parse_qsl

import msgspec

from exchanges.polymarket.generator import Generator
from exchanges.polymarket.markets import Exchange, Fill, Market, Token
from exchanges.polymarket.messages import (
    CUSTOM,
    INVALID,
    KINDS,
    MARKET_WIDE,
    NOTHING_NEW,
    PING,
    PONG,
    TEXTS,
    Item,
    Price,
)
from exchanges.polymarket.signing import HEADERS, Key
from exchanges.port import Answer, Record, Simulation, Unparsable
from ssmd import frames

WS_PATH = "/ws/market"
FIRST_BOOKS_MAX = 500  # tokens on a connection; later ones get changes, but no first book
PAGE_MAX = 100
CLOB_PAGE_MAX = 1000
TRADES_MAX = 10_000
SECOND_NS = 1_000_000_000
END = "LTE="  # the cursor of the order book API that says there is no more

_decode_any = msgspec.json.Decoder().decode
_decode_items = msgspec.json.Decoder(list[Item]).decode
_decode_item = msgspec.json.Decoder(Item).decode
_encode = msgspec.json.Encoder().encode


class _Line(msgspec.Struct):
    """A recorder's line: what went `in` (to it) or `out`, as text."""

    dir: str
    text: str
    ts_local_ms: int


_decode_line = msgspec.json.Decoder(_Line).decode


class Detail(msgspec.Struct, frozen=True):
    """What a recorded frame holds."""

    items: list[Item]


class PolymarketSimulator:
    """One simulated exchange; many connections."""

    ws_path = WS_PATH

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._key = None
        if simulation.public_key is not None and simulation.key_id is not None:
            self._key = Key(simulation.key_id, simulation.public_key)  # both sides know the same secret
        self.exchange = Exchange()
        self._generator: Generator | None = None

    # ------------------------------------------------------------------------------------------- what happens

    def record(self, line: bytes) -> Record | None:
        """A recorder's line, or a bare frame; then its own time is that of its reception."""
        try:
            told = _decode_line(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return _record(0, line.strip())
        wire = told.text.encode()
        if told.dir != "in" or wire.strip() in TEXTS:
            return None
        return _record(told.ts_local_ms * 1_000_000, wire)

    def archived(self, ts_ns: int, wire: bytes) -> Record | None:
        return None if wire.strip() in TEXTS or frames.is_rest(wire) else _record(ts_ns, wire)

    def load(self, contents: Iterable[tuple[str, str | None]], first_ns: int, last_ns: int) -> None:
        """Markets are learnt from the frames: a pair of tokens is told by its first change."""
        self.exchange = Exchange()
        for channel, symbol in sorted(contents, key=str):
            if symbol is not None and channel not in MARKET_WIDE:
                number = len(self.exchange.markets) + 1
                condition = f"0x{number:064x}"
                self.exchange.open(Market(number, condition, (symbol,), symbol, first_ns, last_ns), known=False)

    def apply(self, record: Record) -> None:
        if not isinstance(record.detail, Detail):
            return  # made up: it has happened already
        for item in record.detail.items:
            if item.kind == "book":
                self._whole(item)
            elif item.kind == "price_change":
                for change in item.price_changes or ():
                    self._token(change.asset_id, item).set(change.side, change.price, change.size)
            elif item.kind == "last_trade_price":
                token = self._token(item.asset_id, item)
                token.last_price = item.price
                fill = Fill(
                    item.asset_id, item.market, item.side, item.price, item.size, record.ts_ns,
                    item.transaction_hash or "",
                )  # fmt: skip
                self.exchange.trade(fill)
            elif item.kind == "market_resolved" and item.market in self.exchange.markets:
                self.exchange.markets[item.market].closed = True

    def _token(self, name: str, item: Item) -> Token:
        """A token as the frame leaves it; made when first heard of."""
        token = self.exchange.tokens.get(name)
        if token is None:
            token = self.exchange.tokens[name] = Token(name, item.market, known=False)
        token.market = item.market or token.market
        token.timestamp = item.timestamp
        return token

    def _whole(self, item: Item) -> None:
        token = self._token(item.asset_id, item)
        token.bids = _side(item.bids if item.bids is not None else item.buys)
        token.asks = _side(item.asks if item.asks is not None else item.sells)
        token.tick_size = item.tick_size or token.tick_size
        token.last_price = item.last_trade_price or token.last_price
        token.known = True

    def generate(self, now_ns: int) -> Sequence[Record]:
        if self._generator is None:
            simulation = self._simulation
            self._generator = Generator(
                simulation.seed, simulation.markets, simulation.frames_per_second, now_ns, self.exchange
            )
        return list(self._generator.until(now_ns))

    def connect(self) -> "PolymarketConnection":
        return PolymarketConnection(self)

    # ----------------------------------------------------------------------------------------------------- REST

    def refuses(self, method: str, path: str, headers: Mapping[str, str], now_ns: int) -> Answer | None:
        """The market channel is open to all."""
        return None

    def _unauthorized(self, method: str, path: str, headers: Mapping[str, str], now_ns: int) -> Answer | None:
        if self._key is None:
            return None
        given = {name: headers.get(name.lower(), "") for name in HEADERS}
        fresh = given["POLY_TIMESTAMP"].isdigit() and abs(now_ns // SECOND_NS - int(given["POLY_TIMESTAMP"])) <= 30
        expected = self._key.headers(method, path, int(given["POLY_TIMESTAMP"]) * SECOND_NS) if fresh else {}
        return None if fresh and given == expected else _error(401, "Unauthorized/Invalid api key")

    def answer(self, method: str, target: str, headers: Mapping[str, str], now_ns: int, body: bytes = b"") -> Answer:
        path, _, query = target.partition("?")
        if method != "GET":
            return _error(405, "method not allowed")
        given = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=200))
        services: dict[str, Callable[[dict[str, str]], Answer]] = {
            "/ok": lambda q: Answer(200, b'"OK"'),
            "/time": lambda q: Answer(200, b"%d" % (now_ns // SECOND_NS)),
            "/book": self._book,
            "/midpoint": self._midpoint,
            "/tick-size": lambda q: self._of_token(q, lambda t: {"minimum_tick_size": float(t.tick_size)}),
            "/neg-risk": lambda q: self._of_token(q, lambda t: {"neg_risk": False}),
            "/fee-rate": lambda q: self._of_token(q, lambda t: {"base_fee": 1000}),
            "/markets": self._clob_markets,
            "/markets/keyset": self._gamma_markets,
            "/trades": self._trades,
        }
        try:
            if path in services:
                return services[path](given)
            if path == "/auth/api-keys":
                refused = self._unauthorized("GET", path, headers, now_ns)
                keys = [headers.get("poly_api_key", "")]
                return refused or Answer(200, _encode({"apiKeys": keys}))
            if path.startswith("/markets/"):
                market = self.exchange.markets.get(path.removeprefix("/markets/"))
                return _error(404, "market not found") if market is None else Answer(200, _encode(market.clob()))
        except ValueError as e:
            return _error(400, str(e))
        return _error(404, "not found")

    def _of_token(self, query: dict[str, str], tell: Callable[[Token], dict[str, object]]) -> Answer:
        token = self.exchange.tokens.get(query.get("token_id", ""))
        market = self.exchange.markets.get(token.market) if token is not None else None
        if token is None or not token.known or (market is not None and market.closed):
            return _error(404, "No orderbook exists for the requested token id")
        return Answer(200, _encode(tell(token)))

    def _book(self, query: dict[str, str]) -> Answer:
        return self._of_token(query, Token.rest)

    def _midpoint(self, query: dict[str, str]) -> Answer:
        return self._of_token(query, lambda t: {"mid": f"{sum(map(float, t.best())) / 2:g}"})

    def _gamma_markets(self, query: dict[str, str]) -> Answer:
        """Pages by `after_cursor`; a `cursor` is ignored, which brings the first page again."""
        limit = min(int(query.get("limit", "20")), PAGE_MAX)
        after = int(query.get("after_cursor") or "0")
        token = self.exchange.tokens.get(query.get("clob_token_ids", ""))
        found = sorted(
            (
                m
                for m in self.exchange.markets.values()
                if m.number > after
                and query.get("closed", str(m.closed).lower()) == str(m.closed).lower()
                and ("clob_token_ids" not in query or (token is not None and m.condition == token.market))
            ),
            key=lambda m: m.number,
        )
        page: dict[str, object] = {"markets": [m.gamma() for m in found[:limit]]}
        if len(found) > limit:
            page["next_cursor"] = str(found[limit - 1].number)
        return Answer(200, _encode(page))

    def _clob_markets(self, query: dict[str, str]) -> Answer:
        start = int(query.get("next_cursor") or "0")
        found = list(self.exchange.markets.values())[start:]
        page = [m.clob() for m in found[:CLOB_PAGE_MAX]]
        more = str(start + CLOB_PAGE_MAX) if len(found) > CLOB_PAGE_MAX else END
        return Answer(200, _encode({"limit": CLOB_PAGE_MAX, "count": len(page), "next_cursor": more, "data": page}))

    def _trades(self, query: dict[str, str]) -> Answer:
        """Newest first."""
        limit, offset = int(query.get("limit", "100")), int(query.get("offset", "0"))
        if offset > TRADES_MAX:
            return _error(400, "max historical activity offset exceeded")
        wanted = set(filter(None, query.get("market", "").split(",")))
        low, high = int(query.get("start", "0")), int(query.get("end", str(1 << 40)))
        fills = [
            fill.object(self.exchange.markets.get(fill.market))
            for fill in reversed(self.exchange.fills)
            if (not wanted or fill.market in wanted) and low <= fill.ts_ns // SECOND_NS <= high
        ]
        return Answer(200, _encode(fills[offset : offset + min(limit, TRADES_MAX)]))


class PolymarketConnection:
    """One client."""

    def __init__(self, simulator: PolymarketSimulator) -> None:
        self._simulator = simulator
        self._tokens: dict[str, None] = {}
        self._begun = False
        self._custom = False

    @property
    def subscriptions(self) -> int:
        return len(self._tokens)

    def received(self, wire: bytes, now_ns: int) -> Sequence[bytes]:
        if wire == PING:
            return [PONG]
        try:
            command = _decode_any(wire)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return [INVALID]
        if not isinstance(command, dict):
            return [INVALID]
        tokens = command.get("assets_ids")
        if not isinstance(tokens, list) or not all(isinstance(t, str) for t in tokens):
            return [INVALID]
        kind, operation = command.get("type"), command.get("operation")
        if not self._begun:
            if kind != "market" or operation is not None:
                return [INVALID]
            self._begun = True
        elif operation == "unsubscribe":
            for token in tokens:
                self._tokens.pop(token, None)
            return []
        elif operation != "subscribe" or kind is not None:
            return [INVALID]
        self._custom = self._custom or command.get("custom_feature_enabled") is True
        return self._subscribe(cast(list[str], tokens), dump=command.get("initial_dump") is not False)

    def _subscribe(self, tokens: list[str], *, dump: bool) -> list[bytes]:
        new = [t for t in dict.fromkeys(tokens) if t not in self._tokens]
        if tokens and not new:
            return [NOTHING_NEW] if self._custom else []
        room = max(0, FIRST_BOOKS_MAX - len(self._tokens))
        self._tokens.update(dict.fromkeys(new))
        known = self._simulator.exchange.tokens
        books = [known[t].book() for t in new[:room] if t in known and known[t].known]
        return [b"[%b]\n" % b",".join(books)] if books and dump else []

    def market(self, record: Record) -> Sequence[bytes]:
        if record.kind in CUSTOM and not self._custom:
            return ()
        if record.kind in MARKET_WIDE:
            return (record.wire,) if self._tokens else ()
        tokens = _tokens(record)
        return (record.wire,) if any(token in self._tokens for token in tokens) else ()

    def covers(self, contents: Iterable[tuple[str, str | None]]) -> bool:
        return all(
            symbol in self._tokens or (channel in MARKET_WIDE and bool(self._tokens)) for channel, symbol in contents
        )

    def overflow(self) -> Sequence[bytes]:
        """What becomes of a client that reads too slowly is not known: the worst that was seen is silence."""
        self._tokens.clear()
        return ()

    def heartbeat(self, now_ns: int) -> bytes | None:
        """The client is the one who pings."""
        return None

    def due(self, now_ns: int) -> Sequence[bytes]:
        return ()

    @property
    def ended(self) -> tuple[int, str] | None:
        """Whether a client that does not ping is hung up on is not known."""
        return None


def _record(ts_ns: int, wire: bytes) -> Record | None:
    """A recorded frame. Raises Unparsable."""
    try:
        items = _decode_items(wire) if wire.lstrip()[:1] == b"[" else [_decode_item(wire)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise Unparsable(f"it is no frame of Polymarket's market channel: {e}") from e
    if not items:
        return None
    first = items[0]
    if first.kind not in KINDS or not first.symbol():
        raise Unparsable(f"its type {first.kind[:80]!r} is none of the market channel's, or names no token")
    if not ts_ns:
        if not (first.timestamp.isascii() and first.timestamp.isdigit()):
            raise Unparsable(f"its timestamp {first.timestamp[:40]!r} is no time in milliseconds")
        ts_ns = int(first.timestamp) * 1_000_000
    return Record(ts_ns, first.kind, first.kind, first.symbol(), wire, Detail(items))


def _tokens(record: Record) -> Sequence[str]:
    """The tokens that a record is about."""
    if not isinstance(record.detail, Detail):
        return cast(tuple[str, ...], record.detail)
    return [c.asset_id for i in record.detail.items for c in i.price_changes or ()] or [
        i.asset_id for i in record.detail.items
    ]


def _side(levels: list[Price] | None) -> dict[str, str]:
    return {level.price: level.size for level in levels or ()}


def _error(status: int, text: str) -> Answer:
    return Answer(status, json.dumps({"error": text}).encode())
