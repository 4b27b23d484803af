"""The client's grammar on one Deribit connection: subscribe, route every frame, watch each book's and tape's numbers.

Each change of a book names the change before it (`prev_change_id`). If that is not the last one we have, the book is
doubtful until a new snapshot, which only leaving and joining its channel brings. Trades of an instrument are counted
(`trade_seq`), whoever is connected: a hole in them is as long as the hole, and REST may fill it. No other channel has
numbers.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import msgspec

from exchanges.deribit.messages import (
    NAME,
    NAMED_IN_DATA,
    PASSING,
    TOO_MANY_REQUESTS,
    Beat,
    Call,
    Changed,
    Error,
    Head,
    InstrumentName,
    Message,
    Numbered,
    Params,
    Place,
    place,
)
from exchanges.port import Notice, Number, Received, Subscription
from ssmd.errors import Permanent
from ssmd.frames import BAD, CONTROL

SECOND_NS = 1_000_000_000
ANSWER_NS = 10 * SECOND_NS  # for an answer, or a snapshot; both come in milliseconds
ATTEMPTS_MAX = 5  # of one call, or of one snapshot
# A (un)subscription costs 3,000 of 30,000 credits, 10,000 come back each second, and who spends more is thrown out
# (docs.deribit.com/articles/rate-limits). We keep two tenths in hand.
CALLS_AT_ONCE = 8.0
CALLS_PER_SECOND = 3.0
HEARTBEAT_SECONDS = 10  # the least that is allowed; the venue then asks about every 10.6 s
BEAT_OVERDUE_NS = 4 * HEARTBEAT_SECONDS * SECOND_NS
SETTLE_NS = 2 * SECOND_NS  # a book's change is sent within 100 ms (agg2: 1 s) after it happened
SYMBOL_CHARACTERS_MAX = 200  # the longest seen has 30; a subject token must stay well below NATS's limits
ROUTES_MAX = 100_000  # instruments or channels one connection may mention before the tables are made anew

SUBSCRIBE, UNSUBSCRIBE = "public/subscribe", "public/unsubscribe"
SET_HEARTBEAT, TEST = "public/set_heartbeat", "public/test"
GET_BOOK = "public/get_order_book"
PLAIN, BOOK, TRADES, NAMED = range(4)  # how a channel's frames are numbered or routed
_KINDS = {"book": BOOK, "trades": TRADES, **dict.fromkeys(NAMED_IN_DATA, NAMED)}

_decode_head = msgspec.json.Decoder(Head).decode
_decode_raw = msgspec.json.Decoder(msgspec.Raw).decode
_decode_message = msgspec.json.Decoder(Message).decode
_decode_params = msgspec.json.Decoder(Params).decode
_decode_beat = msgspec.json.Decoder(Beat).decode
_encode = msgspec.json.Encoder().encode

_CONTROL = Received(CONTROL, None)


class _Named(msgspec.Struct):
    data: InstrumentName


class _NamedHead(msgspec.Struct):
    params: _Named


class _Answer(msgspec.Struct):
    """What of an order book's REST form tells how far its channel should be."""

    change_id: int = 0


_decode_named = msgspec.json.Decoder(_NamedHead).decode
_decode_accepted = msgspec.json.Decoder(list[str]).decode
_decode_book = msgspec.json.Decoder(_Answer).decode


class _Stream:
    """A channel of the venue's: where its frames go, and of a book how far its chain has come (None: no snapshot)."""

    __slots__ = ("broken", "channel", "joins", "kind", "last", "route", "symbol", "ts")

    def __init__(self, channel: str, where: Place, route: Received) -> None:
        self.channel = channel
        self.kind = _KINDS.get(where.channel, PLAIN)
        self.symbol = where.symbol or ""
        self.route = route
        self.last: int | None = None
        self.ts = 0  # ts_recv of a book's last frame that followed: what is found missing was sent after it
        self.broken = ""  # why a gap of it is open
        self.joins = 0  # how often we asked for a snapshot that did not come


class _Tape:
    """How far the trades of an instrument are counted, and when (ts_recv) the last one came."""

    __slots__ = ("seq", "ts")

    def __init__(self, seq: int, ts: int) -> None:
        self.seq = seq
        self.ts = ts


