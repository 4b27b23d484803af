"""What travels on Kraken's spot WebSocket v2, as structs: the part of a frame that capture needs, commands, answers.

A channel is named as in feeds/kraken.yaml: the venue's name, and after a dot the parameter that it takes.
"""

from typing import NamedTuple

import msgspec

from ssmd.errors import Permanent

DEPTHS = (10, 25, 100, 500, 1000)
INTERVALS = (1, 5, 15, 30, 60, 240, 1440, 10080, 21600)
TRIGGERS = ("trades", "bbo")
INSTRUMENT = "instrument"  # for all instruments at once
STATUS = "status"  # comes unasked
CHANNELS = frozenset({"trade", "book", "ticker", "ohlc", INSTRUMENT, STATUS})
HEARTBEAT = b'{"channel":"heartbeat"}'

# Starts of error texts with a consequence; all others mean that the symbol is refused.
ALREADY = "Already subscribed"  # not confirmed; the venue has been seen to say so
TOO_FAST = "Exceeded msg rate"  # not confirmed


class Wanted(NamedTuple):
    """A channel as it is subscribed to: `depth`, `event_trigger` or `interval`, as the channel has it."""

    channel: str
    parameter: str = ""
    value: int | str = 0

    @classmethod
    def of(cls, name: str) -> "Wanted":
        """`book.100`, `ticker.bbo`, `ohlc.5`, `trade`, `instrument`. Raises Permanent."""
        channel, _, given = name.partition(".")
        choices: dict[str, tuple[str, tuple[int | str, ...]]] = {
            "book": ("depth", DEPTHS),
            "ohlc": ("interval", INTERVALS),
            "ticker": ("event_trigger", TRIGGERS),
        }
        if channel not in CHANNELS - {STATUS} or (given and channel not in choices):
            raise Permanent(
                f"Kraken has no channel {name!r}: it has trade, book.DEPTH, ticker.bbo, ticker.trades, ohlc.MINUTES "
                "and instrument"
            )
        if channel not in choices:
            return cls(channel)
        parameter, possible = choices[channel]
        found = [v for v in possible if str(v) == given] if given else possible[:1]  # the first is the venue's default
        if not found:
            raise Permanent(f"Kraken's {channel} has {parameter} {', '.join(map(str, possible))}, not {given!r}")
        return cls(channel, parameter, found[0])


# ------------------------------------------------------------------------------------------------------ server's


class Level(msgspec.Struct, frozen=True, gc=False):
    """The numbers' own text: the checksum is over their digits."""

    price: msgspec.Raw
    qty: msgspec.Raw


class Item(msgspec.Struct, frozen=True, gc=False):
    """An entry of `data`, of whichever channel."""

    symbol: str = ""
    bids: list[Level] = []
    asks: list[Level] = []
    checksum: int = -1
    trade_id: int = 0
    system: str = ""


class Frame(msgspec.Struct, frozen=True, gc=False):
    """As much of a market-data frame as capture needs; `data` of `instrument` is an object."""

    channel: str
    type: str = ""
    data: list[Item] | dict[str, msgspec.Raw] = []


class Subscribed(msgspec.Struct, frozen=True):
    """The `result` of an answer."""

    channel: str = ""
    symbol: str = ""
    warnings: list[str] = []


class Answer(msgspec.Struct, frozen=True):
    """An answer to a command: one for each symbol. `error` where it failed."""

    method: str
    success: bool | None = None
    result: Subscribed = Subscribed()
    error: str = ""
    symbol: str = ""
    req_id: int = 0


# ------------------------------------------------------------------------------------------------------ client's


class Parameters(msgspec.Struct, frozen=True, omit_defaults=True):
    channel: str
    symbol: list[str] | None = None
    depth: int | None = None
    event_trigger: str | None = None
    interval: int | None = None
    snapshot: bool | None = None


class Command(msgspec.Struct, frozen=True, omit_defaults=True):
    """A client frame; `req_id` comes back in its answers."""

    method: str
    params: Parameters | None = None
    req_id: int | None = None
