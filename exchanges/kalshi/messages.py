"""What travels on Kalshi's WebSocket, as structs: the part of a frame that routes it, commands, answers to them."""

from typing import Literal

import msgspec

# Message type -> the channel one subscribes to in order to get it.
CHANNELS = {
    "orderbook_snapshot": "orderbook_delta",
    "orderbook_delta": "orderbook_delta",
    "trade": "trade",
    "ticker": "ticker",
    "market_lifecycle_v2": "market_lifecycle_v2",
    "event_lifecycle": "market_lifecycle_v2",
    "event_fee_update": "market_lifecycle_v2",
    "multivariate_market_lifecycle": "multivariate_market_lifecycle",
}
EVENT_TYPES = frozenset({"event_lifecycle", "event_fee_update"})  # these name an event, not a market
CONTROL_TYPES = frozenset({"subscribed", "ok", "unsubscribed", "error"})
UNSEQUENCED = frozenset({"ticker"})  # channels whose messages carry no seq
FIREHOSE = frozenset({"ticker", "trade", "market_lifecycle_v2", "multivariate_market_lifecycle"})
UNFILTERED = frozenset({"market_lifecycle_v2", "multivariate_market_lifecycle"})  # a list of markets is ignored

# Error codes with a consequence for us; all others only mean that the command failed.
CANNOT_PROCESS = 1
UNKNOWN_SID = 7
CHANNEL_ERROR = 10
COMMAND_TIMEOUT = 18
BUFFER_OVERFLOW = 25
MARKET_LIMIT = 26
RATE_LIMIT = 27
TERMINAL = frozenset({CHANNEL_ERROR, BUFFER_OVERFLOW})  # that sid is dead
PASSING = frozenset({CANNOT_PROCESS, COMMAND_TIMEOUT, RATE_LIMIT})  # the same command may succeed later


class Instrument(msgspec.Struct, frozen=True, gc=False):
    """Whom a message is about."""

    market_ticker: str | None = None
    event_ticker: str | None = None


class Head(msgspec.Struct, frozen=True, gc=False):
    """As much of a frame as capture needs. `sid` and `seq` count from 1; 0: not given."""

    type: str
    sid: int = 0
    seq: int = 0
    msg: Instrument = Instrument()


# ----------------------------------------------------------------------------------------- answers to commands


class Listed(msgspec.Struct, frozen=True, gc=False):
    """An entry of the answer to list_subscriptions, and the body of `subscribed`."""

    channel: str = ""
    sid: int = 0


class ControlBody(msgspec.Struct, frozen=True):
    """The `msg` of an answer, whichever it is."""

    channel: str = ""
    sid: int = 0
    code: int = 0
    msg: str = ""
    market_ticker: str | None = None
    market_tickers: list[str] | None = None


class Control(msgspec.Struct, frozen=True):
    """`subscribed`, `ok`, `unsubscribed` or `error`. Older builds put `market_tickers` of an `ok` beside `msg`."""

    type: Literal["subscribed", "ok", "unsubscribed", "error"]
    id: int = 0
    sid: int = 0
    seq: int = 0
    msg: ControlBody | list[Listed] | None = None
    market_tickers: list[str] | None = None

    @property
    def body(self) -> ControlBody:
        return self.msg if isinstance(self.msg, ControlBody) else ControlBody()


# ---------------------------------------------------------------------------------------------------- commands


class Parameters(msgspec.Struct, frozen=True, omit_defaults=True):
    """A command's `params`, as we send them."""

    channels: list[str] | None = None
    sids: list[int] | None = None
    action: str | None = None  # add_markets, delete_markets, get_snapshot
    market_tickers: list[str] | None = None
    use_yes_price: bool | None = None


class Command(msgspec.Struct, frozen=True, omit_defaults=True):
    """A client frame; `id` is unique on its connection."""

    id: int
    cmd: str  # subscribe, unsubscribe, update_subscription, list_subscriptions
    params: Parameters | None = None
