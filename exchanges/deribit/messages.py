"""What travels on Deribit's WebSocket: channels and their place in our archive, the part of a frame that routes it."""

import re
from typing import NamedTuple

import msgspec

NAME = "{instrument_name}"

# Every public channel of market data (docs.deribit.com/articles/notifications) -> our channel. Names in braces are
# the documentation's; a subscription in a feed's YAML may leave {instrument_name} to be filled in for each instrument.
CHANNELS = {
    "book.{instrument_name}.{interval}": "book",
    "book.{instrument_name}.{group}.{depth}.{interval}": "book_grouped",
    "trades.{instrument_name}.{interval}": "trades",
    "trades.{kind}.{currency}.{interval}": "trades",
    "ticker.{instrument_name}.{interval}": "ticker",
    "incremental_ticker.{instrument_name}": "incremental_ticker",
    "quote.{instrument_name}": "quote",
    "perpetual.{instrument_name}.{interval}": "perpetual",
    "chart.trades.{instrument_name}.{resolution}": "chart_trades",
    "deribit_price_index.{index_name}": "deribit_price_index",
    "deribit_price_ranking.{index_name}": "deribit_price_ranking",
    "deribit_price_statistics.{index_name}": "deribit_price_statistics",
    "deribit_volatility_index.{index_name}": "deribit_volatility_index",
    "markprice.options.{index_name}": "markprice_options",
    "estimated_expiration_price.{index_name}": "estimated_expiration_price",
    "instrument.state.{kind}.{currency}": "instrument_state",
    "instrument.creation.{kind}.{currency}": "instrument_creation",
    "platform_state": "platform_state",
    "platform_state.public_methods_state": "platform_state_public_methods_state",
    "block_rfq.trades.{currency}": "block_rfq_trades",
    "announcements": "announcements",
}
NAMED_IN_DATA = frozenset({"instrument_state", "instrument_creation"})  # of many instruments, one in each frame
INTERVALS = frozenset({"raw", "100ms", "agg2"})

# Error codes with a consequence for us (docs.deribit.com/articles/errors); all others only mean that the call failed.
TOO_MANY_REQUESTS = 10028  # the session is ended as well
RAW_UNAUTHORIZED = 13778  # a raw interval without authentication fails the whole call
PASSING = frozenset({TOO_MANY_REQUESTS, 10040, 10041, 10047, 10066, 11051, 11094, 13028, 13888})


class Place(NamedTuple):
    """Where frames of a venue's channel go: our channel, and the instrument or index that its name holds, if any.

    `scope` is what a channel of many instruments is about: kind and currency.
    """

    channel: str
    symbol: str | None
    interval: str | None
    scope: tuple[str, ...]


def _pattern(template: str) -> re.Pattern[str]:
    """A price step (`group`) may hold a point itself."""
    literal = re.escape(template).replace(r"\{", "{").replace(r"\}", "}")
    return re.compile(re.sub(r"\{(\w+)\}", lambda m: f"(?P<{m[1]}>{'.+' if m[1] == 'group' else '[^.]+'})", literal))


_PATTERNS = [(_pattern(template), name) for template, name in CHANNELS.items()]


def place(channel: str) -> Place | None:
    """None: Deribit has no such channel, or none that is public."""
    for pattern, name in _PATTERNS:
        found = pattern.fullmatch(channel)
        if found is not None:
            named = found.groupdict()
            symbol = named.get("instrument_name") or named.get("index_name")
            scope = tuple(named[k] for k in ("kind", "currency") if k in named)
            return Place(name, symbol, named.get("interval"), scope)
    return None


# --------------------------------------------------------------------------------------------------- notifications


class Numbered(msgspec.Struct, frozen=True, gc=False):
    """What of an entry in an array capture needs: `trade_seq` counts an instrument's trades without holes."""

    instrument_name: str = ""
    trade_seq: int = 0


class Changed(msgspec.Struct, frozen=True, gc=False):
    """What of a book capture needs: `prev_change_id` is missing (0) in a snapshot, `change_id` jumps."""

    prev_change_id: int = 0
    change_id: int = 0


class Params(msgspec.Struct, frozen=True, gc=False):
    channel: str
    data: Changed | list[Numbered] = Changed()


class Head(msgspec.Struct, frozen=True, gc=False):
    """As much of a notification as capture needs."""

    params: Params


class InstrumentName(msgspec.Struct, frozen=True):
    """Data that names its instrument."""

    instrument_name: str = ""


# ----------------------------------------------------------------------------------------------------- the rest


class Error(msgspec.Struct, frozen=True):
    """`data` is mostly {reason, param}, or nothing."""

    code: int
    message: str = ""
    data: object = None

    def __str__(self) -> str:
        told = self.data if isinstance(self.data, dict) else {}
        more = ", ".join(str(told[k])[:100] for k in ("reason", "param") if told.get(k))
        return f"error {self.code} {self.message[:100]}" + (f" ({more})" if more else "")


class Message(msgspec.Struct, frozen=True):
    """Any JSON-RPC message of the venue's: an answer (with `id`), an error, a heartbeat, a notification."""

    id: int | str | None = None
    method: str = ""
    params: msgspec.Raw = msgspec.Raw(b"{}")
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: Error | msgspec.UnsetType = msgspec.UNSET


class Beat(msgspec.Struct, frozen=True):
    """`params` of a message with method `heartbeat`: `heartbeat` or `test_request`."""

    type: str = ""


# ---------------------------------------------------------------------------------------------------- our calls


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A JSON-RPC request; `id` is unique on its connection."""

    jsonrpc: str = "2.0"
    id: int
    method: str
    params: dict[str, object]
