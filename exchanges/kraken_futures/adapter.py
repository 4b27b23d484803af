"""The client's grammar on one Kraken futures connection: subscribe, route every frame, watch each product's numbering.

Books and trades are numbered, each product and feed by itself. A hole in a book's numbers makes that book doubtful: it
is subscribed anew, for there is no other way to a snapshot. Trades in a hole do not come again, REST has them.
WebSocket pings, which the venue wants at least once a minute, are the connection's affair.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from exchanges.kraken.asking import SUBSCRIBE, UNSUBSCRIBE, Asking, given_up, with_more
from exchanges.kraken.resync import Resyncs
from exchanges.kraken_futures.messages import (
    DONE,
    EVENTS,
    FAILED,
    FEEDS,
    HEARTBEAT,
    Answer,
    Command,
    Frame,
    Wanted,
)
from exchanges.port import Notice, Number, Received, Subscription
from ssmd.errors import Permanent
from ssmd.frames import BAD, CONTROL

REQUESTS_PER_SECOND = 50  # the venue allows 100
SYMBOL_CHARACTERS_MAX = 200  # the longest seen has 18; a subject token must stay well below NATS's limits
PLACES_MAX = 100_000  # products and messages one connection may mention before the routing table is made anew

_decode = msgspec.json.Decoder(Frame).decode
_decode_answer = msgspec.json.Decoder(Answer).decode
_decode_raw = msgspec.json.Decoder(msgspec.Raw).decode
_encode = msgspec.json.Encoder().encode

_CONTROL = Received(CONTROL, None)


class _Number:
    """Where a product's numbering stands; `first` is that of its snapshot, `ts` when the last frame came."""

    __slots__ = ("first", "last", "ts")

    def __init__(self, last: int, ts: int) -> None:
        self.first = self.last = last
        self.ts = ts


class _Place:
    """Where messages of one kind and product go, and the numbering they must keep; None: it is not watched."""

    __slots__ = ("number", "route")

    def __init__(self, route: Received, number: _Number | None = None) -> None:
        self.route = route
        self.number = number