class _Call:
    """A call not yet answered, or not yet sent."""

    __slots__ = ("attempts", "channels", "deadline_ns", "method", "resync", "stop")

    def __init__(self, method: str, channels: Sequence[str] = (), *, resync: bool = False) -> None:
        self.method = method
        self.channels = tuple(channels)
        self.resync = resync  # an `unsubscribe` after which we subscribe again
        self.deadline_ns = 0  # set by the first tick after it was sent
        self.attempts = 1
        self.stop = 0  # of a look at an order book: how far its channel was

    def __str__(self) -> str:
        more = f" and {len(self.channels) - 1} more" if len(self.channels) > 1 else ""
        return f"{self.method} {self.channels[0]}{more}" if self.channels else self.method


class DeribitAdapter:
    """One connection's grammar. `received` is the platform's hottest function: see its comments before touching it."""

    def __init__(self, subscription: Subscription) -> None:
        """Raises Permanent if a channel is none of Deribit's, or is wanted twice."""
        self._symbols = tuple(dict.fromkeys(subscription.symbols))
        self._templates = _templates(subscription)
        self._room = subscription.symbols_per_subscription_max
        self._id = 0
        self._wanted: dict[str, None] = {}  # channels that shall be subscribed
        self._streams: dict[str, _Stream] = {}
        self._routes: dict[tuple[str, str | None], Received] = {}
        self._tapes = self._known_tapes(subscription.numbers)
        self._ts_recv = 0
        self._tape_routes: dict[str, Received] = {}
        self._gaps: set[str] = set()  # instruments whose book has a gap open
        self._waiting: dict[str, int] = {}  # books without a snapshot -> deadline
        self._resync: dict[str, None] = {}  # books to leave and join again
        self._pending: dict[int, _Call] = {}
        self._queue: deque[_Call] = deque()  # calls for which there is no credit yet
        self._later: list[tuple[int, _Call]] = []  # calls to be made again, and when
        self._credits = CALLS_AT_ONCE
        self._ticked_ns = 0
        self._beaten = True  # a heartbeat came since the last tick
        self._beat_ns = 0
        self._warned: set[str] = set()  # once a tick is enough: a venue that numbers anew would fill the log
        self._behind: _Call | None = None  # a book that may have stopped
        self._notices: list[Notice] = []  # to be told by the next tick

    # ----------------------------------------------------------------------------------------------- each frame

    def received(self, wire: bytes, ts_recv: int) -> Received:
        """Route one frame: one partial decode (it skips, but checks, what it does not need), one look-up."""
        self._ts_recv = ts_recv
        try:
            params = _decode_head(wire).params
            stream = self._streams[params.channel]
            route = stream.route
            if stream.kind == BOOK:
                data = params.data
                if data.prev_change_id != stream.last:  # type: ignore[union-attr]  # a list raises
                    return self._sorted(stream, data, wire)
                stream.last, stream.ts = data.change_id, ts_recv  # type: ignore[union-attr]
            elif stream.kind != PLAIN:
                return self._sorted(stream, params.data, wire)
            if wire.isascii():
                return route
            wire.decode()  # msgspec does not check the text it skips
            return route
        except Exception:
            return self._slow(wire)

    def _sorted(self, stream: _Stream, data: Changed | list[Numbered], wire: bytes) -> Received:
        """A frame of a known channel that is more than a book's next change."""
        if not wire.isascii():
            wire.decode()
        if stream.kind == TRADES:
            if isinstance(data, Changed):
                return Received(BAD, None, "trades that are no array")
            return self._trades(data)
        if stream.kind == BOOK:
            if isinstance(data, list) or not data.change_id:
                return Received(BAD, None, "book without change_id")
            return self._book(stream, data)
        if stream.kind == NAMED:
            return self._route(stream.route.channel, _decode_named(wire).params.data.instrument_name)
        return stream.route

    def _slow(self, wire: bytes) -> Received:
        """Whatever the fast way did not settle: first sight of a channel, answers, heartbeats, rubbish."""
        try:
            wire.decode()
            params = _decode_head(wire).params
            stream = self._stream(params.channel)
            if stream is None:
                return Received(BAD, None, f"unknown channel {params.channel[:80]!r}")
            return self._sorted(stream, params.data, wire)
        except msgspec.ValidationError as e:
            return self._message(wire, str(e))
        except UnicodeDecodeError as e:
            return Received(BAD, None, f"not UTF-8: {e.reason} at byte {e.start}", json=False)
        except RecursionError:
            return Received(BAD, None, "nested too deeply", json=False)
        except msgspec.DecodeError as e:
            return Received(BAD, None, f"not JSON: {e}", json=False)

    def _stream(self, channel: str) -> _Stream | None:
        """None: it is no channel of Deribit's."""
        stream = self._streams.get(channel)
        if stream is None:
            where = place(channel)
            if where is None:
                return None
            if len(self._streams) >= ROUTES_MAX:
                self._streams = {name: s for name, s in self._streams.items() if name in self._wanted}
            symbol = None if where.channel == "trades" else where.symbol
            route = self._route(where.channel, symbol)
            stream = _Stream(channel, where, route)
            if route.bad is None:
                self._streams[channel] = stream
        return stream

    def _route(self, channel: str, symbol: str | None) -> Received:
        """Where a frame of this channel and instrument goes; remembered."""
        route = self._routes.get((channel, symbol))
        if route is not None:
            return route
        if symbol == "":
            return Received(BAD, None, f"{channel} without instrument_name")
        if symbol is not None and len(symbol) > SYMBOL_CHARACTERS_MAX:
            return Received(BAD, None, f"{channel} with an instrument_name of {len(symbol)} characters")
        if len(self._routes) >= ROUTES_MAX:
            self._routes.clear()
            self._tape_routes.clear()
        route = self._routes[channel, symbol] = Received(channel, symbol)
        return route

    # ----------------------------------------------------------------------------------------------------- books

    def _book(self, stream: _Stream, data: Changed) -> Received:
        """A snapshot, a change that does not follow the last one, or one that has nothing to follow."""
        if not data.prev_change_id:
            return self._snapshot(stream, data)
        last = stream.last
        if last is None:  # on its way while we leave and join, or before the first snapshot
            return stream.route
        if data.prev_change_id == last:
            stream.last, stream.ts = data.change_id, self._ts_recv
            return stream.route
        if data.change_id == last:  # the same amounts at the same prices
            return self._late(stream.route, stream.channel, f"change_id {data.change_id}", last)
        evidence = f"{stream.channel}: prev_change_id {data.prev_change_id} after change_id {last}"
        return _with(stream.route, *self._break(stream, evidence))

    def _snapshot(self, stream: _Stream, data: Changed) -> Received:
        stream.last, stream.ts = data.change_id, self._ts_recv
        stream.joins = 0
        self._waiting.pop(stream.channel, None)
        if not stream.broken:
            return stream.route
        return _with(stream.route, [], [self._mended(stream)])

    def _break(self, stream: _Stream, evidence: str) -> tuple[list[bytes], list[Notice]]:
        stream.last = None
        if stream.channel not in self._wanted:  # the last frames of a channel that we are leaving
            return [], []
        self._resync[stream.channel] = None
        notices = []
        if not stream.broken:
            stream.broken = evidence
            self._gaps.add(stream.symbol)
            notices.append(Notice("break", (stream.symbol,), "sequence", evidence, stream.ts))
        return self._send(), notices

    def _mended(self, stream: _Stream) -> Notice:
        evidence, stream.broken = stream.broken, ""
        self._gaps.discard(stream.symbol)
        return Notice("mended", (stream.symbol,), "sequence", evidence)

    def _late(self, route: Received, what: str, number: str, last: int) -> Received:
        if what in self._warned:
            return route
        self._warned.add(what)
        return _with(
            route, [], [Notice("warning", evidence=f"{what}: {number} again or late, {last} was seen already")]
        )

    # ---------------------------------------------------------------------------------------------------- trades

    def _trades(self, data: list[Numbered]) -> Received:
        """Each instrument counts its own; the frame goes to that of its first trade."""
        tapes, ts_recv = self._tapes, self._ts_recv
        for k, trade in enumerate(data):
            tape = tapes.get(trade.instrument_name)
            if tape is None or tape.seq != trade.trade_seq - 1:
                return self._unexpected(data, k)
            tape.seq, tape.ts = trade.trade_seq, ts_recv
        return self._tape_route(data)

    def _tape_route(self, data: list[Numbered]) -> Received:
        if not data:
            return self._route("trades", None)
        name = data[0].instrument_name
        route = self._tape_routes.get(name)
        if route is None:
            route = self._route("trades", name)
            if route.bad is None:
                self._tape_routes[name] = route
        return route

    def _unexpected(self, data: list[Numbered], start: int) -> Received:
        """From `start` on not all are the next of their instrument: new ones, holes, or trades seen already."""
        route = self._tape_route(data)
        if any(not trade.instrument_name for trade in data):
            return Received(BAD, None, "trades without instrument_name")
        told: dict[str, list[int]] = {}
        for trade in data[start:]:
            told.setdefault(trade.instrument_name, []).append(trade.trade_seq)
        for name, numbers in told.items():
            if len(self._tapes) >= ROUTES_MAX:
                self._tapes.clear()
            tape = self._tapes.setdefault(name, _Tape(numbers[0] - 1, self._ts_recv))
            last, since = tape.seq, tape.ts
            new = {n for n in numbers if n > last}
            newest = max(new, default=last)
            tape.seq, tape.ts = newest, self._ts_recv
            if len(new) < len(numbers):
                route = self._late(route, f"trades of {name}", f"trade_seq {min(numbers)}", newest)
            if missing := newest - last - len(new):
                evidence = f"trades of {name}: trade_seq {newest} after {last}, {missing} missing"
                route = _with(route, [], self._hole(name, evidence, since))
        return route

    def _hole(self, name: str, evidence: str, since_ns: int) -> list[Notice]:
        """Over as soon as it is seen. While the book's gap is open, that one covers it: one gap each at a time."""
        if name in self._gaps:
            return [Notice("warning", (name,), evidence=evidence)]
        told = Notice("break", (name,), "sequence", evidence, since_ns)
        return [told, Notice("mended", (name,), "sequence", evidence)]

    # --------------------------------------------------------------------------------------------------- answers

    def _message(self, wire: bytes, why: str) -> Received:
        """Not a notification as we know it: an answer, a heartbeat, or for the quarantine."""
        try:
            _decode_raw(wire)  # the first decode stopped where it was astonished: is the rest JSON at all?
        except RecursionError:
            return Received(BAD, None, "nested too deeply", json=False)
        except msgspec.DecodeError as e:
            return Received(BAD, None, f"not JSON: {e}", json=False)
        try:
            message = _decode_message(wire)
            if isinstance(message.error, Error):
                return _with(_CONTROL, *self._failed(message, message.error))
            if isinstance(message.result, msgspec.Raw):
                return _with(_CONTROL, *self._answered(message, message.result))
            if message.method == "heartbeat":
                return self._beat(_decode_beat(message.params).type)
            if message.method == "subscription":
                _decode_params(message.params)
        except (msgspec.DecodeError, RecursionError) as e:
            why = str(e)
        return Received(BAD, None, f"not a Deribit message: {why}")

    def _beat(self, kind: str) -> Received:
        self._beaten = True
        if kind == "test_request":
            return _CONTROL._replace(owed=(self._encoded(TEST, {}),))
        return _CONTROL

    def _answered(self, message: Message, result: msgspec.Raw) -> tuple[list[bytes], list[Notice]]:
        call = self._pending.pop(message.id, None) if isinstance(message.id, int) else None
        if call is None:
            return [], []
        if call.method == SUBSCRIBE:
            return self._subscribed(call, set(_decode_accepted(result)))
        if call.method == UNSUBSCRIBE:
            return self._unsubscribed(call)
        if call.method == TEST:  # of channels without numbers it is all that one can know
            channels = {stream.route.channel for stream in self._streams.values() if stream.kind != BOOK}
            return [], [Notice("explained", channels=tuple(sorted(channels)))]
        if call.method == GET_BOOK:
            if _decode_book(result).change_id > call.stop:
                call.deadline_ns = 0
                self._behind = call
            return [], [Notice("explained", channels=("book",))]
        return [], []

    def _subscribed(self, call: _Call, accepted: set[str]) -> tuple[list[bytes], list[Notice]]:
        """A channel of an unknown instrument or interval is left out without a word."""
        refused = []
        for channel in call.channels:
            stream = self._stream(channel)
            if stream is None or channel not in self._wanted:
                continue
            if stream.kind == BOOK and stream.last is None and (channel in accepted or stream.broken):
                self._waiting[channel] = 0  # one that we had until its gap may come back: it is asked for again
            elif channel not in accepted:
                refused.append(channel)
        if not refused:
            return [], []
        return [], [self._refused(refused, "the venue left it out of its answer: no such instrument or interval?")]

    def _unsubscribed(self, call: _Call) -> tuple[list[bytes], list[Notice]]:
        again = [c for c in call.channels if call.resync and c in self._wanted]
        if again:
            self._queue.appendleft(_Call(SUBSCRIBE, again))
        for channel in call.channels:
            if channel not in self._wanted:
                stream = self._streams.pop(channel, None)
                if stream is not None and stream.kind == TRADES:
                    self._tapes.pop(stream.symbol, None)
        return self._send(), []

    def _failed(self, message: Message, error: Error) -> tuple[list[bytes], list[Notice]]:
        call = self._pending.pop(message.id, None) if isinstance(message.id, int) else None
        if call is None:
            return [], [Notice("warning", evidence=str(error))]
        if error.code == TOO_MANY_REQUESTS:
            self._credits = 0.0
        if error.code in PASSING and call.attempts < ATTEMPTS_MAX and call.method != GET_BOOK:
            self._again(call, self._ticked_ns + _pause_ns(call.attempts))
            return [], [Notice("warning", _symbols(call.channels), evidence=f"{call}: {error}; asking again")]
        if call.method == SUBSCRIBE:
            return [], [self._refused(call.channels, str(error))]
        owed, _ = self._unsubscribed(call) if call.method == UNSUBSCRIBE else ([], [])
        return owed, [Notice("warning", _symbols(call.channels), evidence=f"{call}: {error}")]

    def _refused(self, channels: Sequence[str], why: str) -> Notice:
        for channel in channels:
            self._waiting.pop(channel, None)
        return Notice("refused", _symbols(channels), evidence=f"{', '.join(channels[:5])}: {why}")

    # ----------------------------------------------------------------------------------------------------- calls

    @property
    def brings_all(self) -> bool:
        return any(NAME not in template for template in self._templates)

    def opened(self) -> Sequence[bytes]:
        """Heartbeats, then one call for each kind of channel and list, so that a refusal names what it is about."""
        return [self._made(_Call(SET_HEARTBEAT)), *self._join(self._templates, self._symbols)]

    @property
    def standing(self) -> bool:
        return all(
            c.method != SUBSCRIBE for c in chain(self._pending.values(), self._queue, (c for _, c in self._later))
        )

    def subscribe(self, symbols: Iterable[str]) -> Sequence[bytes]:
        return self._join([t for t in self._templates if NAME in t], tuple(dict.fromkeys(symbols)))

    def _join(self, templates: Iterable[str], symbols: Sequence[str]) -> list[bytes]:
        for template in templates:
            channels = [template.replace(NAME, s) for s in symbols] if NAME in template else [template]
            odd = [c for c in channels if place(c) is None or len(c) > SYMBOL_CHARACTERS_MAX]
            if odd:
                self._notices.append(self._refused(odd, "that is no channel of Deribit's"))
            new = [c for c in channels if c not in self._wanted and c not in odd]
            self._wanted.update(dict.fromkeys(new))
            self._queue.extend(_Call(SUBSCRIBE, some) for some in _chunks(new, self._room))
        return self._send()

    def unsubscribe(self, symbols: Iterable[str]) -> Sequence[bytes]:
        gone = tuple(symbols)
        for template in self._templates:
            channels = [c for s in gone if NAME in template and (c := template.replace(NAME, s)) in self._wanted]
            for channel in channels:
                self._forget(channel)
            self._queue.extend(_Call(UNSUBSCRIBE, some) for some in _chunks(channels, self._room))
        return self._send()

    def _forget(self, channel: str) -> None:
        """Nothing is missing of what we do not want."""
        del self._wanted[channel]
        self._waiting.pop(channel, None)
        self._resync.pop(channel, None)
        stream = self._streams.get(channel)
        if stream is not None and stream.broken:
            self._notices.append(self._mended(stream))

    def numbers(self) -> Mapping[str, Number]:
        """trade_seq counts an instrument's trades, whoever is connected."""
        return {name: Number(tape.seq, tape.ts) for name, tape in self._tapes.items()}

    def _known_tapes(self, numbers: Mapping[str, Number]) -> dict[str, _Tape]:
        """Of the instruments whose trades come on this connection, too."""
        places = [found for template in self._templates if (found := place(template)) and found.channel == "trades"]
        every = any(where.scope for where in places)
        some = {where.symbol for where in places} | (set(self._symbols) if places else set())
        return {name: _Tape(*number) for name, number in numbers.items() if every or name in some}

    def probe(self) -> Sequence[bytes]:
        """A sign of life, and the latest book: if its channel does not come as far, something was missed."""
        owed = [self._made(_Call(TEST))]
        book = max((s for s in self._streams.values() if s.last is not None), key=lambda s: s.last or 0, default=None)
        if book is not None:
            call = _Call(GET_BOOK, (book.channel,))
            call.stop = book.last or 0
            owed.append(self._made(call))
        return owed

    def tick(self, now_ns: int) -> Received | None:
        """Calls that had to wait, calls not answered in time, snapshots that did not come, heartbeats."""
        owed: list[bytes] = []
        notices, self._notices = self._notices, []
        if self._ticked_ns:
            earned = max(0, now_ns - self._ticked_ns) * CALLS_PER_SECOND / SECOND_NS
            self._credits = min(CALLS_AT_ONCE, self._credits + earned)
        self._ticked_ns = now_ns
        self._warned.clear()
        self._look_at_calls(now_ns, owed, notices)
        self._look_at_books(now_ns, owed, notices)
        self._look_at_beats(now_ns, owed, notices)
        owed += self._send()
        return Received(CONTROL, None, owed=tuple(owed), notices=tuple(notices)) if owed or notices else None

    def _look_at_calls(self, now_ns: int, owed: list[bytes], notices: list[Notice]) -> None:
        due = [call for at, call in self._later if at <= now_ns]
        self._later = [(at, call) for at, call in self._later if at > now_ns]
        for call in due:
            self._repeat(call, owed)
        for number, call in list(self._pending.items()):
            if not call.deadline_ns:
                call.deadline_ns = now_ns + ANSWER_NS
            elif now_ns >= call.deadline_ns:
                del self._pending[number]
                self._overdue(call, owed, notices)

    def _overdue(self, call: _Call, owed: list[bytes], notices: list[Notice]) -> None:
        if call.method in {GET_BOOK, TEST}:
            return
        if call.attempts >= ATTEMPTS_MAX:
            why = f"no answer though asked {call.attempts} times"
            known = call.method == SUBSCRIBE
            notices.append(self._refused(call.channels, why) if known else Notice("warning", evidence=f"{call}: {why}"))
            return
        notices.append(Notice("warning", _symbols(call.channels), evidence=f"{call}: no answer, asking again"))
        call.attempts += 1
        self._repeat(call, owed)

    def _again(self, call: _Call, at_ns: int) -> None:
        call.attempts += 1
        self._later.append((at_ns, call))

    def _repeat(self, call: _Call, owed: list[bytes]) -> None:
        """What is wanted may have changed meanwhile."""
        call.deadline_ns = 0
        if call.method == SUBSCRIBE:
            call.channels = tuple(c for c in call.channels if c in self._wanted)
            if not call.channels:
                return
        if call.channels:
            self._queue.append(call)
        else:
            owed.append(self._made(call))

    def _look_at_books(self, now_ns: int, owed: list[bytes], notices: list[Notice]) -> None:
        for channel, deadline_ns in list(self._waiting.items()):
            if not deadline_ns:
                self._waiting[channel] = now_ns + ANSWER_NS
            elif now_ns >= deadline_ns:
                self._no_snapshot(self._streams[channel], owed, notices)
        behind = self._behind
        if behind is not None and not behind.deadline_ns:
            behind.deadline_ns = now_ns + SETTLE_NS
        elif behind is not None and now_ns >= behind.deadline_ns:
            self._behind = None
            stream = self._streams.get(behind.channels[0])
            if stream is not None and stream.last == behind.stop:
                more, told = self._break(
                    stream, f"{stream.channel}: stopped at change_id {stream.last}, the book went on"
                )
                owed += more
                notices += told

    def _no_snapshot(self, stream: _Stream, owed: list[bytes], notices: list[Notice]) -> None:
        del self._waiting[stream.channel]
        stream.joins += 1
        evidence = f"{stream.channel}: no snapshot within {ANSWER_NS // SECOND_NS} s"
        if stream.joins >= ATTEMPTS_MAX:
            notices.append(self._refused([stream.channel], f"no snapshot came in {stream.joins} attempts"))
            return
        more, told = self._break(stream, evidence)
        owed += more
        notices += told

    def _look_at_beats(self, now_ns: int, owed: list[bytes], notices: list[Notice]) -> None:
        if self._beaten or not self._beat_ns:
            self._beaten, self._beat_ns = False, now_ns
        elif now_ns - self._beat_ns > BEAT_OVERDUE_NS:
            self._beat_ns = now_ns
            evidence = f"no heartbeat for {BEAT_OVERDUE_NS // SECOND_NS} s, asking for them again"
            notices.append(Notice("warning", evidence=evidence))
            owed.append(self._made(_Call(SET_HEARTBEAT)))

    def _send(self) -> list[bytes]:
        """As many of the waiting calls as we have credit for; books that need a snapshot go first."""
        owed = []
        while self._credits >= 1 and (self._resync or self._queue):
            self._credits -= 1
            if self._resync:
                some = list(self._resync)[: self._room]
                for channel in some:
                    del self._resync[channel]
                owed.append(self._made(_Call(UNSUBSCRIBE, some, resync=True)))
            else:
                owed.append(self._made(self._queue.popleft()))
        return owed

    def _made(self, call: _Call) -> bytes:
        params: dict[str, object] = {"channels": list(call.channels)}
        if call.method == SET_HEARTBEAT:
            params = {"interval": HEARTBEAT_SECONDS}
        elif call.method == TEST:
            params = {}
        elif call.method == GET_BOOK:
            params = {"instrument_name": self._streams[call.channels[0]].symbol, "depth": 1}
        wire = self._encoded(call.method, params)
        self._pending[self._id] = call
        return wire

    def _encoded(self, method: str, params: dict[str, object]) -> bytes:
        self._id += 1
        return _encode(Call(id=self._id, method=method, params=params))


