"""The client's grammar on one Binance connection: subscribe, route every frame, watch ids, keep order books whole.

Trades carry consecutive ids, depth events chain by theirs. A hole in a symbol's trades is a gap as long as the hole;
a hole in its depth lasts until a snapshot by REST makes the book whole again. Both concern that symbol alone.

Events read in the order of their frames give the right book without ids, for the adapter arranges them so:
- A snapshot is usually older than the last event by the time it is here (both captures at hand show it so). The
  events that came since it was asked for are repeated in its frame.
- An event that the snapshot holds already, or that comes a second time, goes to `depth_past`, which says nothing.
- A snapshot that is too old to join goes to `control`, and another one is asked for.

Ids outlive a connection: the next one's first frame of a stream shows whether something is missing since the last.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from exchanges.binance.messages import (
    INVALID_SYMBOL,
    LIST,
    SHUTDOWN,
    SUBSCRIBE,
    UNSUBSCRIBE,
    AggregateFrame,
    Command,
    Error,
    Frame,
    Head,
    NamedFrame,
    Numbers,
    Snapshot,
)
from exchanges.binance.product import Product, channel_of, is_for_all, kind_of, stream_name, symbol_of
from exchanges.port import Notice, Number, Received, Request, Subscription
from ssmd.events import GapCause
from ssmd.frames import BAD, CONTROL

SECOND_NS = 1_000_000_000
ANSWER_NS = 10 * SECOND_NS  # the venue answers commands in milliseconds
SILENT_NS = 60 * SECOND_NS  # a stream that exists is acknowledged like one that does not
UNSYNCED_NS = 60 * SECOND_NS  # without a usable snapshot for so long the book is a gap
STALLED_NS = 10 * SECOND_NS  # best prices move on, the depth does not: its slowest update is every second
ATTEMPTS_MAX = 3  # of one command
BURST = 2  # commands at once; then one a tick, well under the 4 a second that were seen to be safe
NAMES_MAX = 200  # in one command: lists of over 400 were seen to fail silently
ASKED_MAX = 4  # snapshots under way
FEW_BOOKS = 8  # so many have the deepest snapshots, as long as there is weight for them
BUDGET_SECONDS = 60  # of weight that may pile up; with that we take at most two thirds of what a minute allows
PATIENCE_SECONDS = (1.0, 60.0)  # between two snapshots of a book
BANNED_SECONDS = 60
MEANWHILE_BYTES_MAX = 512 << 10  # of events repeated in a snapshot's frame
BEHIND_MAX = 50  # ids in a row that are no progress: the venue has begun to number anew
SYMBOL_CHARACTERS_MAX = 200  # a subject token must stay well below NATS's limits
STREAMS_MAX = 100_000  # one connection may mention before those not subscribed to are forgotten
NAMES_TOLD_MAX = 10

_decode_head = msgspec.json.Decoder(Head).decode
_decode_aggregate = msgspec.json.Decoder(AggregateFrame).decode
_decode_frame = msgspec.json.Decoder(Frame).decode
_decode_raw = msgspec.json.Decoder(msgspec.Raw).decode
_decode_named = msgspec.json.Decoder(NamedFrame).decode
_decode_names = msgspec.json.Decoder(list[str]).decode
_decode_snapshot = msgspec.json.Decoder(Snapshot).decode
_decode_error = msgspec.json.Decoder(Error).decode
_encode = msgspec.json.Encoder().encode

_CONTROL = Received(CONTROL, None)
_Watched = Literal["depth", "trade", "aggTrade", "bookTicker", ""]
_WATCHED: dict[str, _Watched] = {
    "depth": "depth",
    "rpiDepth": "depth",
    "trade": "trade",
    "blockTrade": "trade",
    "aggTrade": "aggTrade",
    "bookTicker": "bookTicker",
}


_COUNTED = frozenset({"depth", "trade", "aggTrade"})


class _Book:
    """What is known of the book that a depth stream tells of."""

    __slots__ = (
        "asked",
        "broken",
        "channel",
        "floor",
        "kept",
        "kept_bytes",
        "known",
        "past",
        "patience",
        "since",
        "stalled_at",
        "stalled_ns",
        "subscribed_ns",
        "unsynced_ns",
        "whole",
    )

    def __init__(self, channel: str, symbol: str) -> None:
        self.channel = f"{channel}_snapshot"
        self.past = Received(f"{channel}_past", symbol)
        self.since = 0  # the book's id before the first event of the unbroken chain
        self.known = 0  # id of a snapshot that the stream has not reached yet
        self.whole = False
        self.broken: set[GapCause] = set()
        self.asked: Request | None = None
        self.floor = 0  # a snapshot must not be older: later events alone are kept for it
        self.kept: deque[tuple[int, int]] = deque()  # last id and size of each event in asked.meanwhile
        self.kept_bytes = 0
        self.patience = 0.0  # seconds, after an ask in vain
        self.subscribed_ns = 0  # ts_recv of the acknowledgement
        self.unsynced_ns = 0  # since when there was no usable answer
        self.stalled_at = 0  # id that the best prices have reached
        self.stalled_ns = 0

    def keep(self, wire: bytes, last: int) -> None:
        """Repeat this event behind the snapshot that is asked for."""
        assert self.asked is not None
        wire = wire.strip()
        self.asked.meanwhile.append(wire)
        self.kept.append((last, len(wire)))
        self.kept_bytes += len(wire)
        while self.kept_bytes > MEANWHILE_BYTES_MAX:
            self.floor, size = self.kept.popleft()
            self.kept_bytes -= size
            del self.asked.meanwhile[0]


class _Stream:
    """A stream: where its frames go, and the last id seen."""

    __slots__ = (
        "acked",
        "attempts",
        "behind",
        "behind_at",
        "book",
        "inherited",
        "last",
        "name",
        "plain",
        "route",
        "symbol",
        "ts_recv",
        "wanted",
        "warned",
        "watched",
    )

    def __init__(self, name: str, channel: str) -> None:
        self.name = name
        self.symbol = "" if is_for_all(name) else symbol_of(name)
        self.route = Received(channel, self.symbol)
        self.watched = _WATCHED.get(channel, "")
        self.book = _Book(channel, self.symbol) if self.watched == "depth" else None
        self.last = 0  # id; 1 where there are none, once it was heard
        self.inherited = 0  # last, as long as nothing new was heard on this connection
        self.ts_recv = 0  # of its last frame: what is found missing was sent after it
        self.plain = True  # the next event needs no thought
        self.wanted = False
        self.attempts = 0  # to subscribe to it after the venue has dropped it
        self.acked = False
        self.warned = False
        self.behind = 0
        self.behind_at = 0


@dataclass
class _Pending:
    """A command not yet answered."""

    method: str
    streams: tuple[_Stream, ...] = ()
    deadline_ns: int = 0  # set by the first tick after it was sent
    sent: bool = False
    attempts: int = 1
    mends: tuple[str, ...] = ()  # instruments of which nothing is missing once it is answered
    probe: bool = False  # asked because a channel is silent

    def __str__(self) -> str:
        return f"{self.method} of {_names(self.streams)}" if self.streams else self.method


class BinanceAdapter:
    """One connection's grammar. `received` is the platform's hottest function: see its comments before touching it."""

    def __init__(self, product: Product, subscription: Subscription) -> None:
        self._product = product
        self._subscription = subscription
        self._streams: dict[str, _Stream] = {}
        self._inheritance = dict(subscription.numbers)  # by stream
        self._routes: dict[tuple[str, str | None], Received] = {}  # of streams for all symbols
        self._wanted: dict[str, _Stream] = {}
        self._id = 0
        self._queue: deque[int] = deque()  # ids of commands to be sent
        self._commands: dict[int, bytes] = {}
        self._pending: dict[int, _Pending] = {}
        self._young: dict[_Stream, int] = {}  # acknowledged, and not looked at since -> when
        self._unlisted = False  # there are subscriptions whose existence is to be checked
        self._notices: list[Notice] = []  # for the next tick
        self._unserved: set[str] = set()  # channels that are not of this route, and were told
        self._warned: list[_Stream] = []  # once a tick is enough: a venue that numbers anew would fill the log
        self._gaps: Counter[tuple[str, GapCause]] = Counter()  # open ones
        self._waiting: dict[_Stream, float] = {}  # books that need a snapshot -> seconds before it is asked for
        self._asked: dict[str, _Stream] = {}  # by the request
        self._unsynced: dict[_Stream, None] = {}  # books that are not whole
        self._rate = product.weight_per_minute / 60 / 3 * subscription.share  # weight a second
        self._budget_max = max(self._rate * BUDGET_SECONDS, product.snapshots[1][1])
        self._budget = self._budget_max
        self._ticked_ns = 0

    # ----------------------------------------------------------------------------------------------- each frame

    def received(self, wire: bytes, ts_recv: int) -> Received:
        """Route one frame: one partial decode (it skips, but checks, what it does not need), one look-up, one id."""
        try:
            head = _decode_head(wire)
            stream = self._streams[head.stream]
            data = head.data
            watched = stream.watched
            if watched == "bookTicker":
                if data.u <= stream.last:
                    return self._watch(stream, data, wire, ts_recv)
                stream.last = data.u
            elif watched == "depth":
                if (data.pu or data.U - 1) != stream.last or data.u < data.U or not stream.plain:
                    return self._watch(stream, data, wire, ts_recv)
                stream.last = data.u
            elif watched == "trade":
                if data.t != stream.last + 1:
                    return self._watch(stream, data, wire, ts_recv)
                stream.last = data.t
            elif watched:
                return self._watch(stream, data, wire, ts_recv)
            else:
                stream.last = 1
            stream.ts_recv = ts_recv
            if wire.isascii():
                return stream.route
            wire.decode()  # msgspec does not check the text it skips
            return stream.route
        except Exception:
            return self._slow(wire, ts_recv)

    def _slow(self, wire: bytes, ts_recv: int) -> Received:
        """Whatever the fast way did not settle: first sight of a stream, arrays, answers, rubbish."""
        try:
            wire.decode()
            frame = _decode_frame(wire)
        except msgspec.ValidationError as e:
            return _odd(wire, f"not a Binance message: {e}")
        except UnicodeDecodeError as e:
            return Received(BAD, None, f"not UTF-8: {e.reason} at byte {e.start}", json=False)
        except RecursionError:
            return Received(BAD, None, "nested too deeply", json=False)
        except msgspec.DecodeError as e:
            return Received(BAD, None, f"not JSON: {e}", json=False)
        if frame.stream is not None:
            return self._streamed(frame.stream, wire, ts_recv)
        if frame.rest is not None:
            return self._answer(frame.rest, frame)
        if frame.e == SHUTDOWN:
            return _SHUTDOWN
        if bytes(frame.result) or frame.error is not None or frame.code is not None:
            return self._answered(frame, ts_recv)
        return Received(BAD, None, "neither of a stream nor an answer")

    def _streamed(self, name: str, wire: bytes, ts_recv: int) -> Received:
        if name == f"!{SHUTDOWN}":
            return _SHUTDOWN
        stream = self._streams.get(name)
        if stream is None:
            channel = channel_of(name)
            if channel is None:
                return Received(BAD, None, f"unknown stream {name[:80]!r}")
            if is_for_all(name):
                return self._for_all(channel, wire)
            if not 0 < len(symbol_of(name)) <= SYMBOL_CHARACTERS_MAX:
                return Received(BAD, None, f"{channel} of a symbol of {len(symbol_of(name))} characters")
            stream = self._new(name, channel)
        try:
            return self._watch(stream, _decode_head(wire).data, wire, ts_recv)
        except msgspec.DecodeError as e:
            return _odd(wire, f"{stream.route.channel} not as documented: {e}")

    def _new(self, name: str, channel: str) -> _Stream:
        stream = _Stream(name, channel)
        if not is_for_all(name):
            if len(self._streams) >= STREAMS_MAX:
                self._streams = {n: s for n, s in self._wanted.items() if not is_for_all(n)}
            self._streams[name] = stream
        return stream

    def _for_all(self, channel: str, wire: bytes) -> Received:
        """A frame of a stream for all symbols: it goes under its first payload's."""
        try:
            data = _decode_named(wire).data
        except msgspec.DecodeError as e:
            return _odd(wire, f"{channel} not as documented: {e}")
        first = (data[0] if data else None) if isinstance(data, list) else data
        name = None if first is None else first.symbol
        if first is not None and not 0 < len(first.symbol) <= SYMBOL_CHARACTERS_MAX:
            return Received(BAD, None, f"{channel} of a symbol of {len(first.symbol)} characters")
        route = self._routes.get((channel, name))
        if route is None:
            if len(self._routes) >= STREAMS_MAX:
                self._routes.clear()
            route = self._routes[channel, name] = Received(channel, name)
        return route

    # ------------------------------------------------------------------------------------------------- the ids

    def _watch(self, stream: _Stream, data: Numbers, wire: bytes, ts_recv: int) -> Received:
        """The look at ids for frames that did not take the fast way."""
        if not wire.isascii():
            wire.decode()
        told = self._look(stream, data, wire)
        stream.ts_recv = ts_recv
        return told

    def _look(self, stream: _Stream, data: Numbers, wire: bytes) -> Received:
        match stream.watched:
            case "depth":
                return self._depth(stream, data, wire)
            case "trade":
                return self._consecutive(stream, data.t)
            case "aggTrade":
                return self._consecutive(stream, _decode_aggregate(wire).data.a)
            case "bookTicker":
                if data.u <= stream.last:
                    return self._behind(stream, data.u, stream.route)
                stream.last = data.u
            case _:
                stream.last = 1
        return stream.route

    def _consecutive(self, stream: _Stream, number: int) -> Received:
        """Trades: an id that is not the next one is a hole, and the hole is the gap."""
        if number <= 0:
            return Received(BAD, None, f"{stream.route.channel} without an id")
        last = stream.last
        if number <= last:
            return self._behind(stream, number, stream.route)
        stream.last = number
        if not last or number == last + 1:
            return stream.route
        evidence = f"{stream.name}: id {number} after {last}{_before(stream, last)}, {number - last - 1} missing"
        return stream.route._replace(notices=self._hole(stream, evidence))

    def _hole(self, stream: _Stream, evidence: str) -> tuple[Notice, ...]:
        if (stream.symbol, "sequence") in self._gaps:  # the row that is open already says it
            return (Notice("warning", (stream.symbol,), evidence=evidence),)
        return _over(stream, evidence)

    def _behind(self, stream: _Stream, number: int, route: Received) -> Received:
        """An id that was seen, or passed, already: sent twice or late."""
        if stream.behind_at != stream.last:
            stream.behind, stream.behind_at = 0, stream.last
        stream.behind += 1
        if stream.behind > BEHIND_MAX:
            return self._renumbered(stream, number)
        if stream.warned:
            return route
        stream.warned = True
        self._warned.append(stream)
        evidence = f"{stream.name}: id {number} again or late, {stream.last} was seen already"
        return route._replace(notices=(Notice("warning", (stream.symbol,), evidence=evidence),))

    def _renumbered(self, stream: _Stream, number: int) -> Received:
        """A symbol that is listed anew may begin with low ids."""
        evidence = f"{stream.name}: ids begin anew at {number}, {stream.last} was seen before"
        stream.last = number
        if stream.book is None:
            return stream.route._replace(notices=() if stream.watched == "bookTicker" else _over(stream, evidence))
        stream.book.since = number
        return stream.route._replace(
            notices=self._broken(stream, stream.book, "sequence", evidence), asks=tuple(self._want(stream))
        )

    # ---------------------------------------------------------------------------------------------------- books

    def _depth(self, stream: _Stream, data: Numbers, wire: bytes) -> Received:
        book = stream.book
        assert book is not None
        if not 0 < data.U <= data.u:
            return Received(BAD, None, f"depth with update ids {data.U} to {data.u}")
        last, before = stream.last, data.pu or data.U - 1
        if data.u <= last:
            return self._behind(stream, data.u, book.past)
        stream.last = data.u
        notices: tuple[Notice, ...] = ()
        asks: list[Request] = []
        expected = last or book.known  # a snapshot may come before the first event
        if (expected and before > expected) or (last and data.pu and before != last):
            missing = f"follows {before}" if data.pu else f"{before - expected} updates missing"
            after = f"{expected}{_before(stream, expected)}"
            evidence = f"{stream.name}: updates {data.U} to {data.u} after {after}, {missing}"
            if last == stream.inherited and before <= book.known:  # a snapshot has come first: it is made good already
                notices = self._hole(stream, evidence)
            else:
                notices = self._broken(stream, book, "sequence", evidence)
                book.since = before
                asks = self._want(stream)
        elif not last:
            book.since = before
        if "stale" in book.broken:
            notices += self._mended(stream, book, "stale")
        route = stream.route
        if data.u <= book.known:
            route = book.past
        else:
            book.known = 0
        if book.asked is not None:
            book.keep(wire, data.u)
        stream.plain = book.asked is None and not book.known
        return route._replace(notices=notices, asks=tuple(asks)) if notices or asks else route

    def _broken(
        self, stream: _Stream, book: _Book, cause: GapCause, evidence: str, since_ns: int = 0
    ) -> tuple[Notice, ...]:
        """The book cannot be trusted until it has a new snapshot."""
        book.known, book.whole = 0, False
        self._unsynced[stream] = None
        if cause in book.broken:
            return (Notice("warning", (stream.symbol,), cause, evidence),)
        book.broken.add(cause)
        return self._open(stream.symbol, cause, evidence, since_ns or stream.ts_recv)

    def _mended(self, stream: _Stream, book: _Book, cause: GapCause) -> tuple[Notice, ...]:
        if cause not in book.broken:
            return ()
        book.broken.remove(cause)
        return self._close(stream.symbol, cause)

    def _open(self, name: str, cause: GapCause, evidence: str, since_ns: int) -> tuple[Notice, ...]:
        """A symbol has one open row for a cause, whatever of it is missing."""
        self._gaps[name, cause] += 1
        return (Notice("break" if self._gaps[name, cause] == 1 else "warning", (name,), cause, evidence, since_ns),)

    def _close(self, name: str, cause: GapCause) -> tuple[Notice, ...]:
        self._gaps[name, cause] -= 1
        if self._gaps[name, cause]:
            return ()
        del self._gaps[name, cause]
        return (Notice("mended", (name,), cause),)

    def _want(self, stream: _Stream) -> list[Request]:
        """A snapshot of this book, now if it may be."""
        assert stream.book is not None
        if stream.wanted and stream.book.asked is None:
            self._waiting.setdefault(stream, 0.0)
            return list(self._ask())
        return []

    def _ask(self) -> Iterator[Request]:
        """Snapshots for the books that wait, as many as the venue's limits leave room for."""
        deepest, usual = self._product.snapshots
        books = sum(s.book is not None for s in self._wanted.values()) if self._waiting else 0
        for stream, seconds in list(self._waiting.items()):
            limit, weight = deepest if books <= FEW_BOOKS and self._budget >= deepest[1] else usual
            if len(self._asked) >= ASKED_MAX or self._budget < weight:
                return
            book = stream.book
            assert book is not None
            path = f"{self._product.api}/{stream.route.channel}"
            request = Request("GET", path, {"symbol": stream.symbol, "limit": str(limit)})
            name = f"{request.method} {request.target}"
            if seconds > 0 or name in self._asked:
                continue
            self._budget -= weight
            del self._waiting[stream]
            self._asked[name] = stream
            book.asked, book.floor, book.kept_bytes = request, stream.last, 0
            book.kept.clear()
            stream.plain = False
            yield request

    def _answer(self, name: str, frame: Frame) -> Received:
        """A snapshot has come: does it join the events that we have, or those to come?"""
        stream = self._asked.pop(name, None)
        if stream is None:
            return _CONTROL
        book = stream.book
        assert book is not None
        book.asked = None
        stream.plain = not book.known
        if not stream.wanted:
            return _CONTROL
        if frame.status != 200:
            return self._unanswered(stream, book, frame)
        try:
            taken = _decode_snapshot(frame.body).lastUpdateId
        except msgspec.DecodeError as e:
            return self._again(stream, book, f"no order book: {e}")
        if taken < 0:
            return self._again(stream, book, "the book is empty yet")
        if taken < max(book.since, book.floor):
            return self._again(stream, book, f"as of update {taken}, older than {max(book.since, book.floor)}")
        book.whole, book.patience, book.unsynced_ns = True, 0.0, 0
        self._unsynced.pop(stream, None)
        if taken > stream.last:
            book.known, stream.plain = taken, False
        return Received(book.channel, stream.symbol, notices=self._mended(stream, book, "sequence"))

    def _unanswered(self, stream: _Stream, book: _Book, frame: Frame) -> Received:
        try:
            error = _decode_error(frame.body)
        except msgspec.DecodeError:
            error = Error()
        said = f"HTTP {frame.status} {error.code} {error.msg[:200]}" if error.code else f"HTTP {frame.status}"
        if error.code == INVALID_SYMBOL:
            self._unsynced.pop(stream, None)
            evidence = f"{stream.name}: there is no such symbol ({said})"
            return _CONTROL._replace(notices=(Notice("refused", (stream.symbol,), evidence=evidence),))
        if frame.status in {418, 429}:
            self._budget = -self._rate * BANNED_SECONDS
        return self._again(stream, book, said)

    def _again(self, stream: _Stream, book: _Book, why: str) -> Received:
        """This answer was of no use: ask again, ever more slowly."""
        shortest, longest = PATIENCE_SECONDS
        book.patience = min(max(book.patience * 2, shortest), longest)
        self._waiting[stream] = book.patience
        evidence = f"{stream.name}: no usable snapshot, {why}; asking again in {book.patience:.0f} s"
        return _CONTROL._replace(notices=(Notice("warning", (stream.symbol,), evidence=evidence),))

    # --------------------------------------------------------------------------------------- answers to commands

    def _answered(self, frame: Frame, ts_recv: int) -> Received:
        pending = self._pending.pop(frame.id, None) if isinstance(frame.id, int) else None
        error = frame.error or (None if frame.code is None else Error(frame.code, frame.msg))
        if error is not None:
            said = f"error {error.code}: {error.msg[:200]}"
            notice = Notice("warning", evidence=said) if pending is None else self._refused(pending, said)
            return _CONTROL._replace(notices=(notice,))
        if pending is None:
            return _CONTROL
        if pending.method == LIST:
            return self._compare(frame, pending.probe)
        asks: list[Request] = []
        if pending.method == SUBSCRIBE:
            self._unlisted = True
            for stream in pending.streams:
                if not stream.wanted:
                    continue
                stream.acked = True
                stream.ts_recv = stream.ts_recv or ts_recv
                self._young[stream] = 0
                if stream.book is not None and not stream.book.whole:
                    stream.book.subscribed_ns = stream.book.subscribed_ns or ts_recv
                    self._unsynced[stream] = None
                    asks += self._want(stream)
        mended = tuple(told for name in pending.mends for told in self._close(name, "sequence"))
        return _CONTROL._replace(notices=mended, asks=tuple(asks)) if mended or asks else _CONTROL

    def _refused(self, pending: _Pending, said: str) -> Notice:
        for stream in pending.streams if pending.method == SUBSCRIBE else ():
            self._drop(stream)
        symbols = tuple(dict.fromkeys(s.symbol for s in pending.streams if s.symbol))
        return Notice("refused", symbols, evidence=f"{pending}: {said}")

    def _compare(self, frame: Frame, probe: bool) -> Received:
        """Streams that the venue acknowledged but does not list: subscribed to once more, and told."""
        try:
            listed = set(_decode_names(frame.result))
        except msgspec.DecodeError as e:
            return Received(BAD, None, f"a list of subscriptions not as documented: {e}")
        notices: list[Notice] = []
        missing = [s for s in self._wanted.values() if s.acked and s.name not in listed]
        hopeless = [s for s in missing if s.attempts >= ATTEMPTS_MAX]
        for stream in hopeless:
            self._drop(stream)
            evidence = f"{stream.name}: acknowledged {ATTEMPTS_MAX} times, and not listed"
            notices.append(Notice("refused", (stream.symbol,), evidence=evidence))
        again = [s for s in missing if s.attempts < ATTEMPTS_MAX]
        if again:
            evidence = f"the venue no longer lists {_names(again)}"
            heard = sorted((s.symbol, s.ts_recv) for s in again if s.last != s.inherited)
            mends = tuple(dict.fromkeys(name for name, _ in heard))
            for name in mends:
                notices += self._open(name, "sequence", evidence, dict(reversed(heard))[name])
            notices.append(Notice("warning", evidence=f"{evidence}; subscribing again"))
            for stream in again:
                stream.attempts += 1
                stream.acked = False
            self._enqueue(SUBSCRIBE, again, mends)
        if probe:
            listed_alone = {s.route.channel for s in self._wanted.values()} - {s.route.channel for s in missing}
            notices.append(Notice("explained", channels=tuple(sorted(listed_alone))))
        return _CONTROL._replace(notices=tuple(notices)) if notices else _CONTROL

    # -------------------------------------------------------------------------------------------------- commands

    @property
    def brings_all(self) -> bool:
        return self._subscription.general and any(map(is_for_all, self._subscription.channels))

    def opened(self) -> Sequence[bytes]:
        """All subscriptions, a list of names each; what is too much for the first moment is sent by `tick`."""
        self._enqueue(SUBSCRIBE, self._add(self._subscription.symbols, also_all=self._subscription.general))
        self._inheritance.clear()  # the rest is of what is not wanted any more
        return [self._send() for _ in range(min(BURST, len(self._queue)))]

    @property
    def standing(self) -> bool:
        return all(p.method != SUBSCRIBE for p in self._pending.values())

    def subscribe(self, symbols: Iterable[str]) -> Sequence[bytes]:
        return self._change(SUBSCRIBE, self._add(symbols))

    def unsubscribe(self, symbols: Iterable[str]) -> Sequence[bytes]:
        unwanted = set(symbols)
        gone = [s for s in self._wanted.values() if s.symbol in unwanted]
        for stream in gone:
            self._drop(stream)
        return self._change(UNSUBSCRIBE, gone)

    def numbers(self) -> Mapping[str, Number]:
        """Ids of trades, and of depth updates, count a symbol's, whoever is connected."""
        counted = (s for s in self._wanted.values() if s.last and s.watched in _COUNTED)
        return self._inheritance | {s.name: Number(s.last, s.ts_recv) for s in counted}

    def probe(self) -> Sequence[bytes]:
        """A list of the subscriptions: a venue that answers and still lists them has nothing to say."""
        self._enqueue_one(_Pending(LIST, probe=True), front=True)
        return [self._send()]

    def _change(self, method: str, streams: list[_Stream]) -> Sequence[bytes]:
        self._enqueue(method, streams)
        return [self._send()] if self._queue else []

    def _add(self, symbols: Iterable[str], *, also_all: bool = False) -> list[_Stream]:
        """New streams to subscribe to. What this route does not serve, or has no room for, is told."""
        product, new, left = self._product, list[_Stream](), dict[str, str]()
        names = dict.fromkeys(symbols)
        for channel in dict.fromkeys(self._subscription.channels):
            if kind_of(channel) not in product.kinds:
                if channel not in self._unserved:
                    self._unserved.add(channel)
                    evidence = f"{channel}: is no stream of {product.name}, subscribing would only be acknowledged"
                    self._notices.append(Notice("refused", evidence=evidence))
                continue
            if is_for_all(channel):
                wanted = {channel: ""} if also_all else {}
            else:
                wanted = {stream_name(name, channel): name for name in names}
            for name, symbol in wanted.items():
                if name in self._wanted:
                    continue
                if len(self._wanted) >= product.streams_max:
                    left[name] = symbol
                    continue
                added = self._streams.get(name) or self._new(name, channel_of(name) or "")
                if name in self._inheritance:
                    added.inherited, added.ts_recv = self._inheritance[name]
                    added.last = added.inherited
                added.wanted = True
                self._wanted[name] = added
                new.append(added)
        if left:
            told = ", ".join(list(left)[:NAMES_TOLD_MAX])
            evidence = f"{len(left)} streams are more than the {product.streams_max} of a connection: {told}"
            symbols = tuple(dict.fromkeys(symbol for symbol in left.values() if symbol))
            self._notices.append(Notice("refused", symbols, evidence=evidence))
        return new

    def _drop(self, stream: _Stream) -> None:
        """Forget a subscription; a frame that is still on its way is routed all the same."""
        stream.wanted = False
        self._wanted.pop(stream.name, None)
        self._streams.pop(stream.name, None)
        self._waiting.pop(stream, None)
        self._unsynced.pop(stream, None)
        if stream.book is not None:
            for cause in list(stream.book.broken):
                self._notices += self._mended(stream, stream.book, cause)

    def _enqueue(self, method: str, streams: Sequence[_Stream], mends: tuple[str, ...] = ()) -> None:
        room = min(NAMES_MAX, self._subscription.symbols_per_subscription_max)
        for i in range(0, len(streams), room):
            self._enqueue_one(_Pending(method, tuple(streams[i : i + room]), mends=mends))
            mends = ()

    def _enqueue_one(self, pending: _Pending, *, front: bool = False) -> None:
        self._id += 1
        names = [s.name for s in pending.streams] or None
        self._commands[self._id] = _encode(Command(pending.method, self._id, names))
        self._pending[self._id] = pending
        if front:
            self._queue.appendleft(self._id)
        else:
            self._queue.append(self._id)

    def _send(self) -> bytes:
        number = self._queue.popleft()
        self._pending[number].sent = True
        return self._commands.pop(number)

    # ------------------------------------------------------------------------------------------------------ time

    def tick(self, now_ns: int) -> Received | None:
        elapsed = min(max(now_ns - self._ticked_ns, 0) / SECOND_NS, 5.0) if self._ticked_ns else 0.0
        self._ticked_ns = now_ns
        self._budget = min(self._budget + elapsed * self._rate, self._budget_max)
        for stream in self._warned:
            stream.warned = False
        self._warned.clear()
        notices, self._notices = self._notices, []
        notices += self._overdue(now_ns)
        if self._unlisted and not self._queue and all(p.method != SUBSCRIBE for p in self._pending.values()):
            self._unlisted = False
            self._enqueue_one(_Pending(LIST))
        notices += self._silent(now_ns)
        notices += self._late(now_ns)
        notices += self._stalled(now_ns)
        for stream, seconds in self._waiting.items():
            self._waiting[stream] = seconds - elapsed
        asks = tuple(self._ask())
        owed = (self._send(),) if self._queue else ()
        if not (owed or notices or asks):
            return None
        return Received(CONTROL, None, owed=owed, notices=tuple(notices), asks=asks)

    def _overdue(self, now_ns: int) -> list[Notice]:
        """Commands without an answer are sent again, then given up."""
        notices = []
        for number, pending in list(self._pending.items()):
            if not pending.sent:
                continue
            if not pending.deadline_ns:
                pending.deadline_ns = now_ns + ANSWER_NS
            elif now_ns >= pending.deadline_ns:
                del self._pending[number]
                said = f"no answer within {ANSWER_NS // SECOND_NS} s"
                if pending.attempts < ATTEMPTS_MAX and pending.method != LIST:
                    again = _Pending(pending.method, pending.streams, attempts=pending.attempts + 1)
                    again.mends = pending.mends
                    self._enqueue_one(again)
                    notices.append(Notice("warning", evidence=f"{pending}: {said}; asking again"))
                else:
                    notices.append(self._refused(pending, said))
        return notices

    def _silent(self, now_ns: int) -> list[Notice]:
        """Streams of which nothing came since they were acknowledged. Quiet ones exist, but so do misspelt ones."""
        silent = []
        for stream, since in list(self._young.items()):
            if not since:
                self._young[stream] = now_ns
            elif now_ns - since >= SILENT_NS:
                del self._young[stream]
                if stream.wanted and stream.symbol and stream.last == stream.inherited:
                    silent.append(stream)
        if not silent:
            return []
        symbols = tuple(dict.fromkeys(s.symbol for s in silent))
        evidence = f"acknowledged, but nothing came in {SILENT_NS // SECOND_NS} s: {_names(silent)}"
        return [Notice("warning", symbols, evidence=evidence)]

    def _late(self, now_ns: int) -> list[Notice]:
        """Books for which a snapshot was asked in vain for long are a gap."""
        notices: list[Notice] = []
        for stream in self._unsynced:
            book = stream.book
            assert book is not None
            if book.patience and not book.unsynced_ns:
                book.unsynced_ns = now_ns
            elif book.unsynced_ns and now_ns - book.unsynced_ns >= UNSYNCED_NS and "sequence" not in book.broken:
                evidence = f"{stream.name}: no usable snapshot of the book for {UNSYNCED_NS // SECOND_NS} s"
                notices += self._broken(stream, book, "sequence", evidence, book.subscribed_ns)
        return notices

    def _stalled(self, now_ns: int) -> list[Notice]:
        """Best prices carry the book's id: where they run ahead and the depth stands still, the depth has stalled."""
        notices: list[Notice] = []
        tops = {s.symbol: s for s in self._wanted.values() if s.watched == "bookTicker"}
        for stream in list(self._wanted.values()) if tops else ():
            book, top = stream.book, tops.get(stream.symbol)
            if book is None or top is None or not stream.last or "stale" in book.broken:
                continue
            if stream.last >= book.stalled_at:
                book.stalled_at, book.stalled_ns = top.last, now_ns
            elif now_ns - book.stalled_ns >= STALLED_NS:
                evidence = f"{stream.name}: stands at update {stream.last}, best prices at {top.last}"
                notices += self._broken(stream, book, "stale", evidence)
                stream.plain = False
                self._enqueue(SUBSCRIBE, [stream])
        return notices


def _odd(wire: bytes, why: str) -> Received:
    """Not as we know it: the first decode stopped where it was astonished. Is the rest JSON at all?"""
    try:
        _decode_raw(wire)
    except RecursionError:
        return Received(BAD, None, "nested too deeply", json=False)
    except msgspec.DecodeError as e:
        return Received(BAD, None, f"not JSON: {e}", json=False)
    return Received(BAD, None, why)


def _over(stream: _Stream, evidence: str) -> tuple[Notice, ...]:
    """A gap that is over as soon as it is known."""
    symbols = (stream.symbol,)
    return (Notice("break", symbols, "sequence", evidence, stream.ts_recv), Notice("mended", symbols))


def _before(stream: _Stream, last: int) -> str:
    return " on the connection before" if last == stream.inherited else ""


def _names(streams: Sequence[_Stream]) -> str:
    more = len(streams) - NAMES_TOLD_MAX
    return ", ".join(s.name for s in streams[:NAMES_TOLD_MAX]) + (f" and {more} more" if more > 0 else "")


_SHUTDOWN = _CONTROL._replace(notices=(Notice("ending", evidence="the venue announces that it will shut down"),))
