"""What travels on Polymarket's market channel, as structs; and the hash by which the venue names a book's state."""

import hashlib
from collections.abc import Iterable, Mapping

import msgspec

CUSTOM = frozenset({"best_bid_ask", "new_market", "market_resolved"})  # sent only to those who ask for extras
MARKET_WIDE = frozenset({"new_market", "market_resolved"})  # name a market and its tokens, not one token
KINDS = frozenset({"book", "price_change", "last_trade_price", "tick_size_change"}) | CUSTOM
PING = b"PING"
PONG = b"PONG"
NOTHING_NEW = b"NO NEW ASSETS"  # seen by one client: everything asked for was subscribed already
INVALID = b"INVALID OPERATION"
TEXTS = frozenset({PONG, NOTHING_NEW, INVALID})  # all that is sent beside JSON


class Change(msgspec.Struct, gc=False):
    """A level of one token's book has a new total; `hash` names the whole book after it."""

    asset_id: str
    price: str
    size: str
    side: str
    hash: str = ""
    best_bid: str = ""
    best_ask: str = ""


class Head(msgspec.Struct, gc=False):
    """What routes a frame, and what most frames are about."""

    event_type: str
    asset_id: str = ""
    market: str = ""
    timestamp: str = ""
    price_changes: list[Change] | None = None


class Price(msgspec.Struct, gc=False):
    """A level of a book."""

    price: str
    size: str


class OldChange(msgspec.Struct, gc=False):
    """Until September 2025 the token was named outside."""

    price: str
    size: str
    side: str


class Item(msgspec.Struct):
    """Any message, with all that it may say; some first books come without `event_type`."""

    event_type: str = ""
    asset_id: str = ""
    market: str = ""
    timestamp: str = ""
    price_changes: list[Change] | None = None
    changes: list[OldChange] | None = None
    bids: list[Price] | None = None
    asks: list[Price] | None = None
    buys: list[Price] | None = None
    sells: list[Price] | None = None
    hash: str = ""
    tick_size: str = ""
    last_trade_price: str | None = None
    price: str = ""
    size: str = ""
    side: str = ""
    transaction_hash: str | None = None
    best_bid: str = ""
    best_ask: str = ""
    assets_ids: list[str] | None = None

    @property
    def kind(self) -> str:
        """The type, or what it must be."""
        return self.event_type or ("book" if self.has_levels else "")

    @property
    def has_levels(self) -> bool:
        return any(side is not None for side in (self.bids, self.asks, self.buys, self.sells))

    def symbol(self) -> str:
        """The token it is about, the first one if there are several; a market that names none is named itself."""
        if self.asset_id:
            return self.asset_id
        if self.price_changes:
            return self.price_changes[0].asset_id
        if self.kind in MARKET_WIDE:
            return self.assets_ids[0] if self.assets_ids else self.market
        return ""


class Answered(msgspec.Struct):
    """The answer to one of our requests, as the connector hands it back."""

    rest: str
    status: int
    body: msgspec.Raw = msgspec.Raw(b"")


class Command(msgspec.Struct, omit_defaults=True):
    """The first one on a connection has a `type`, later ones an `operation`. The misspelling is the venue's."""

    assets_ids: list[str]
    type: str = ""
    operation: str = ""
    custom_feature_enabled: bool = False


class Constants(msgspec.Struct, frozen=True):
    """What of a book's hash is not on the wire, but does not change either."""

    min_order_size: str
    neg_risk: bool


# Tried on a book until one gives its hash. All recorded books have the first.
LIKELY = tuple(Constants(size, neg) for size in ("5", "15", "1", "10", "0") for neg in (False, True))


def book_hash(
    market: str,
    token: str,
    timestamp: str,
    bids: Mapping[str, str],
    asks: Mapping[str, str],
    tick_size: str,
    last_trade_price: str,
    constants: Constants,
) -> str:
    """SHA-1 over the compact JSON of the book's summary: bids upwards, asks downwards, so the best come last.

    It is in every book and every change. It fits 12 of 12 recorded books, and all 10 recorded changes that are later
    than a recorded book.
    """
    text = (
        f'{{"market":"{market}","asset_id":"{token}","timestamp":"{timestamp}","hash":"","bids":[{_levels(bids)}],'
        f'"asks":[{_levels(asks, falling=True)}],"min_order_size":"{constants.min_order_size}",'
        f'"tick_size":"{tick_size}","neg_risk":{"true" if constants.neg_risk else "false"},'
        f'"last_trade_price":"{last_trade_price}"}}'
    )
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _levels(side: Mapping[str, str], *, falling: bool = False) -> str:
    prices: Iterable[str] = sorted(side, key=float, reverse=falling)
    return ",".join([f'{{"price":"{price}","size":"{side[price]}"}}' for price in prices])