class KrakenFuturesAdapter:
    """One connection's grammar. `received` is the platform's hottest function: see its comments before touching it."""

    def __init__(self, subscription: Subscription) -> None:
        """Raises Permanent if a channel is none of the venue's, or named twice."""
        self._feeds: dict[str, Wanted] = {}
        for name in subscription.channels:
            wanted = Wanted.of(name)
            if wanted.feed in self._feeds:
                raise Permanent(f"Kraken Futures' channel {wanted.feed} is named twice: a connection carries it once")
            self._feeds[wanted.feed] = wanted
        self._symbols = {feed: dict.fromkeys(subscription.symbols) for feed in self._feeds}
        self._asking = Asking(
            _write,
            symbols_max=subscription.symbols_per_subscription_max,
            per_second=REQUESTS_PER_SECOND,
            then_alone=True,  # an error does not say which product it is about
        )
        self._resyncs = Resyncs("sequence")
        self._places: dict[tuple[str, str], _Place] = {}
        self._warned: set[tuple[str, str]] = set()  # since the last tick: a venue that goes mad would fill the log
        self._untold: list[Notice] = []
        self._probing = False  # heartbeats were asked for once more because a feed is silent

    # ----------------------------------------------------------------------------------------------- each frame

    def received(self, wire: bytes, ts_recv: int) -> Received:
        """Route one frame: one partial decode (it skips, but checks, what it does not need), one look-up, one count."""
        try:
            frame = _decode(wire)
            place = self._places[frame.feed, frame.product_id]
            number = place.number
            if number is not None:
                if frame.seq != number.last + 1:
                    return self._slow(wire, ts_recv)
                number.last = frame.seq
                number.ts = ts_recv
            if wire.isascii():
                return place.route
            wire.decode()  # msgspec does not check the text it skips
            return place.route
        except Exception:
            return self._slow(wire, ts_recv)

    def _slow(self, wire: bytes, ts_recv: int) -> Received:
        """Whatever the fast way did not settle: first sight of a product, snapshots, answers, breaks, rubbish."""
        try:
            wire.decode()
            frame = _decode(wire)
        except msgspec.ValidationError as e:
            return self._odd(wire, str(e))
        except UnicodeDecodeError as e:
            return Received(BAD, None, f"not UTF-8: {e.reason} at byte {e.start}", json=False)
        except RecursionError:
            return Received(BAD, None, "nested too deeply", json=False)
        except msgspec.DecodeError as e:
            return Received(BAD, None, f"not JSON: {e}", json=False)
        if frame.event:
            return self._event(wire, frame.event)
        if frame.feed == HEARTBEAT:
            return _CONTROL
        return self._message(frame, ts_recv)

    def _odd(self, wire: bytes, why: str) -> Received:
        """No frame as we know it."""
        try:
            _decode_raw(wire)  # the first decode stopped where it was astonished: is the rest JSON at all?
        except (msgspec.DecodeError, RecursionError) as e:
            return Received(BAD, None, f"not JSON: {e}", json=False)
        return Received(BAD, None, f"not a Kraken Futures message: {why}")

    def _message(self, frame: Frame, ts_recv: int) -> Received:
        kind, product = frame.feed, frame.product_id
        if kind not in FEEDS:
            return Received(BAD, None, f"unknown feed {kind[:80]!r}" if kind else "neither feed nor event")
        if not product:
            return Received(BAD, None, f"{kind} without product_id")
        if len(product) > SYMBOL_CHARACTERS_MAX:
            return Received(BAD, None, f"{kind} with a product_id of {len(product)} characters")
        feed = FEEDS[kind]
        watched = feed in self._feeds and self._feeds[feed].numbered and product in self._symbols[feed]
        if kind == "book_snapshot":
            return with_more(Received(kind, product), [], self._begun(frame, ts_recv) if watched else [])
        if kind == "trade_snapshot":
            if watched:
                last = max((trade.seq for trade in frame.trades), default=0)
                self._watch("trade", product, last, ts_recv)
            return Received(kind, product)
        place = self._places.get((kind, product))
        if place is not None and watched:
            return with_more(place.route, *self._unexpected(frame, place, ts_recv))
        if watched and kind == "trade":
            return self._watch("trade", product, frame.seq, ts_recv).route
        if watched:
            return Received(kind, product)  # a book that is doubtful: nothing counts before its snapshot
        return self._remember(kind, product, None).route

    def _remember(self, kind: str, product: str, number: _Number | None) -> _Place:
        if len(self._places) >= PLACES_MAX:
            self._places.clear()
        place = self._places[kind, product] = _Place(Received(kind, product), number)
        return place

    # ------------------------------------------------------------------------------------------ the numbering

    def _watch(self, kind: str, product: str, last: int, ts_recv: int) -> _Place:
        """From here on the numbers of these messages follow `last`; 0: from whatever comes first."""
        if not last:
            self._places.pop((kind, product), None)
            return _Place(Received(kind, product))
        return self._remember(kind, product, _Number(last, ts_recv))

    def _begun(self, frame: Frame, ts_recv: int) -> list[Notice]:
        """A book's snapshot: its deltas go on from it."""
        self._watch("book", frame.product_id, frame.seq, ts_recv)
        return self._resyncs.mended(frame.product_id)

    def _unexpected(self, frame: Frame, place: _Place, ts_recv: int) -> tuple[list[bytes], list[Notice]]:
        """A seq that is not the next one: ahead is a gap, behind was sent twice or late."""
        kind, product, number = frame.feed, frame.product_id, place.number
        if number is None or frame.seq <= number.first:
            return [], []  # a delta that the snapshot holds already
        if frame.seq <= number.last:
            return [], self._warn_once(kind, product, f"seq {frame.seq} again or late, {number.last} was seen already")
        missing = frame.seq - number.last - 1
        evidence = f"{kind} of {product}: seq {frame.seq} after {number.last}, {missing} missing"
        since = number.ts
        if kind == "trade":
            number.last, number.ts = frame.seq, ts_recv
            if self._resyncs.open(product):  # the gap that is open already lasts longer
                return [], [Notice("warning", (product,), "sequence", evidence)]
            told = Notice("break", (product,), "sequence", evidence, since)
            return [], [told, Notice("mended", (product,), "sequence", evidence)]
        del self._places[kind, product]
        now, notices = self._resyncs.broke(product, evidence, since)
        return self._resync(product) if now else [], notices

    def _resync(self, product: str) -> list[bytes]:
        return [
            *self._asking.ask(UNSUBSCRIBE, "book", [product], once=True),
            *self._asking.ask(SUBSCRIBE, "book", [product], once=True),
        ]

    def _warn_once(self, kind: str, product: str, what: str) -> list[Notice]:
        """Once a tick is enough."""
        if (kind, product) in self._warned:
            return []
        self._warned.add((kind, product))
        return [Notice("warning", (product,), evidence=f"{kind} of {product}: {what}")]

    # --------------------------------------------------------------------------------------- answers to commands

    def _event(self, wire: bytes, event: str) -> Received:
        if event not in EVENTS:
            return Received(BAD, None, f"unknown event {event[:80]!r}")
        try:
            answer = _decode_answer(wire)
        except (msgspec.DecodeError, RecursionError) as e:
            return Received(BAD, None, f"{event} not as documented: {e}")
        notices: list[Notice] = []
        said = answer.message[:200] or "no reason given"
        if event in DONE:
            if answer.feed == HEARTBEAT and self._probing:  # of no feed in particular; there is nothing else to ask
                self._probing = False
                notices.append(Notice("explained", channels=tuple(FEEDS)))
            for product in answer.product_ids or [""]:
                asked = self._asking.find(DONE[event], answer.feed, product)
                if asked is not None:
                    self._asking.answered(asked, product)
        elif event in FAILED:
            notices = self._failed(FAILED[event], answer, said)
        elif event == "error":
            notices = self._wrong(said)
        elif event == "alert":
            notices = [Notice("warning", evidence=f"the venue warns: {said}")]
        return with_more(_CONTROL, [], notices)

    def _failed(self, method: str, answer: Answer, said: str) -> list[Notice]:
        notices = []
        for product in answer.product_ids or [""]:
            asked = self._asking.find(method, answer.feed, product)
            if asked is not None:
                self._asking.answered(asked, product)
                notices.append(given_up(asked, said, (product,) if product else ()))
        return notices or [Notice("warning", tuple(answer.product_ids), evidence=f"{answer.event}: {said}")]

    def _wrong(self, said: str) -> list[Notice]:
        """An error names nothing. If only one thing was asked, it is about that; else what it is about stays
        unanswered, is asked again one by one, and is refused by name then."""
        asked = self._asking.only()
        if asked is None or len(asked.waiting) > 1 or asked.once:
            return [Notice("warning", evidence=f"the venue says: {said}")]
        self._asking.done(asked)
        return [given_up(asked, said)]

    # -------------------------------------------------------------------------------------------------- commands

    @property
    def brings_all(self) -> bool:
        return False

    def opened(self) -> Sequence[bytes]:
        owed = self._asking.ask(SUBSCRIBE, HEARTBEAT, [])
        for feed, symbols in self._symbols.items():
            owed += self._asking.ask(SUBSCRIBE, feed, list(symbols)) if symbols else []
        return owed

    @property
    def standing(self) -> bool:
        return not self._asking.subscribing

    def subscribe(self, symbols: Iterable[str]) -> Sequence[bytes]:
        return self._asking.add(self._symbols, symbols)

    def unsubscribe(self, symbols: Iterable[str]) -> Sequence[bytes]:
        unwanted = list(dict.fromkeys(symbols))
        owed = self._asking.drop(self._symbols, unwanted)
        for symbol in unwanted:
            for feed in self._symbols:
                self._places.pop((feed, symbol), None)
            self._untold += self._resyncs.forget(symbol)
        return owed

    def numbers(self) -> Mapping[str, Number]:
        """Snapshots of books and trades say where each connection's numbering begins."""
        return {}

    def probe(self) -> Sequence[bytes]:
        """There is no JSON ping, and no book can be had without leaving it: heartbeats once more are answered, too."""
        self._probing = True
        return [_write(SUBSCRIBE, HEARTBEAT, (), 0)]

    def tick(self, now_ns: int) -> Received | None:
        """Requests not answered and books not mended in time."""
        owed, notices = self._asking.tick(now_ns)
        for product in self._resyncs.tick(now_ns):
            owed += self._resync(product)
        self._warned.clear()
        notices += self._untold
        self._untold = []
        return Received(CONTROL, None, owed=tuple(owed), notices=tuple(notices)) if owed or notices else None


def _write(method: str, feed: str, symbols: Sequence[str], number: int) -> bytes:
    return _encode(Command(method, feed, list(symbols) or None))
