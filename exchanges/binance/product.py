"""What differs between Binance's products, and how their streams are named."""

import re
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Product:
    """One of Binance's markets as a WebSocket route and a REST API serve it; limits are per connection or address."""

    name: str
    api: str  # what REST paths begin with
    ws_path: str
    kinds: frozenset[str]  # of streams that this route serves
    linked: bool  # a depth event names its predecessor (`pu`); otherwise ids are consecutive
    ping_seconds: int  # between the venue's pings; it waits three times as long for an answer
    commands_per_second: int  # what the client sends: pings, pongs, commands
    weight_per_minute: int  # of REST requests
    snapshots: tuple[tuple[int, int], tuple[int, int]]  # (levels a side, weight): the deepest, and one for many books
    speeds: tuple[str, ...]  # of depth streams; "" is the usual one
    streams_max: int = 1024


SPOT = Product(
    name="spot",
    api="/api/v3",
    ws_path="/stream",
    kinds=frozenset(
        {
            "aggTrade",
            "avgPrice",
            "blockTrade",
            "bookTicker",
            "depth",
            "depth5",
            "depth10",
            "depth20",
            "kline",
            "miniTicker",
            "referencePrice",
            "ticker",
            "ticker_1d",
            "ticker_1h",
            "ticker_4h",
            "trade",
            "!miniTicker@arr",
            "!ticker_1d@arr",
            "!ticker_1h@arr",
            "!ticker_4h@arr",
        }
    ),
    linked=False,
    ping_seconds=20,
    commands_per_second=5,
    weight_per_minute=6000,
    snapshots=((5000, 250), (1000, 50)),
    speeds=("", "@100ms"),
)
# Since 2026-04-23 USD-M streams are spread over routes; on the wrong one they are acknowledged and stay silent.
USDM_PUBLIC = Product(
    name="USD-M futures, /public",
    api="/fapi/v1",
    ws_path="/public/stream",
    kinds=frozenset({"bookTicker", "depth", "depth5", "depth10", "depth20", "rpiDepth", "trade", "!bookTicker"}),
    linked=True,
    ping_seconds=180,
    commands_per_second=10,
    weight_per_minute=2400,
    snapshots=((1000, 20), (1000, 20)),
    speeds=("", "@100ms", "@500ms", "@0ms"),  # 0ms is of 2024: an undocumented one
    streams_max=200,  # 1024 by today's documents, 200 by older ones and in other clients
)
USDM_MARKET = replace(
    USDM_PUBLIC,
    name="USD-M futures, /market",
    ws_path="/market/stream",
    kinds=frozenset(
        {
            "aggTrade",
            "compositeIndex",
            "forceOrder",
            "kline",
            "markPrice",
            "miniTicker",
            "ticker",
            "tradingSession",
            "!assetIndex@arr",
            "!contractInfo",
            "!forceOrder@arr",
            "!markPrice@arr",
            "!miniTicker@arr",
            "!ticker@arr",
        }
    ),
)


# What a stream's name ends with, without a speed, and what it says; the kinds of both products.
_KINDS = re.compile(
    r"aggTrade|trade|blockTrade|bookTicker|depth(?:5|10|20)?|rpiDepth|kline_[0-9]+[smhdwM](?:@[+-][0-9:]+)?|ticker"
    r"|miniTicker|ticker_(?:1h|4h|1d)|avgPrice|referencePrice|markPrice|forceOrder|continuousKline_[0-9]+[smhdwM]"
    r"|contractInfo|compositeIndex|assetIndex|tradingSession"
)
_SPEED = re.compile(r"@(?:[0-9]+ms|1s)$")


def channel_of(stream: str) -> str | None:
    """The channel under which a stream's frames are archived; None if it is no stream we know.

    That is its name without symbol and speed: `depth` for `btcusdt@depth@100ms`, `miniTicker@arr` for
    `!miniTicker@arr`. A file then holds frames of one shape.
    """
    name = _SPEED.sub("", stream[1:] if stream.startswith("!") else stream.partition("@")[2])
    return name if _KINDS.fullmatch(name.removesuffix("@arr")) else None


def kind_of(channel: str) -> str:
    """What a product's `kinds` calls a channel to which one subscribes: without speed, interval and time zone."""
    bare = _SPEED.sub("", channel)
    return "kline" if bare.startswith("kline_") else bare


def stream_name(symbol: str, channel: str) -> str:
    """The stream of a channel and a symbol: ASCII letters in lower case, others as they are."""
    return f"{symbol.encode().lower().decode()}@{channel}"


def symbol_of(stream: str) -> str:
    """The symbol in a stream's name, as payloads write it."""
    return stream.partition("@")[0].encode().upper().decode()


def is_for_all(channel: str) -> bool:
    """Whether a channel is one stream for all symbols."""
    return channel.startswith("!")
