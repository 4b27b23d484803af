"""What travels on Binance's WebSocket, as structs: the part of a frame that routes it, commands, answers to them."""

import msgspec

SUBSCRIBE = "SUBSCRIBE"
UNSUBSCRIBE = "UNSUBSCRIBE"
LIST = "LIST_SUBSCRIPTIONS"
SHUTDOWN = "serverShutdown"

TOO_MANY_REQUESTS = -1003
INVALID_SYMBOL = -1121


class Numbers(msgspec.Struct, frozen=True, gc=False):
    """The ids by which a payload can be missed; 0: not given."""

    U: int = 0  # depth: first and last update in the event
    u: int = 0  # bookTicker: the book's last update
    pu: int = 0  # USD-M depth: `u` of the event before
    t: int = 0  # trade


class Head(msgspec.Struct, frozen=True, gc=False):
    """As much of a combined stream's frame as capture needs."""

    stream: str
    data: Numbers


class Aggregate(msgspec.Struct, frozen=True, gc=False):
    """aggTrade's own id; elsewhere `a` is a price or a list."""

    a: int


class AggregateFrame(msgspec.Struct, frozen=True, gc=False):
    data: Aggregate


class Named(msgspec.Struct, frozen=True):
    """Whom a payload of a stream for all symbols is about; forced orders have it one level deeper."""

    s: str = ""
    o: "Named | str | None" = None  # a forced order; in tickers a price

    @property
    def symbol(self) -> str:
        return self.o.s if isinstance(self.o, Named) else self.s


class NamedFrame(msgspec.Struct, frozen=True):
    data: list[Named] | Named


class Error(msgspec.Struct, frozen=True):
    code: int = 0
    msg: str = ""


class Frame(msgspec.Struct, frozen=True):
    """Any frame: of a stream, an answer to a command, an event of the connection, an answer to a request by REST."""

    stream: str | None = None
    result: msgspec.Raw = msgspec.Raw()  # empty: there is none, and it is no such answer
    id: int | str | None = None
    error: Error | None = None
    code: int | None = None
    msg: str = ""
    e: str | None = None
    rest: str | None = None
    status: int = 0
    body: msgspec.Raw = msgspec.Raw()


class Snapshot(msgspec.Struct, frozen=True):
    """As much of a book by REST as capture needs."""

    lastUpdateId: int


class Command(msgspec.Struct, frozen=True, omit_defaults=True):
    """A client frame; `id` is unique on its connection."""

    method: str
    id: int
    params: list[str] | None = None
