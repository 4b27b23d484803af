"""What Kalshi's archived frames say, in the two grammars the venue has had: integer cents, then decimal dollars.

A binary market's book holds bids only, for YES and for NO. A bid for NO at p is an offer of YES at 1 - p, so books
come out on the YES scale: YES bids are bids, NO bids are asks. Prices and sizes keep the venue's digits.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, Literal, Never, TypeVar

import msgspec

from exchanges.port import Alike, Bulk, Columns, Decimals, Unparsable, kinds
from ssmd.events import BookDelta, BookSide, BookSnapshot, Event, Level, Side, Status, Ticker, Trade
from ssmd.frames import CONTROL, GAP, SESSION

DOLLARS_FROM = "2026-03-12"  # the day the integer fields left the WebSocket feed

Outcome = Literal["yes", "no"]
_Parse = Callable[[bytes], Sequence[Event]]
_Columns = dict[str, list[str | None]]


class Grammar:
    """From a frame of a channel to its events; each channel has its function, the busy ones another for many frames."""

    def __init__(self, name: str, parsers: Mapping[str, _Parse], bulks: Mapping[str, Bulk] | None = None) -> None:
        self.name = name
        self._parsers = parsers
        self._bulks = bulks or {}

    def __call__(self, channel: str, wire: bytes) -> Sequence[Event]:
        parse = self._parsers.get(channel)
        if parse is None:
            raise Unparsable(f"Kalshi has no channel {channel!r}")
        try:
            return parse(wire)
        except msgspec.ValidationError as e:
            raise Unparsable(f"{channel} is not as the {self.name} grammar has it: {e}") from e
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            raise Unparsable(f"{channel} is not JSON: {e}") from e

    def channels(self) -> Mapping[str, Sequence[type[Event]]]:
        return {channel: kinds(parser) for channel, parser in self._parsers.items()}

    def bulk(self, channel: str) -> Bulk | None:
        return self._bulks.get(channel)

    def __repr__(self) -> str:
        return f"Grammar({self.name!r})"


def grammar(date: str) -> Grammar:
    """The grammar in force on a UTC date (YYYY-MM-DD)."""
    return DOLLARS if date >= DOLLARS_FROM else CENTS


# ------------------------------------------------------------------------------------------------ what both share

_M = TypeVar("_M")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class _Frame(msgspec.Struct):
    type: str


class _Message(msgspec.Struct, gc=False):
    """Time as Kalshi writes it: `ts` is RFC 3339 on book deltas and seconds elsewhere, `ts_ms` came in 2026."""

    ts: Annotated[datetime, msgspec.Meta(tz=True)] | int | None = None
    ts_ms: int | None = None


def _time_ns(message: _Message) -> int | None:
    ts = message.ts
    if isinstance(ts, datetime):
        return (ts - _EPOCH) // _MICROSECOND * 1000
    if message.ts_ms is not None:
        return message.ts_ms * 1_000_000
    return None if ts is None else ts * 1_000_000_000


def _body(kind: str, message: type[_M]) -> Callable[[bytes], _M]:
    """A decoder of frames of type `kind` that gives their `msg`."""
    frame = msgspec.defstruct("_Frame", [("type", Literal[kind]), ("msg", message)])
    decode = msgspec.json.Decoder(frame).decode

    def body(wire: bytes) -> _M:
        return decode(wire).msg  # type: ignore[attr-defined,no-any-return]

    return body


def _bulk(
    kind: str,
    message: type[_Message],
    event: type[Event],
    columns: Callable[[Sequence[Any]], _Columns],
    alike: Callable[[Alike], Mapping[str, Any]],
) -> Bulk:
    """Many frames of type `kind`, as `_body` has them but for `ts`: as text it is quicker to make columns of."""
    timed = msgspec.defstruct("_Timed", [("ts", str | int | None, None)], bases=(message,), kw_only=True, gc=False)
    frame = msgspec.defstruct("_Frame", [("type", Literal[kind]), ("msg", timed)], gc=False)

    def columns_of(frames: Sequence[Any]) -> Columns:
        messages = [frame.msg for frame in frames]
        symbols = [m.market_ticker for m in messages]
        return Columns({"symbol": symbols, "ts_event": _times(messages), **columns(messages)})

    def columns_alike(frames: Alike) -> Mapping[str, Any]:
        times = (
            frames.utc("frame.msg.ts")
            if frames.has_text("frame.msg.ts")
            else frames.whole("frame.msg.ts_ms", 1_000_000)
        )
        return {"symbol": frames.repeated("frame.msg.market_ticker"), "ts_event": times, **alike(frames)}

    return Bulk(frame, event, columns_of, columns_alike)


def _times(messages: Sequence[Any]) -> Sequence[str | int | None]:
    """`_time_ns` of each; RFC 3339 stays text. Raises Unparsable if some are text and some are not."""
    kinds = {type(m.ts) for m in messages}
    if kinds == {str}:
        return [m.ts for m in messages]
    if str in kinds:
        raise Unparsable("times are written in two ways")
    if {type(m.ts_ms) for m in messages} == {int}:
        return [m.ts_ms * 1_000_000 for m in messages]
    return [_time_ns(m) for m in messages]


_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?")


@lru_cache(1 << 16)  # a market has few prices and sizes repeat: 0.06 us instead of 0.5
def _decimal(text: str) -> str:
    if not _DECIMAL.fullmatch(text):
        raise Unparsable(f"{text[:40]!r} is no decimal number")
    return text


@lru_cache(1 << 14)
def _complement(price: str) -> str:
    """1 - price, with the same digits after the point."""
    return str(1 - Decimal(_decimal(price)))


@lru_cache(1 << 16)
def _is_zero(text: str) -> bool:
    return not Decimal(_decimal(text))


@lru_cache(1 << 14)
def _is(price: str, number: str) -> bool:
    return Decimal(_decimal(price)) == Decimal(number)


def _book_side(outcome: Outcome, price: str) -> tuple[BookSide, str]:
    return ("bid", _decimal(price)) if outcome == "yes" else ("ask", _complement(price))


_TAKERS: dict[str, Side] = {"yes": "buy", "no": "sell"}
_taker = _TAKERS.get  # None where the venue does not say


def _snapshot(symbol: str, ts_event: int | None, yes: list[Level], no: list[Level]) -> BookSnapshot:
    """Best first on both sides: the best ask is the highest bid for NO."""
    bids = sorted(yes, key=_price, reverse=True)
    asks = [(_complement(price), size) for price, size in sorted(no, key=_price, reverse=True)]
    return BookSnapshot(symbol, ts_event, bids, asks)


def _price(level: Level) -> Decimal:
    return Decimal(level[0])


def _quote(price: str | None, size: str | None, nothing: str) -> tuple[str | None, str | None]:
    """A side of the ticker; a bid of 0 or an offer of 1 with no size stands for an empty side."""
    if price is None or (_is(price, nothing) and (size is None or _is_zero(size))):
        return None, None
    return price, None if size is None else _decimal(size)


def _traded(number: str | None) -> str | None:
    """A last price or last size of 0 says that there was no trade."""
    return None if number is None or _is_zero(number) else number


def _nothing(wire: bytes) -> Sequence[Never]:
    return ()


# ------------------------------------------------------------------------------------------------------ lifecycle


class _LifecycleFrame(msgspec.Struct):
    type: str
    msg: msgspec.Raw


class _LifecycleMessage(_Message):
    market_ticker: str | None = None
    event_ticker: str | None = None
    event_type: str | None = None


_lifecycle_frame = msgspec.json.Decoder(_LifecycleFrame).decode
_lifecycle_message = msgspec.json.Decoder(_LifecycleMessage).decode


def _lifecycle(wire: bytes) -> Sequence[Status]:
    """Of a market (named by `event_type`) or of an event (named by the frame's type)."""
    frame = _lifecycle_frame(wire)
    message = _lifecycle_message(frame.msg)
    symbol = message.market_ticker or message.event_ticker
    if not symbol:
        raise Unparsable(f"{frame.type} names neither a market nor an event")
    return (Status(symbol, _time_ns(message), message.event_type or frame.type, bytes(frame.msg).decode()),)


_SHARED: dict[str, _Parse] = {
    "market_lifecycle_v2": _lifecycle,
    "event_lifecycle": _lifecycle,
    "event_fee_update": _lifecycle,
    "multivariate_market_lifecycle": _lifecycle,
    CONTROL: _nothing,
    SESSION: _nothing,
    GAP: _nothing,
}

# -------------------------------------------------------------------------------------- from 2026-03-12: dollars


class _DollarTrade(_Message, kw_only=True):
    market_ticker: str
    trade_id: str
    yes_price_dollars: str
    count_fp: str
    taker_outcome_side: Outcome | None = None
    taker_side: Outcome | Literal[""] = ""  # deprecated


class _DollarTicker(_Message, kw_only=True):
    market_ticker: str
    price_dollars: str = ""
    yes_bid_dollars: str = ""
    yes_ask_dollars: str = ""
    yes_bid_size_fp: str = ""
    yes_ask_size_fp: str = ""
    last_trade_size_fp: str = ""
    volume_fp: str = ""
    open_interest_fp: str = ""


class _DollarSnapshot(_Message, kw_only=True):
    """A side that is empty is absent."""

    market_ticker: str
    yes_dollars_fp: list[Level] | None = None
    no_dollars_fp: list[Level] | None = None


class _DollarDelta(_Message, kw_only=True):
    market_ticker: str
    price_dollars: str
    delta_fp: str
    side: Outcome


_dollar_trade = _body("trade", _DollarTrade)
_dollar_ticker = _body("ticker", _DollarTicker)
_dollar_snapshot = _body("orderbook_snapshot", _DollarSnapshot)
_dollar_delta = _body("orderbook_delta", _DollarDelta)


def _trade_in_dollars(wire: bytes) -> Sequence[Trade]:
    m = _dollar_trade(wire)
    side = _taker(m.taker_outcome_side or m.taker_side)
    return (Trade(m.market_ticker, _time_ns(m), _decimal(m.yes_price_dollars), _decimal(m.count_fp), side, m.trade_id),)


def _ticker_in_dollars(wire: bytes) -> Sequence[Ticker]:
    m = _dollar_ticker(wire)
    last = _traded(m.price_dollars or None)
    bid, bid_size = _quote(m.yes_bid_dollars or None, m.yes_bid_size_fp or None, "0")
    ask, ask_size = _quote(m.yes_ask_dollars or None, m.yes_ask_size_fp or None, "1")
    return (
        Ticker(
            m.market_ticker,
            _time_ns(m),
            last=last,
            last_size=_traded(m.last_trade_size_fp or None),
            bid=bid,
            bid_size=bid_size,
            ask=ask,
            ask_size=ask_size,
            volume=_known(m.volume_fp),
            open_interest=_known(m.open_interest_fp),
        ),
    )


def _snapshot_in_dollars(wire: bytes) -> Sequence[BookSnapshot]:
    m = _dollar_snapshot(wire)
    return (_snapshot(m.market_ticker, _time_ns(m), _levels(m.yes_dollars_fp), _levels(m.no_dollars_fp)),)


def _delta_in_dollars(wire: bytes) -> Sequence[BookDelta]:
    m = _dollar_delta(wire)
    side, price = _book_side(m.side, m.price_dollars)
    return (BookDelta(m.market_ticker, _time_ns(m), side, price, None, _decimal(m.delta_fp)),)


def _levels(levels: list[Level] | None) -> list[Level]:
    return [(_decimal(price), _decimal(size)) for price, size in levels or ()]


def _known(text: str) -> str | None:
    """The empty text stands for nothing."""
    return _decimal(text) if text else None


def _trades_in_dollars(messages: Sequence[_DollarTrade]) -> _Columns:
    return {
        "price": [m.yes_price_dollars for m in messages],
        "size": [m.count_fp for m in messages],
        "side": [_taker(m.taker_outcome_side or m.taker_side) for m in messages],
        "trade_id": [m.trade_id for m in messages],
    }


def _tickers_in_dollars(messages: Sequence[_DollarTicker]) -> _Columns:
    bid, bid_size = [m.yes_bid_dollars or None for m in messages], [m.yes_bid_size_fp or None for m in messages]
    ask, ask_size = [m.yes_ask_dollars or None for m in messages], [m.yes_ask_size_fp or None for m in messages]
    _clear_empty(bid, bid_size, "0")
    _clear_empty(ask, ask_size, "1")
    return {
        "last": _all_traded([m.price_dollars or None for m in messages]),
        "last_size": _all_traded([m.last_trade_size_fp or None for m in messages]),
        "bid": bid,
        "bid_size": bid_size,
        "ask": ask,
        "ask_size": ask_size,
        "volume": [m.volume_fp or None for m in messages],
        "open_interest": [m.open_interest_fp or None for m in messages],
    }


def _all_traded(numbers: list[str | None]) -> list[str | None]:
    """`_traded` of each."""
    zeros = {number for number in set(numbers) if number is not None and _is_zero(number)}
    return [None if number in zeros else number for number in numbers] if zeros else numbers


def _clear_empty(prices: list[str | None], sizes: list[str | None], nothing: str) -> None:
    """As `_quote` has it, which is asked only where the price leaves a doubt."""
    doubtful = {price for price in set(prices) if price is None or _is(price, nothing)}
    if doubtful:
        for i, price in enumerate(prices):
            if price in doubtful:
                prices[i], sizes[i] = _quote(price, sizes[i], nothing)


def _deltas_in_dollars(messages: Sequence[_DollarDelta]) -> _Columns:
    return {
        "side": ["bid" if m.side == "yes" else "ask" for m in messages],
        "price": [m.price_dollars if m.side == "yes" else _complement(m.price_dollars) for m in messages],
        "change": [m.delta_fp for m in messages],
    }


def _trades_alike(frames: Alike) -> Mapping[str, Any]:
    outcome, deprecated = "frame.msg.taker_outcome_side", "frame.msg.taker_side"
    return {
        "price": frames.decimals("frame.msg.yes_price_dollars"),
        "size": frames.decimals("frame.msg.count_fp"),
        "side": frames.renamed(outcome if frames.has_text(outcome) else deprecated, _TAKERS),
        "trade_id": frames.texts("frame.msg.trade_id"),
    }


def _tickers_alike(frames: Alike) -> Mapping[str, Any]:
    bid, bid_size = _quotes_alike(frames, "yes_bid", 0)
    ask, ask_size = _quotes_alike(frames, "yes_ask", 1)
    last, last_size = frames.decimals("frame.msg.price_dollars"), frames.decimals("frame.msg.last_trade_size_fp")
    return {
        "last": last.without(last.are(0)),
        "last_size": last_size.without(last_size.are(0)),
        "bid": bid,
        "bid_size": bid_size,
        "ask": ask,
        "ask_size": ask_size,
        "volume": frames.decimals("frame.msg.volume_fp"),
        "open_interest": frames.decimals("frame.msg.open_interest_fp"),
    }


def _quotes_alike(frames: Alike, side: str, nothing: int) -> tuple[Decimals, Decimals]:
    price, size = frames.decimals(f"frame.msg.{side}_dollars"), frames.decimals(f"frame.msg.{side}_size_fp")
    empty = price.are(nothing) & size.are(0)
    return price.without(empty), size.without(empty)


def _deltas_alike(frames: Alike) -> Mapping[str, Any]:
    price = frames.decimals("frame.msg.price_dollars")
    return {
        "side": frames.renamed("frame.msg.side", {"yes": "bid", "no": "ask"}),
        "price": price.where(frames.are("frame.msg.side", "yes"), price.from_one()),
        "change": frames.decimals("frame.msg.delta_fp"),
    }


DOLLARS = Grammar(
    "dollar",
    {
        **_SHARED,
        "trade": _trade_in_dollars,
        "ticker": _ticker_in_dollars,
        "orderbook_snapshot": _snapshot_in_dollars,
        "orderbook_delta": _delta_in_dollars,
    },
    {
        "trade": _bulk("trade", _DollarTrade, Trade, _trades_in_dollars, _trades_alike),
        "ticker": _bulk("ticker", _DollarTicker, Ticker, _tickers_in_dollars, _tickers_alike),
        "orderbook_delta": _bulk("orderbook_delta", _DollarDelta, BookDelta, _deltas_in_dollars, _deltas_alike),
    },
)

# ---------------------------------------------------------------------------------- until 2026-03-11: integer cents
#
# From late 2025 on the dollar fields came beside the integers, empty at first where there was no price. Where both
# are given the dollars say more (a tenth of a cent, parts of a contract), so they win unless they are empty.

_Cents = Annotated[int, msgspec.Meta(ge=0, le=100)]
_CentLevel = tuple[_Cents, int]
_MixedLevel = tuple[str, str | int]


class _CentTrade(_Message, kw_only=True):
    market_ticker: str
    trade_id: str | None = None
    yes_price: _Cents | None = None
    count: int | None = None
    taker_side: Outcome | Literal[""] = ""
    yes_price_dollars: str = ""
    count_fp: str = ""


class _CentTicker(_Message, kw_only=True):
    market_ticker: str
    price: _Cents | None = None
    yes_bid: _Cents | None = None
    yes_ask: _Cents | None = None
    volume: int | None = None
    open_interest: int | None = None
    price_dollars: str = ""
    yes_bid_dollars: str = ""
    yes_ask_dollars: str = ""
    yes_bid_size_fp: str = ""
    yes_ask_size_fp: str = ""
    last_trade_size_fp: str = ""
    volume_fp: str = ""
    open_interest_fp: str = ""


class _CentSnapshot(_Message, kw_only=True):
    market_ticker: str
    yes: list[_CentLevel] | None = None
    no: list[_CentLevel] | None = None
    yes_dollars: list[_MixedLevel] | None = None
    no_dollars: list[_MixedLevel] | None = None
    yes_dollars_fp: list[Level] | None = None
    no_dollars_fp: list[Level] | None = None


class _CentDelta(_Message, kw_only=True):
    market_ticker: str
    side: Outcome
    price: _Cents | None = None
    delta: int | None = None
    price_dollars: str = ""
    delta_fp: str = ""


_cent_trade = _body("trade", _CentTrade)
_cent_ticker = _body("ticker", _CentTicker)
_cent_snapshot = _body("orderbook_snapshot", _CentSnapshot)
_cent_delta = _body("orderbook_delta", _CentDelta)


def _trade_in_cents(wire: bytes) -> Sequence[Trade]:
    m = _cent_trade(wire)
    price = _either(m.yes_price_dollars, _from_cents(m.yes_price), "yes_price")
    size = _either(m.count_fp, _from_int(m.count), "count")
    return (Trade(m.market_ticker, _time_ns(m), price, size, _taker(m.taker_side), m.trade_id),)


def _ticker_in_cents(wire: bytes) -> Sequence[Ticker]:
    m = _cent_ticker(wire)
    bid, bid_size = _quote(_known(m.yes_bid_dollars) or _from_cents(m.yes_bid), _known(m.yes_bid_size_fp), "0")
    ask, ask_size = _quote(_known(m.yes_ask_dollars) or _from_cents(m.yes_ask), _known(m.yes_ask_size_fp), "1")
    return (
        Ticker(
            m.market_ticker,
            _time_ns(m),
            last=_traded(_known(m.price_dollars) or _from_cents(m.price)),
            last_size=_traded(_known(m.last_trade_size_fp)),
            bid=bid,
            bid_size=bid_size,
            ask=ask,
            ask_size=ask_size,
            volume=_known(m.volume_fp) or _from_int(m.volume),
            open_interest=_known(m.open_interest_fp) or _from_int(m.open_interest),
        ),
    )


def _snapshot_in_cents(wire: bytes) -> Sequence[BookSnapshot]:
    m = _cent_snapshot(wire)
    yes = _mixed_levels(m.yes_dollars_fp, m.yes_dollars, m.yes)
    no = _mixed_levels(m.no_dollars_fp, m.no_dollars, m.no)
    return (_snapshot(m.market_ticker, _time_ns(m), yes, no),)


def _delta_in_cents(wire: bytes) -> Sequence[BookDelta]:
    m = _cent_delta(wire)
    side, price = _book_side(m.side, _either(m.price_dollars, _from_cents(m.price), "price"))
    change = _either(m.delta_fp, _from_int(m.delta), "delta")
    return (BookDelta(m.market_ticker, _time_ns(m), side, price, None, change),)


def _mixed_levels(
    fp: list[Level] | None, dollars: list[_MixedLevel] | None, cents: list[_CentLevel] | None
) -> list[Level]:
    if fp:
        return _levels(fp)
    if dollars:
        return [(_decimal(price), _decimal(str(size))) for price, size in dollars]
    return [(f"{price // 100}.{price % 100:02d}", str(size)) for price, size in cents or ()]


def _either(dollars: str, cents: str | None, field: str) -> str:
    if dollars:
        return _decimal(dollars)
    if cents is None:
        raise Unparsable(f"{field} is given neither in dollars nor in cents")
    return cents


def _from_cents(cents: int | None) -> str | None:
    return None if cents is None else f"{cents // 100}.{cents % 100:02d}"


def _from_int(number: int | None) -> str | None:
    return None if number is None else str(number)


CENTS = Grammar(
    "cent",
    {
        **_SHARED,
        "trade": _trade_in_cents,
        "ticker": _ticker_in_cents,
        "orderbook_snapshot": _snapshot_in_cents,
        "orderbook_delta": _delta_in_cents,
    },
)
