"""The client's grammar on one Kraken spot connection: subscribe, route every frame, watch checksums and trade ids.

Nothing is numbered across instruments. A book carries a CRC-32 over its best ten levels, taken here over the digits as
they were sent; one that disagrees is subscribed anew, alone, and is doubtful until its snapshot agrees. Trades of a
pair are numbered without holes (docs.kraken.com: "Sequential int"); those in a hole do not come again, REST has them.
"""

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter

import msgspec

from exchanges.kraken.asking import SUBSCRIBE, UNSUBSCRIBE, Asked, Asking, given_up, with_more
from exchanges.kraken.book import Book
from exchanges.kraken.messages import (
    ALREADY,
    CHANNELS,
    INSTRUMENT,
    STATUS,
    TOO_FAST,
    Answer,
    Command,
    Frame,
    Item,
    Parameters,
    Wanted,
)
from exchanges.kraken.resync import Resyncs
from exchanges.port import Notice, Number, Received, Subscription
from ssmd.errors import Permanent
from ssmd.frames import BAD, CONTROL

PING_NS = 30_000_000_000  # a socket on which nothing happens for a minute is closed
REQUESTS_PER_SECOND = 20  # the venue's own limit moves and is not published
SYMBOL_CHARACTERS_MAX = 200  # the longest seen has 15; a subject token must stay well below NATS's limits
ROUTES_MAX = 100_000  # pairs and channels one connection may mention before the routing table is made anew

_decode = msgspec.json.Decoder(Frame).decode
_decode_answer = msgspec.json.Decoder(Answer).decode
_decode_raw = msgspec.json.Decoder(msgspec.Raw).decode
_encode = msgspec.json.Encoder().encode
_id = attrgetter("trade_id")

_CONTROL = Received(CONTROL, None)


class _Trades:
    """The numbering of one pair's trades; `ts` is when the last one came."""

    __slots__ = ("last", "ts")

    def __init__(self, last: int = 0, ts: int = 0) -> None:
        self.last = last
        self.ts = ts