def _templates(subscription: Subscription) -> list[str]:
    """The channels to subscribe to, {instrument_name} left open. Raises Permanent if one is wrong."""
    found: dict[str, Place] = {}
    for channel in subscription.channels:
        where = place(channel)
        if where is None:
            raise Permanent(f"Deribit has no public channel {channel!r}: mend it in the feed's or environment's YAML")
        template = channel
        if where.channel == "trades" and where.scope and not subscription.firehose:
            template = f"trades.{NAME}.{where.interval}"
            where = where._replace(symbol=NAME, scope=())
        for other, there in found.items():
            if other != template and _overlap(where, there):
                raise Permanent(
                    f"{other} and {template} would bring the same data twice: leave one of them out of the YAML"
                )
        found[template] = where
    return [template for template in found if subscription.general or NAME in template]


def _overlap(a: Place, b: Place) -> bool:
    """Whether both have books, or trades, of the same instrument: their deltas or trades would mix in the lake."""
    family = {a.channel.removesuffix("_grouped"), b.channel.removesuffix("_grouped")}
    if len(family) > 1 or not family <= {"book", "trades"}:
        return False
    if a.scope and b.scope:
        return all(x == y or "any" in {x, y} for x, y in zip(a.scope, b.scope, strict=True))
    return bool(a.scope or b.scope) or a.symbol == b.symbol or NAME in {a.symbol, b.symbol}


def _with(route: Received, owed: Sequence[bytes], notices: Sequence[Notice]) -> Received:
    if not owed and not notices:
        return route
    return route._replace(owed=(*route.owed, *owed), notices=(*route.notices, *notices))


def _symbols(channels: Sequence[str]) -> tuple[str, ...]:
    found = (place(channel) for channel in channels)
    return tuple(dict.fromkeys(p.symbol for p in found if p is not None and p.symbol))


def _chunks(channels: Sequence[str], size: int) -> list[Sequence[str]]:
    return [channels[i : i + size] for i in range(0, len(channels), size)]


def _pause_ns(attempts: int) -> int:
    """How long to wait before a call that failed for a passing reason is made again: 1, 2, 4, 8 s."""
    return SECOND_NS << (attempts - 1)
