"""What travels on Kraken's futures WebSocket v1, as structs: the part of a frame that capture needs, commands, answers.

A channel is named as in feeds/kraken-futures.yaml: the feed that is subscribed to. The messages of a feed say
themselves what they are (`book_snapshot`, `book`), and that is the channel that they are archived under.
"""

from typing import NamedTuple

import msgspec

from ssmd.errors import Permanent

# Message -> the feed one subscribes to in order to get it.
FEEDS = {
    "book_snapshot": "book",
    "book": "book",
    "trade_snapshot": "trade",
    "trade": "trade",
    "ticker": "ticker",
    "ticker_lite": "ticker_lite",
}
NUMBERED = frozenset({"book", "trade"})  # feeds whose messages are numbered, each product by itself
HEARTBEAT = "heartbeat"
FAILED = {"subscribed_failed": "subscribe", "unsubscribed_failed": "unsubscribe"}
DONE = {"subscribed": "subscribe", "unsubscribed": "unsubscribe"}
EVENTS = frozenset({*FAILED, *DONE, "info", "error", "alert", "challenge", HEARTBEAT})


class Wanted(NamedTuple):
    """A feed as it is subscribed to; whether a jump in its numbers is a gap."""

    feed: str
    numbered: bool

    @classmethod
    def of(cls, name: str) -> "Wanted":
        """`book`, `trade`, `ticker`, `ticker_lite`; `book.unnumbered` and `trade.unnumbered`. Raises Permanent.

        The documentation does not promise that numbers have no holes; all recordings show none.
        """
        feed, _, given = name.partition(".")
        if feed not in FEEDS.values() or (given and (given != "unnumbered" or feed not in NUMBERED)):
            raise Permanent(
                f"Kraken Futures has no channel {name!r}: it has book, trade, ticker and ticker_lite "
                "(and book.unnumbered, trade.unnumbered)"
            )
        return cls(feed, feed in NUMBERED and not given)


class Numbered(msgspec.Struct, frozen=True, gc=False):
    seq: int = 0


class Frame(msgspec.Struct, frozen=True, gc=False):
    """As much of a frame as capture needs."""

    feed: str = ""
    product_id: str = ""
    seq: int = 0
    event: str = ""
    trades: list[Numbered] = []


class Answer(msgspec.Struct, frozen=True):
    """An event: the answer to a command, or something that the venue wants to say."""

    event: str
    feed: str = ""
    product_ids: list[str] = []
    message: str = ""


class Command(msgspec.Struct, frozen=True, omit_defaults=True):
    """A client frame; it has no number, so its answer is known by what it names."""

    event: str
    feed: str
    product_ids: list[str] | None = None
