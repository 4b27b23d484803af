"""The client's grammar on one connection: subscribe, route every frame, keep each book and hold it against its hash.

Polymarket numbers nothing and acknowledges nothing. That a token was accepted shows in its first `book`. What was
missed shows in the hash of the next change: it names the whole book. So every book is kept here and looked at once a
second; one that stays different is a break of that token alone, and the token is subscribed to anew, which brings
a whole book. Where the hash cannot be worked out the best prices in each change take its place. A token of which
nothing is heard is looked up by REST now and then: the venue has been seen to forget single tokens.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from exchanges.polymarket.messages import (
    CUSTOM,
    INVALID,
    KINDS,
    LIKELY,
    PING,
    PONG,
    TEXTS,
    Answered,
    Change,
    Command,
    Constants,
    Head,
    Item,
    Price,
    book_hash,
)
from exchanges.port import Notice, Number, Received, Request, Subscription
from ssmd.frames import BAD, BLANK, CONTROL

SECOND_NS = 1_000_000_000
PING_NS = 10 * SECOND_NS
PONGS_MISSED_MAX = 3
FIRST_BOOK_NS = 30 * SECOND_NS  # a book comes at once; tokens are not always ready when their market is announced
AGAIN_BOOK_NS = 10 * SECOND_NS  # after a break
ATTEMPTS_MAX = 3  # then the operator is told, and asked for now and then
PATIENT_NS = 120 * SECOND_NS
DOUBT_NS = SECOND_NS  # a look may fall between a change and the book that explains it
DOUBT_NS_MAX = 64 * SECOND_NS  # doubled by each break of a token: a venue that hashes otherwise shall not be flooded
SILENT_NS = 60 * SECOND_NS  # connections that answer PING and say nothing else, for hours, have been seen
QUIET_NS = 120 * SECOND_NS  # of a single token: then its book is looked up
LOOKUP_NS = 5 * SECOND_NS  # between two of these; 150 a second would be allowed
LOOKUP_PATIENCE_NS = 60 * SECOND_NS
LATE_NS = 5 * SECOND_NS  # what REST has already may still be on its way to us
TOKENS_MAX = 500  # on a connection: beyond about so many the venue leaves out first books
SYMBOL_CHARACTERS_MAX = 200  # a token has 78 digits at most; a subject token must stay well below NATS's limits
ROUTES_MAX = 500_000
SEARCHES_MAX = 3  # books of a token by which it is tried to find out how they are hashed

_decode_head = msgspec.json.Decoder(Head).decode
_decode_item = msgspec.json.Decoder(Item).decode
_decode_items = msgspec.json.Decoder(list[Item]).decode
_decode_answer = msgspec.json.Decoder(Answered).decode
_decode_raw = msgspec.json.Decoder(msgspec.Raw).decode
_encode = msgspec.json.Encoder().encode

_ROUTED = frozenset({"price_change", "best_bid_ask"})  # the others are rare, and are looked at each time
_CONTROL = Received(CONTROL, None)
_TEXT = Received(CONTROL, None, json=False)


class _Book:
    """One token's book, as whoever applies all frames in order has it. Prices and sizes are the venue's texts."""

    __slots__ = (
        "asks",
        "bids",
        "book_ts",
        "certain",
        "checked",
        "constants",
        "doubt_ns",
        "good_ns",
        "known",
        "last",
        "looked_up_ns",
        "market",
        "moved_ns",
        "patience_ns",
        "price",
        "printed",
        "searched",
        "tick_size",
        "token",
        "ts",
    )

    def __init__(self, token: str) -> None:
        self.token = token
        self.market = ""
        self.known = False  # a whole book has come, and no break since
        self.bids: dict[str, str] = {}
        self.asks: dict[str, str] = {}
        self.ts = ""  # of the newest change or book: milliseconds, always as many digits
        self.book_ts = ""
        self.last: Change | None = None  # the newest change since the last book
        self.checked: Change | None = None
        self.constants: Constants | None = None
        self.certain = False  # the hash can be worked out
        self.price = ""  # the last trade's, as it is hashed
        self.printed: tuple[str, ...] = ()  # forms that it may have by now
        self.good_ns = 0  # `ts_recv` of the newest frame when the book was last known to be right
        self.tick_size = ""
        self.searched = 0
        self.doubt_ns = 0
        self.patience_ns = DOUBT_NS
        self.moved_ns = 0  # the tick that first saw its newest change or book; 0: the next one will
        self.looked_up_ns = 0

    def set(self, change: Change) -> None:
        """A level has a new total."""
        side = self.bids if change.side == "BUY" else self.asks
        if change.size == "0":
            side.pop(change.price, None)
        else:
            side[change.price] = change.size

    def same(self, item: Item) -> bool:
        """Whether a book has the same levels."""
        pairs = ((self.bids, _side(item.bids)), (self.asks, _side(item.asks)))
        try:
            return all(
                {float(p): float(s) for p, s in a.items()} == {float(p): float(s) for p, s in b.items()}
                for a, b in pairs
            )
        except ValueError:
            return False

    def replace(self, item: Item) -> None:
        """The whole book. Its own hash shows how hashes of this token are worked out, if we know how."""
        self.bids = _side(item.bids if item.bids is not None else item.buys)
        self.asks = _side(item.asks if item.asks is not None else item.sells)
        self.book_ts = item.timestamp
        self.checked = None
        if item.timestamp >= self.ts or not self.known:  # if not, the newest change will tell what this book lacks
            self.ts = item.timestamp
            self.last = None
        self.printed = ()
        self.tick_size = item.tick_size
        self.price = item.last_trade_price or ""
        self.certain = False
        self.doubt_ns = 0
        self.known = True
        if self.constants is not None:
            self.certain = self.hash(item.timestamp, self.constants) == item.hash
        elif self.searched < SEARCHES_MAX:
            self.searched += 1
            self.constants = next((c for c in LIKELY if self.hash(item.timestamp, c) == item.hash), None)
            self.certain = self.constants is not None

    def hash(self, timestamp: str, constants: Constants) -> str | None:
        """None if a price is no number."""
        try:
            return book_hash(
                self.market, self.token, timestamp, self.bids, self.asks, self.tick_size, self.price, constants
            )
        except ValueError:
            return None

    def wrong(self) -> str | None:
        """What the newest change says of the book that ours is not; None if all is well."""
        change = self.last
        if change is None:
            return None
        if self.certain and self.constants is not None and change.hash:
            return None if self._hashes_to(change.hash, self.constants) else "the hash of the book"
        try:
            bid, ask = max(map(float, self.bids), default=0.0), min(map(float, self.asks), default=1.0)
            if change.best_bid and float(change.best_bid) != bid:
                return f"the best bid {change.best_bid[:20]}"
            return f"the best ask {change.best_ask[:20]}" if change.best_ask and float(change.best_ask) != ask else None
        except ValueError:
            return "a price that is a number"

    def _hashes_to(self, wanted: str, constants: Constants) -> bool:
        """With the last price that we know, or one that a trade may have left meanwhile."""
        known = self.price
        for price in (known, *self.printed):
            self.price = price
            if self.hash(self.ts, constants) == wanted:
                return True
        self.price = known
        return False


class _Wait:
    """A book that was asked for and has not come; `broken` says that a gap is open for it."""

    __slots__ = ("asked", "broken", "deadline_ns", "patience_ns")

    def __init__(self, patience_ns: int, *, broken: bool = False) -> None:
        self.asked = 1
        self.deadline_ns = 0  # set by the first tick after it was asked for
        self.patience_ns = patience_ns
        self.broken = broken


class PolymarketAdapter:
    """One connection's grammar. `received` is the hot path; what can wait is done in `tick`."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._custom = bool(CUSTOM & set(subscription.channels))
        self._books: dict[str, _Book] = {}
        self._markets: dict[str, list[_Book]] = {}
        self._waiting: dict[str, _Wait] = {}
        self._left: list[str] = []  # broken books of tokens that were unsubscribed
        self._routes: dict[tuple[str, str], Received] = {}
        self._begun = False
        self._ts_recv = 0
        self._warned = self._crowded = False
        self._pinged_ns = 0
        self._pongs_missed = 0
        self._moved_ns = 0  # when a book was last seen to have changed
        self._moved = False
        self._probed = 0  # how many times it was asked whether the silence is genuine
        self._stale: tuple[str, ...] = ()
        self._asked_about = ""  # the token of the latest probe
        self._lookup_ns = 0  # of the newest one
        self._looking_up = ""  # the token whose answer is awaited
        self._ahead: dict[str, tuple[Item, int]] = {}  # token -> the book that REST has; when we must have it

    # ----------------------------------------------------------------------------------------------- each frame

    def received(self, wire: bytes, ts_recv: int) -> Received:
        """Route one frame: one partial decode, one look-up; changes go into their books."""
        try:
            self._ts_recv = ts_recv
            head = _decode_head(wire)
            changes = head.price_changes
            if changes:
                route = self._routes[head.event_type, changes[0].asset_id]
                if not wire.isascii():
                    wire.decode()  # msgspec does not check the text it skips
                books, ts = self._books, head.timestamp
                notices = None
                for change in changes:
                    book = books.get(change.asset_id)
                    if book is None:
                        continue
                    if ts <= book.ts and (odd := self._odd_time(book, change, ts)) is not None:
                        if odd.kind:
                            notices = (odd,)
                        continue
                    side = book.bids if change.side == "BUY" else book.asks  # `set`, without the call
                    if change.size == "0":
                        side.pop(change.price, None)
                    else:
                        side[change.price] = change.size
                    book.ts = ts
                    book.last = change
                return route if notices is None else route._replace(notices=notices)
            route = self._routes[head.event_type, head.asset_id]
            if not wire.isascii():
                wire.decode()
            return route
        except Exception:
            return self._slow(wire)

    def _odd_time(self, book: _Book, change: Change, ts: str) -> Notice | None:
        """A change that is not newer than the book. None: it is of the same time, and to be applied.

        A notice without a kind says nothing: the change came with the book that holds it already.
        """
        last = book.last
        if ts == book.ts:
            if last is None or change.hash != last.hash or not change.hash:
                return None
            return self._warning(book, f"the change with hash {change.hash[:40]} came twice")
        if ts < book.book_ts:
            return Notice("") if last is None else self._warning(book, f"a change of {ts[:20]}, older than the book")
        # Whoever applies frames as they come has now the older change on top of the newer one: the hash will tell.
        book.set(change)
        return self._warning(book, f"a change of {ts[:20]} after one of {book.ts}")

    def _warning(self, book: _Book, evidence: str) -> Notice:
        """Once a tick is enough, lest a venue that means something else by its times fills the log."""
        if self._warned:
            return Notice("")
        self._warned = True
        return Notice("warning", (book.token,), evidence=evidence)

    def _printed(self, item: Item) -> None:
        """The last price is part of the hash of both tokens' books: seen with three decimals, and of either token."""
        try:
            prices = {item.price} | {f"{price:.3f}" for price in (float(item.price), 1 - float(item.price))}
        except ValueError:
            return
        for book in self._markets.get(item.market, ()):
            book.printed = (*book.printed[-6:], *prices)

    # -------------------------------------------------------------------------------- first sights, books, rubbish

    def _slow(self, wire: bytes) -> Received:
        try:
            wire.decode()
        except UnicodeDecodeError as e:
            return Received(BAD, None, f"not UTF-8: {e.reason} at byte {e.start}", json=False)
        text = wire.strip(BLANK)
        if text in TEXTS:
            return self._text(text)
        if text.startswith(b'{"rest":'):
            return self._looked_up(wire)
        try:
            items = _decode_items(wire) if text[:1] == b"[" else [_decode_item(wire)]
            return self._items(items)
        except msgspec.ValidationError as e:
            return self._not_ours(wire, str(e))
        except RecursionError:
            return Received(BAD, None, "nested too deeply", json=False)
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            return Received(BAD, None, f"not JSON: {e}", json=False)

    def _not_ours(self, wire: bytes, why: str) -> Received:
        """The first decode stopped where it was astonished: is the rest JSON at all?"""
        try:
            _decode_raw(wire)
        except (msgspec.DecodeError, RecursionError) as e:
            return Received(BAD, None, f"not JSON: {e}", json=False)
        return Received(BAD, None, f"not a Polymarket message: {why}")

    def _text(self, text: bytes) -> Received:
        if text == PONG:
            self._pongs_missed = 0
        if text == INVALID:
            return _TEXT._replace(notices=(Notice("refused", evidence="the venue says INVALID OPERATION"),))
        return _TEXT

    def _items(self, items: list[Item]) -> Received:
        """All messages of a frame; it goes where its first one belongs."""
        if not items:
            return _CONTROL
        for item in items:
            bad = _unroutable(item)
            if bad is not None:
                return Received(BAD, None, bad)
        notices: list[Notice] = []
        for item in items:
            self._note(item, notices)
        first = items[0]
        kind, symbol = first.kind, first.symbol()
        route = Received(kind, symbol)
        if kind in _ROUTED and first.event_type:
            if len(self._routes) >= ROUTES_MAX:
                self._routes.clear()
            if first.price_changes or (kind != "price_change" and first.asset_id):
                self._routes[kind, symbol] = route
        return route._replace(notices=tuple(notices)) if notices else route

    def _note(self, item: Item, notices: list[Notice]) -> None:
        """What a message does to the books."""
        kind = item.kind
        if kind == "book":
            self._whole(item, notices)
        elif kind == "last_trade_price":
            self._printed(item)
        elif kind == "tick_size_change":
            for token in self._markets.get(item.market, ()):
                token.certain = False  # until the new book that follows
        elif kind == "price_change":
            for change in item.price_changes or ():
                book = self._books.get(change.asset_id)
                if book is not None:
                    self._apply(book, change, item.timestamp, notices)

    def _apply(self, book: _Book, change: Change, ts: str, notices: list[Notice]) -> None:
        odd = self._odd_time(book, change, ts) if ts <= book.ts else None
        if odd is not None:
            if odd.kind:
                notices.append(odd)
            return
        book.set(change)
        book.ts = ts
        book.last = change

    def _whole(self, item: Item, notices: list[Notice]) -> None:
        """A whole book: of a token that was subscribed to, or anew after a trade."""
        book = self._books.get(item.asset_id)
        if book is None:
            return
        if book.known:
            self._last_look(book, item, notices)
        if item.asset_id == self._asked_about:
            self._asked_about = ""
            notices.append(Notice("explained", channels=tuple(sorted(KINDS))))
        if item.market and not book.market:
            book.market = item.market
            self._markets.setdefault(item.market, []).append(book)
        book.replace(item)
        book.good_ns = self._ts_recv
        book.moved_ns = 0
        self._moved = True
        wait = self._waiting.pop(item.asset_id, None)
        if wait is not None and wait.broken:
            notices.append(Notice("mended", (item.asset_id,), "checksum", "a whole book has come"))

    def _last_look(self, book: _Book, item: Item, notices: list[Notice]) -> None:
        """A new book makes good what was missed, and hides it. Was anything? Not asked of changes of its own time:
        they may be part of what made the venue send it."""
        if item.timestamp < book.ts:
            warning = self._warning(book, f"a book of {item.timestamp[:20]} after a change of {book.ts}")
            if warning.kind:
                notices.append(warning)
        elif item.timestamp > book.ts:
            book.printed = (*book.printed, item.last_trade_price or "")
            wrong = book.wrong()
            if wrong is not None:
                notices.append(_break(book, wrong))
                notices.append(Notice("mended", (book.token,), "checksum", "a whole book has come"))

    # ------------------------------------------------------------------------------------------------- each second

    def tick(self, now_ns: int) -> Received | None:
        """PING; books that did not come; books that are not what their hash says; a silent connection."""
        owed: list[bytes] = []
        notices: list[Notice] = []
        self._warned = False
        notices += [Notice("mended", (token,), "checksum", "not subscribed to any more") for token in self._left]
        self._left.clear()
        self._ping(now_ns, owed, notices)
        self._compare(now_ns, owed, notices)
        self._overdue(now_ns, owed, notices)
        self._silence(now_ns, owed, notices)
        asks = self._look_up(now_ns, owed, notices)
        if not self._crowded and len(self._books) > TOKENS_MAX:
            self._crowded = True
            crowd = f"{len(self._books)} tokens on one connection: the venue sends first books for {TOKENS_MAX} at most"
            notices.append(Notice("warning", evidence=crowd))
        if not (owed or notices or asks):
            return None
        return Received(CONTROL, None, owed=tuple(owed), notices=tuple(notices), asks=asks)

    def _ping(self, now_ns: int, owed: list[bytes], notices: list[Notice]) -> None:
        if now_ns - self._pinged_ns < PING_NS:
            return
        if self._pongs_missed == PONGS_MISSED_MAX:
            notices.append(Notice("warning", evidence=f"no PONG for {PONGS_MISSED_MAX} PINGs"))
        self._pinged_ns = now_ns
        self._pongs_missed += 1
        owed.append(PING)

    def _compare(self, now_ns: int, owed: list[bytes], notices: list[Notice]) -> None:
        """Each book that has changed, with what its last change says of it."""
        broken: list[str] = []
        for book in self._books.values():
            if book.last is not book.checked:
                self._moved = True
                book.checked = book.last
                book.moved_ns = now_ns
            elif not book.moved_ns:
                book.moved_ns = now_ns
                continue
            elif not book.doubt_ns:
                continue
            if not book.known:
                continue
            wrong = book.wrong()
            if wrong is None:
                book.doubt_ns = 0
                book.good_ns = self._ts_recv
            elif not book.doubt_ns:
                book.doubt_ns = now_ns
            elif now_ns - book.doubt_ns >= book.patience_ns:
                notices.append(_break(book, wrong))
                book.patience_ns = min(2 * book.patience_ns, DOUBT_NS_MAX)
                broken.append(book.token)
        owed += self._mend(broken)

    def _mend(self, tokens: Sequence[str]) -> list[bytes]:
        """Whole books of these are needed."""
        for token in tokens:
            book = self._books[token]
            book.known = False
            book.doubt_ns = 0
            self._waiting[token] = _Wait(AGAIN_BOOK_NS, broken=True)
        return self._anew(tokens)

    def _overdue(self, now_ns: int, owed: list[bytes], notices: list[Notice]) -> None:
        """A subscription that no book answers was dropped without a word: asked for again, then told."""
        again: list[str] = []
        refused: list[str] = []
        for token, wait in self._waiting.items():
            if not wait.deadline_ns:
                wait.deadline_ns = now_ns + wait.patience_ns
            elif now_ns >= wait.deadline_ns:
                if wait.asked == ATTEMPTS_MAX:
                    refused.append(token)
                    wait.patience_ns = PATIENT_NS
                wait.asked += 1
                wait.deadline_ns = now_ns + wait.patience_ns
                again.append(token)
        if refused:
            evidence = f"no book came for {len(refused)} tokens, asked for {ATTEMPTS_MAX} times"
            notices.append(Notice("refused", tuple(refused), evidence=evidence))
        owed += self._anew(again)

    def _silence(self, now_ns: int, owed: list[bytes], notices: list[Notice]) -> None:
        """Nothing of any token: a book is asked for anew; if that does not come either, the connection is dead."""
        if self._moved or not self._moved_ns or not self._books:
            if self._moved and self._stale:
                notices.append(Notice("mended", self._stale, "stale", "a book has come"))
            if self._moved:
                self._probed = 0
                self._stale = ()
            self._moved = False
            self._moved_ns = now_ns
        elif now_ns - self._moved_ns >= SILENT_NS + self._probed * AGAIN_BOOK_NS:
            self._probed += 1
            if self._probed > ATTEMPTS_MAX and not self._stale:
                self._stale = tuple(self._books)
                evidence = f"no data for {(now_ns - self._moved_ns) // SECOND_NS} s, nor when a book was asked for"
                notices.append(Notice("break", self._stale, "stale", evidence))
                notices.append(Notice("ending", evidence=evidence))
            owed += self.probe()

    # ------------------------------------------------------------------------------------------------ quiet tokens

    def _look_up(self, now_ns: int, owed: list[bytes], notices: list[Notice]) -> tuple[Request, ...]:
        """One quiet token after the other; and what REST had before us, and we still have not."""
        behind = [token for token, (_, due_ns) in self._ahead.items() if now_ns >= due_ns]
        broken = []
        for token in behind:
            there, _ = self._ahead.pop(token)
            book = self._books.get(token)
            if book is not None and book.known and book.ts <= there.timestamp and not book.same(there):
                evidence = f"REST has another book, of {there.timestamp[:20]}, and nothing came after {book.ts}"
                notices.append(Notice("break", (token,), "checksum", evidence, book.good_ns))
                broken.append(token)
        owed += self._mend(broken)
        since_ns = now_ns - self._lookup_ns
        if since_ns < LOOKUP_NS or (self._looking_up and since_ns < LOOKUP_PATIENCE_NS):
            return ()
        quiet = [
            b
            for b in self._books.values()
            if b.known and b.token not in self._waiting and now_ns - max(b.moved_ns, b.looked_up_ns) >= QUIET_NS
        ]
        if not quiet:
            return ()
        book = min(quiet, key=lambda b: max(b.moved_ns, b.looked_up_ns))
        book.looked_up_ns = self._lookup_ns = now_ns
        self._looking_up = book.token
        return (Request("GET", "/book", {"token_id": book.token}),)

    def _looked_up(self, wire: bytes) -> Received:
        """An answer that differs from our book at the same time or later; older ones and errors say nothing."""
        token, self._looking_up = self._looking_up, ""
        try:
            answer = _decode_answer(wire)
            item = _decode_item(answer.body) if answer.status == 200 else None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            return Received(BAD, None, f"no answer that we know: {e}")
        book = self._books.get(token)
        if item is None or book is None or not book.known or item.asset_id != token or book.same(item):
            return _CONTROL
        if item.timestamp >= book.ts:
            self._ahead[token] = (item, self._lookup_ns + LATE_NS)
        return _CONTROL

    # -------------------------------------------------------------------------------------------------- commands

    @property
    def brings_all(self) -> bool:
        """New markets are told on every connection, of which nothing else is known then."""
        return False

    def opened(self) -> Sequence[bytes]:
        return self.subscribe(self._subscription.symbols)

    @property
    def standing(self) -> bool:
        """There is no answer but the books."""
        return not self._books or any(book.known for book in self._books.values())

    def subscribe(self, symbols: Iterable[str]) -> Sequence[bytes]:
        """In lists of bearable length; the first on the connection is of another form."""
        new = [s for s in dict.fromkeys(symbols) if s not in self._books]
        for symbol in new:
            self._books[symbol] = _Book(symbol)
            self._waiting[symbol] = _Wait(FIRST_BOOK_NS)
        return self._subscribe(new)

    def unsubscribe(self, symbols: Iterable[str]) -> Sequence[bytes]:
        gone = [s for s in dict.fromkeys(symbols) if s in self._books]
        for symbol in gone:
            wait = self._waiting.pop(symbol, None)
            if wait is not None and wait.broken:
                self._left.append(symbol)
            book = self._books.pop(symbol)
            if book.market:
                siblings = self._markets[book.market]
                siblings.remove(book)
                if not siblings:
                    del self._markets[book.market]
        return [_encode(Command(some, operation="unsubscribe")) for some in self._chunks(gone)]

    def numbers(self) -> Mapping[str, Number]:
        """Nothing is numbered."""
        return {}

    def probe(self) -> Sequence[bytes]:
        """A healthy venue answers a new subscription with a book at once. Another token each time."""
        token = next((t for t in self._books if t not in self._waiting), None)
        if token is None:
            return []
        self._books[token] = self._books.pop(token)
        self._waiting[token] = _Wait(AGAIN_BOOK_NS)
        self._asked_about = token
        return self._anew([token])

    def _anew(self, tokens: Sequence[str]) -> list[bytes]:
        """Only a token that is not subscribed to gets a book."""
        dropped = [_encode(Command(some, operation="unsubscribe")) for some in self._chunks(tokens)]
        return [*dropped, *self._subscribe(tokens)]

    def _subscribe(self, tokens: Sequence[str]) -> list[bytes]:
        owed = []
        for some in self._chunks(tokens):
            kind = {"operation": "subscribe"} if self._begun else {"type": "market"}
            owed.append(_encode(Command(some, **kind, custom_feature_enabled=self._custom)))
            self._begun = True
        return owed

    def _chunks(self, tokens: Sequence[str]) -> list[list[str]]:
        size = self._subscription.symbols_per_subscription_max
        return [list(tokens[i : i + size]) for i in range(0, len(tokens), size)]


def _break(book: _Book, wrong: str) -> Notice:
    evidence = f"the change of {book.ts} gives {wrong}, and ours is another"
    return Notice("break", (book.token,), "checksum", evidence, book.good_ns)


def _unroutable(item: Item) -> str | None:
    """Why a message has no place."""
    kind, symbol = item.kind, item.symbol()
    if kind not in KINDS:
        return f"unknown type {kind[:80]!r}"
    if not symbol:
        return f"{kind} without a token"
    if len(symbol) > SYMBOL_CHARACTERS_MAX:
        return f"{kind} with a token of {len(symbol)} characters"
    return None


def _side(levels: list[Price] | None) -> dict[str, str]:
    return {level.price: level.size for level in levels or ()}