class KrakenAdapter:
    """One connection's grammar. `received` is the platform's hottest function: see its comments before touching it."""

    def __init__(self, subscription: Subscription) -> None:
        """Raises Permanent if a channel is none of Kraken's, or named twice."""
        self._channels: dict[str, Wanted] = {}
        for name in subscription.channels:
            wanted = Wanted.of(name)
            if wanted.channel in self._channels:
                raise Permanent(f"Kraken's channel {wanted.channel} is named twice: one connection carries it once")
            if wanted.channel != INSTRUMENT or subscription.general:
                self._channels[wanted.channel] = wanted
        self._symbols: dict[str, dict[str, None]] = {
            channel: dict.fromkeys(subscription.symbols) for channel in self._channels if channel != INSTRUMENT
        }
        self._asking = Asking(
            self._write,
            symbols_max=subscription.symbols_per_subscription_max,
            per_second=REQUESTS_PER_SECOND,
            then_alone=False,
        )
        self._resyncs = Resyncs("checksum")
        self._routes: dict[tuple[str, str], Received] = {}
        self._books: dict[str, Book] = {}  # those that are right
        known = subscription.numbers
        self._trades = {s: _Trades(*known[s]) for s in self._symbols.get("trade", ()) if s in known}
        self._warned: set[tuple[str, str]] = set()  # since the last tick: a venue that goes mad would fill the log
        self._untold: list[Notice] = []
        self._pinged_ns = 0
        self._probing = False  # a ping was sent because a channel is silent

    # ----------------------------------------------------------------------------------------------- each frame

    def received(self, wire: bytes, ts_recv: int) -> Received:
        """Route one frame: one partial decode, one look-up; of a book, apply it and take its checksum."""
        try:
            frame = _decode(wire)
            channel = frame.channel
            items: list[Item] = frame.data  # type: ignore[assignment]  # an object has no [0], and is not for here
            item = items[0]
            symbol = item.symbol
            route = self._routes[channel, symbol]
            if channel == "book":
                book = self._books[symbol]
                if frame.type != "update" or len(items) != 1 or wire == book.last or not book.change(item):
                    return self._slow(wire, ts_recv)  # it applies the frame again, which changes nothing
                book.last, book.ts = wire, ts_recv
            elif channel == "trade":
                trades = self._trades[symbol]
                last = trades.last
                for item in items:
                    last += 1
                    if item.trade_id != last or item.symbol != symbol:
                        return self._slow(wire, ts_recv)
                trades.last, trades.ts = last, ts_recv
            if wire.isascii():
                return route
            wire.decode()  # msgspec does not check the text it skips
            return route
        except Exception:
            return self._slow(wire, ts_recv)

    def _slow(self, wire: bytes, ts_recv: int) -> Received:
        """Whatever the fast way did not settle: first sight of a pair, snapshots, answers, breaks, rubbish."""
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
        if frame.channel == "heartbeat":
            return _CONTROL
        route = self._route(frame)
        if route.bad is not None or isinstance(frame.data, dict):
            return route
        if frame.channel == "book":
            return with_more(route, *self._book(frame, wire, ts_recv))
        if frame.channel == "trade":
            return with_more(route, [], self._traded(frame, ts_recv))
        if frame.channel == STATUS:
            return with_more(route, [], [_unwell(item.system) for item in frame.data if item.system != "online"])
        return route

    def _odd(self, wire: bytes, why: str) -> Received:
        """No market data as we know it: an answer to a command, or something for the quarantine."""
        try:
            _decode_raw(wire)  # the first decode stopped where it was astonished: is the rest JSON at all?
        except (msgspec.DecodeError, RecursionError) as e:
            return Received(BAD, None, f"not JSON: {e}", json=False)
        try:
            return self._answered(_decode_answer(wire))
        except (msgspec.DecodeError, RecursionError):
            return Received(BAD, None, f"not a Kraken message: {why}")

    def _route(self, frame: Frame) -> Received:
        """Where a frame of this channel goes: to its first pair. Remembered."""
        channel, data = frame.channel, frame.data
        if channel not in CHANNELS:
            return Received(BAD, None, f"unknown channel {channel[:80]!r}")
        if isinstance(data, dict) != (channel == INSTRUMENT):
            return Received(BAD, None, f"{channel} whose data is {'an object' if isinstance(data, dict) else 'a list'}")
        if isinstance(data, dict) or channel == STATUS or not data:
            return Received(channel, None)
        for item in data:
            if not item.symbol:
                return Received(BAD, None, f"{channel} without symbol")
            if len(item.symbol) > SYMBOL_CHARACTERS_MAX:
                return Received(BAD, None, f"{channel} with a symbol of {len(item.symbol)} characters")
        route = self._routes.get((channel, data[0].symbol))
        if route is None:
            if len(self._routes) >= ROUTES_MAX:
                self._routes.clear()
            route = self._routes[channel, data[0].symbol] = Received(channel, data[0].symbol)
        return route

    # ---------------------------------------------------------------------------------- checksums and trade ids

    def _book(self, frame: Frame, wire: bytes, ts_recv: int) -> tuple[list[bytes], list[Notice]]:
        owed: list[bytes] = []
        notices: list[Notice] = []
        for item in frame.data:
            assert isinstance(item, Item)
            symbol = item.symbol
            if symbol not in self._symbols.get("book", ()):
                continue  # dropped a moment ago, or never asked for
            if frame.type == "snapshot":
                book = Book(int(self._channels["book"].value))
                since = ts_recv
            elif symbol in self._books:
                book = self._books[symbol]
                since = book.ts
                if wire == book.last:
                    notices += self._warn_once("book", symbol, "the same update again or late")
                    continue
            else:
                continue  # doubtful: nothing counts before its snapshot
            wrong = _apply(book, item)
            if wrong is None:
                book.ts = ts_recv
                self._books[symbol] = book
                if frame.type == "snapshot":
                    notices += self._resyncs.mended(symbol)
                else:
                    book.last = wire
                continue
            self._books.pop(symbol, None)
            now, told = self._resyncs.broke(symbol, f"book of {symbol}: {frame.type} {wrong}", since)
            notices += told
            owed += self._resync(symbol) if now else []
        return owed, notices

    def _resync(self, symbol: str) -> list[bytes]:
        """There is no other way to a snapshot than a new subscription."""
        return [
            *self._asking.ask(UNSUBSCRIBE, "book", [symbol], once=True),
            *self._asking.ask(SUBSCRIBE, "book", [symbol], once=True),
        ]

    def _traded(self, frame: Frame, ts_recv: int) -> list[Notice]:
        notices: list[Notice] = []
        items = sorted((item for item in frame.data if isinstance(item, Item)), key=_id)
        for item in items:
            symbol, number = item.symbol, item.trade_id
            if symbol not in self._symbols.get("trade", ()) or not number:
                continue
            trades = self._trades.setdefault(symbol, _Trades())
            missing = number - trades.last - 1
            if missing > 0 and trades.last and frame.type != "snapshot":
                evidence = f"trades of {symbol}: trade_id {number} after {trades.last}, {missing} missing"
                notices.append(Notice("break", (symbol,), "sequence", evidence, trades.ts))
                notices.append(Notice("mended", (symbol,), "sequence", evidence))
            elif missing < 0 and frame.type != "snapshot":
                notices += self._warn_once(
                    "trade", symbol, f"trade_id {number} again or late, {trades.last} was seen already"
                )
            trades.last, trades.ts = max(number, trades.last), ts_recv
        return notices

    def _warn_once(self, channel: str, symbol: str, what: str) -> list[Notice]:
        """Once a tick is enough."""
        if (channel, symbol) in self._warned:
            return []
        self._warned.add((channel, symbol))
        return [Notice("warning", (symbol,), evidence=f"{channel} of {symbol}: {what}")]

    # --------------------------------------------------------------------------------------- answers to commands

    def _answered(self, answer: Answer) -> Received:
        if answer.method == "error":
            return with_more(_CONTROL, [], [Notice("warning", evidence=f"the venue says: {answer.error[:200]}")])
        if answer.method == "pong" and self._probing:  # of no channel in particular; there is nothing else to ask
            self._probing = False
            return with_more(_CONTROL, [], [Notice("explained", channels=tuple(self._channels))])
        if answer.method not in {SUBSCRIBE, UNSUBSCRIBE}:
            return _CONTROL
        symbol = answer.symbol or answer.result.symbol
        asked = self._asking.numbered(answer.req_id)
        if asked is None:
            asked = self._asking.find(answer.method, answer.result.channel, symbol)
        if answer.success:
            if asked is not None:
                self._asking.answered(asked, symbol)
            warnings = [w for w in answer.result.warnings if w]
            told = f"{answer.method} to {answer.result.channel[:80]}: {'; '.join(warnings)[:200]}"
            return with_more(_CONTROL, [], [Notice("warning", evidence=told)] if warnings else [])
        return with_more(_CONTROL, [], self._failed(answer, asked, symbol))

    def _failed(self, answer: Answer, asked: Asked | None, symbol: str) -> list[Notice]:
        said = answer.error[:200] or "no reason given"
        if asked is None:
            return [Notice("warning", (symbol,) if symbol else (), evidence=f"{answer.method[:20]} failed: {said}")]
        if TOO_FAST in said:
            if self._asking.rest(asked):
                return [Notice("warning", asked.symbols, evidence=f"{asked}: {said}; asking again")]
            return [given_up(asked, said)]
        symbols = (symbol,) if symbol else asked.symbols  # naming no symbol, it fails them all
        notice = given_up(asked, said, symbols)
        for one in symbols or ("",):
            self._asking.answered(asked, one)
            if asked.method == SUBSCRIBE and ALREADY not in said and not self._resyncs.open(one):
                self._symbols.get(asked.channel, {}).pop(one, None)
        return [] if asked.method == UNSUBSCRIBE or ALREADY in said else [notice]

    # -------------------------------------------------------------------------------------------------- commands

    @property
    def brings_all(self) -> bool:
        return INSTRUMENT in self._channels

    def opened(self) -> Sequence[bytes]:
        owed: list[bytes] = []
        for channel in self._channels:
            symbols = list(self._symbols.get(channel, ()))
            if symbols or channel == INSTRUMENT:
                owed += self._asking.ask(SUBSCRIBE, channel, symbols)
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
            self._books.pop(symbol, None)
            self._trades.pop(symbol, None)
            self._untold += self._resyncs.forget(symbol)
        return owed

    def numbers(self) -> Mapping[str, Number]:
        """Trade ids count a pair's trades, whoever is connected."""
        return {symbol: Number(trades.last, trades.ts) for symbol, trades in self._trades.items()}

    def probe(self) -> Sequence[bytes]:
        """A ping is all there is to ask: no book can be had without leaving it first."""
        self._probing = True
        return [self._ping()]

    def _ping(self) -> bytes:
        return _encode(Command("ping", req_id=self._asking.next_number()))

    def tick(self, now_ns: int) -> Received | None:
        """Requests not answered, books not mended in time; a ping, lest the venue thinks that we are gone."""
        owed, notices = self._asking.tick(now_ns)
        for symbol in self._resyncs.tick(now_ns):
            owed += self._resync(symbol)
        if not self._pinged_ns:
            self._pinged_ns = now_ns
        elif now_ns - self._pinged_ns >= PING_NS:
            self._pinged_ns = now_ns
            owed.append(self._ping())
        self._warned.clear()
        notices += self._untold
        self._untold = []
        return Received(CONTROL, None, owed=tuple(owed), notices=tuple(notices)) if owed or notices else None

    def _write(self, method: str, channel: str, symbols: Sequence[str], number: int) -> bytes:
        wanted = self._channels[channel]
        snapshot = {"trade": False, "book": True}.get(channel) if method == SUBSCRIBE else None
        parameters = Parameters(
            channel=channel,
            symbol=list(symbols) or None,
            depth=_as_int(wanted, "depth"),
            event_trigger=str(wanted.value) if wanted.parameter == "event_trigger" else None,
            interval=_as_int(wanted, "interval"),
            snapshot=snapshot,
        )
        return _encode(Command(method, parameters, number))


def _apply(book: Book, item: Item) -> str | None:
    """What is wrong with the book after this; None if its checksum agrees."""
    try:
        return None if book.change(item) else f"with another checksum ({item.checksum}) than the book has then"
    except ValueError as e:
        return f"that cannot be applied ({e})"


def _unwell(system: str) -> Notice:
    return Notice("warning", evidence=f"the venue says that it is not online, but in {system[:40] or 'no known state'}")


def _as_int(wanted: Wanted, parameter: str) -> int | None:
    return int(wanted.value) if wanted.parameter == parameter else None
