"""The client's grammar on one Kalshi connection: subscribe, route every frame, watch each sid's numbering.

Kalshi numbers the messages of a subscription (sid) with one counter for all its markets, and counts its answers to
commands on that sid too. A hole in it makes all books of the sid doubtful: `get_snapshot` mends them without
leaving the subscription. Trades in a hole do not come again: the gap is as long as the hole, REST may fill it.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import msgspec

from exchanges.kalshi.messages import (
    BUFFER_OVERFLOW,
    CHANNELS,
    CONTROL_TYPES,
    EVENT_TYPES,
    FIREHOSE,
    MARKET_LIMIT,
    PASSING,
    TERMINAL,
    UNFILTERED,
    UNKNOWN_SID,
    Command,
    Control,
    Head,
    Listed,
    Parameters,
)
from exchanges.port import Notice, Number, Received, Subscription
from ssmd.events import GapCause
from ssmd.frames import BAD, CONTROL

ANSWER_NS = 10_000_000_000  # the venue answers in milliseconds; its own time limit for a command is not published
ATTEMPTS_MAX = 5  # of one command that failed for a passing reason
SYMBOL_CHARACTERS_MAX = 200  # the longest seen has 60; a subject token must stay well below NATS's limits
ROUTES_MAX = 500_000  # markets one connection may mention before the routing table is made anew
BOOK = "orderbook_delta"

_decode_head = msgspec.json.Decoder(Head).decode
_decode_raw = msgspec.json.Decoder(msgspec.Raw).decode
_decode_control = msgspec.json.Decoder(Control).decode
_encode = msgspec.json.Encoder().encode

_CONTROL = Received(CONTROL, None)
_ADDING = frozenset({"subscribe", "add_markets"})


class _Break:
    """Books that are doubtful until a new snapshot of each has come. Outlives a sid that had to be replaced."""

    __slots__ = ("asked", "attempts", "deadline_ns", "evidence", "symbols", "waiting")

    def __init__(self, symbols: Iterable[str], evidence: str) -> None:
        self.symbols = tuple(sorted(symbols))
        self.waiting = set(self.symbols)
        self.evidence = evidence
        self.asked: list[int] = []  # ids of our get_snapshot commands
        self.attempts = 1
        self.deadline_ns = 0


class _Sid:
    """A live subscription: its channel, its markets (None: all), the last seq seen."""

    __slots__ = ("broken", "channel", "last", "sid", "symbols", "warned")

    def __init__(self, sid: int, channel: str, symbols: dict[str, None] | None) -> None:
        self.sid = sid
        self.channel = channel
        self.symbols = symbols
        self.last = 0
        self.warned = False
        self.broken: _Break | None = None


class _Pending:
    """A command not yet answered."""

    __slots__ = ("attempts", "broken", "channel", "deadline_ns", "kind", "retry", "sid", "symbols")

    def __init__(self, kind: str, channel: str = "", symbols: tuple[str, ...] | None = None, sid: int = 0) -> None:
        self.kind = kind  # subscribe, add_markets, delete_markets, get_snapshot, unsubscribe, list_subscriptions
        self.channel = channel
        self.symbols = symbols
        self.sid = sid
        self.deadline_ns = 0  # set by the first tick after it was sent
        self.attempts = 1
        self.retry = False  # the venue asked for patience: send again at the deadline
        self.broken: _Break | None = None

    def __str__(self) -> str:
        what = "all markets" if self.symbols is None else f"{len(self.symbols)} markets"
        return f"{self.kind} of {self.channel} ({what})"


class KalshiAdapter:
    """One connection's grammar. `received` is the platform's hottest function: see its comments before touching it."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._room = subscription.symbols_per_subscription_max
        self._id = 0
        self._pending: dict[int, _Pending] = {}
        self._abandoned: set[int] = set()  # ids of subscribe commands sent again: a late ack is one sid too many
        self._sids: dict[int, _Sid] = {}
        self._routes: dict[tuple[str, str | None], Received] = {}
        self._strays: set[int] = set()
        self._probing = False  # the subscriptions were asked for because a channel is silent
        self._probed: set[int] = set()  # book sids of which a snapshot was asked to see whether something was missed

    # ----------------------------------------------------------------------------------------------- each frame

    def received(self, wire: bytes, ts_recv: int) -> Received:
        """Route one frame: one partial decode (it skips, but checks, what it does not need), one look-up, one count."""
        try:
            head = _decode_head(wire)
            route = self._routes[head.type, head.msg.market_ticker]
            seq = head.seq
            if seq:
                sid = self._sids[head.sid]
                if seq == sid.last + 1:
                    sid.last = seq
                else:
                    return self._unexpected(head, sid, route)
            if wire.isascii():
                return route
            wire.decode()  # msgspec does not check the text it skips
            return route
        except Exception:
            return self._slow(wire)

    def _slow(self, wire: bytes) -> Received:
        """Whatever the fast way did not settle: first sight of a market, snapshots, answers, strays, rubbish."""
        try:
            wire.decode()
            head = _decode_head(wire)
        except msgspec.ValidationError as e:
            return self._odd(wire, str(e))
        except UnicodeDecodeError as e:
            return Received(BAD, None, f"not UTF-8: {e.reason} at byte {e.start}", json=False)
        except RecursionError:
            return Received(BAD, None, "nested too deeply", json=False)
        except msgspec.DecodeError as e:
            return Received(BAD, None, f"not JSON: {e}", json=False)
        if head.type in CONTROL_TYPES:
            return self._control(wire, f"{head.type} not as documented")
        return self._numbered(head, self._route(head))

    def _odd(self, wire: bytes, why: str) -> Received:
        """Not an envelope as we know it. Some answers to commands are not; anything else is for the quarantine."""
        try:
            _decode_raw(wire)  # the first decode stopped where it was astonished: is the rest JSON at all?
        except (msgspec.DecodeError, RecursionError) as e:
            return Received(BAD, None, f"not JSON: {e}", json=False)
        return self._control(wire, f"not a Kalshi message: {why}")

    def _route(self, head: Head) -> Received:
        """Where a message of this type and instrument goes; remembered, snapshots excepted: they may mend a break."""
        kind = head.type
        if kind not in CHANNELS:
            return Received(BAD, None, f"unknown type {kind[:80]!r}")
        named = "event_ticker" if kind in EVENT_TYPES else "market_ticker"
        symbol = head.msg.event_ticker if kind in EVENT_TYPES else head.msg.market_ticker
        if not symbol:
            return Received(BAD, None, f"{kind} without {named}")
        if len(symbol) > SYMBOL_CHARACTERS_MAX:
            return Received(BAD, None, f"{kind} with a {named} of {len(symbol)} characters")
        route = Received(kind, symbol)
        if kind != "orderbook_snapshot" and kind not in EVENT_TYPES:
            if len(self._routes) >= ROUTES_MAX:
                self._routes.clear()
            self._routes[kind, symbol] = route
        return route

    # ------------------------------------------------------------------------------------------ the numbering

    def _numbered(self, head: Head, route: Received) -> Received:
        """The seq check for frames that did not take the fast way."""
        sid = self._sids.get(head.sid)
        if sid is None:
            return self._stray(head, route)
        if head.seq and head.seq != sid.last + 1:
            return self._unexpected(head, sid, route)
        if head.seq:
            sid.last = head.seq
        return self._mended(head, sid, route)

    def _unexpected(self, head: Head, sid: _Sid, route: Received) -> Received:
        """A seq that is not the next one: ahead is a gap, behind was sent twice or late."""
        expected = sid.last + 1
        if head.seq > expected:
            missing = head.seq - expected
            evidence = f"sid {sid.sid} ({sid.channel}): seq {head.seq} after {sid.last}, {missing} missing"
            sid.last = head.seq
            fresh = {_symbol(head)} if head.type == "orderbook_snapshot" else set()
            told = _with(route, *self._break(sid, "sequence", evidence, fresh))
            return _with(told, [], self._explained(sid)) if fresh else told
        if head.type == "orderbook_snapshot" and head.seq == sid.last:
            return self._mended(head, sid, route)  # an answer to get_snapshot may repeat the current seq
        if sid.warned:
            return route
        sid.warned = True  # once a tick is enough: a venue that numbers anew would fill the log
        warning = f"sid {sid.sid} ({sid.channel}): seq {head.seq} again or late, {sid.last} was seen already"
        return _with(route, [], [Notice("warning", evidence=warning)])

    def _break(self, sid: _Sid, cause: GapCause, evidence: str, fresh: set[str]) -> tuple[list[bytes], list[Notice]]:
        """Something of this sid is missing. Markets in `fresh` have their snapshot in the very frame that told us."""
        if sid.channel != BOOK:
            symbols = tuple(sorted(sid.symbols or ()))
            return [], [Notice("break", symbols, cause, evidence), Notice("mended", symbols, cause, evidence)]
        notices = []
        if sid.broken is None:
            sid.broken = _Break(sid.symbols or (), evidence)
            notices.append(Notice("break", sid.broken.symbols, cause, evidence))
        else:  # the gap is open already: it lasts until snapshots from after this hole have come
            sid.broken.waiting |= set(sid.symbols or ())
            sid.broken.attempts = 1
            notices.append(Notice("warning", sid.broken.symbols, cause, evidence))
        sid.broken.waiting -= fresh
        if not sid.broken.waiting:
            notices.append(Notice("mended", sid.broken.symbols, cause, evidence))
            sid.broken = None
            return [], notices
        return self._ask_snapshots(sid, sid.broken), notices

    def _ask_snapshots(self, sid: _Sid, broken: _Break) -> list[bytes]:
        for number in broken.asked:
            self._pending.pop(number, None)
        broken.asked = []
        broken.deadline_ns = 0
        owed = []
        for some in _chunks(sorted(broken.waiting & set(sid.symbols or ())), self._room):
            parameters = Parameters(action="get_snapshot", sids=[sid.sid], market_tickers=some)
            owed.append(
                self._command("update_subscription", parameters, _Pending("get_snapshot", BOOK, tuple(some), sid.sid))
            )
            broken.asked.append(self._id)
        return owed

    def _mended(self, head: Head, sid: _Sid, route: Received) -> Received:
        """A snapshot that we waited for: with the last one the books of the sid are right again."""
        broken = sid.broken
        if head.type == "orderbook_snapshot":
            route = _with(route, [], self._explained(sid))
        if broken is None or head.type != "orderbook_snapshot":
            return route
        broken.waiting.discard(_symbol(head))
        sid_waits = any(s in broken.waiting for s in sid.symbols or ())
        if not sid_waits:
            sid.broken = None
            for number in broken.asked:
                self._pending.pop(number, None)
        if broken.waiting:
            return route
        return _with(route, [], [Notice("mended", broken.symbols, "sequence", broken.evidence)])

    def _explained(self, sid: _Sid) -> list[Notice]:
        """A snapshot shows how far the sid's numbers have come: once all sids that were asked have answered, books are
        known to be silent for good reason, or broken."""
        if sid.sid not in self._probed:
            return []
        self._probed.discard(sid.sid)
        return [] if self._probed else [Notice("explained", channels=(BOOK,))]

    def _stray(self, head: Head, route: Received) -> Received:
        """A frame of a sid we know nothing of: kept all the same, told once."""
        if not head.sid or head.sid in self._strays or len(self._strays) > 1000:
            return route
        self._strays.add(head.sid)
        return _with(
            route, [], [Notice("warning", evidence=f"{head.type[:80]} for sid {head.sid}, which we did not subscribe")]
        )

    # --------------------------------------------------------------------------------------- answers to commands

    def _control(self, wire: bytes, otherwise: str) -> Received:
        """An answer; `otherwise` is why the frame is bad if it is none."""
        try:
            control = _decode_control(wire)
        except (msgspec.DecodeError, RecursionError):
            return Received(BAD, None, otherwise)
        route = _CONTROL
        if control.seq and control.sid in self._sids:  # answers use the sid's counter too
            route = self._numbered(Head(control.type, control.sid, control.seq), route)
        return self._answered(control, route)

    def _answered(self, control: Control, route: Received) -> Received:
        pending = self._pending.pop(control.id, None)
        if control.type == "error":
            return _with(route, *self._failed(control, pending))
        if control.type == "subscribed":
            return _with(route, *self._subscribed(control, pending))
        if pending is None:
            return route
        if pending.kind == "list_subscriptions":
            return _with(route, *self._compare(control.msg if isinstance(control.msg, list) else []))
        sid = self._sids.get(pending.sid)
        if control.type == "unsubscribed":
            self._sids.pop(pending.sid, None)
        elif sid is not None and sid.symbols is not None and pending.symbols:
            self._updated(sid, pending, control.body.market_tickers or control.market_tickers)
        return route

    def _subscribed(self, control: Control, pending: _Pending | None) -> tuple[list[bytes], list[Notice]]:
        body = control.body
        if pending is None or pending.kind != "subscribe":
            if control.id in self._abandoned:
                self._abandoned.discard(control.id)
                return [self._unsubscribe_sid(body.sid, body.channel)], []
            return [], [
                Notice("warning", evidence=f"subscribed to {body.channel[:80]} (sid {body.sid}) without having asked")
            ]
        symbols = None if pending.symbols is None else dict.fromkeys(pending.symbols)
        sid = self._sids[body.sid] = _Sid(body.sid, pending.channel, symbols)
        broken = pending.broken
        if broken is None:
            return [], []
        if pending.channel == BOOK:
            sid.broken = broken
            broken.deadline_ns = 0
            return [], []
        broken.waiting -= set(pending.symbols or broken.symbols)
        return [], [] if broken.waiting else [Notice("mended", broken.symbols, "sequence", broken.evidence)]

    def _updated(self, sid: _Sid, pending: _Pending, now: list[str] | None) -> None:
        """The list in an `ok` is the full one after the update; older builds left it out."""
        assert sid.symbols is not None and pending.symbols is not None
        if now:
            sid.symbols = dict.fromkeys(now)
        elif pending.kind == "add_markets":
            sid.symbols.update(dict.fromkeys(pending.symbols))
        elif pending.kind == "delete_markets":
            for symbol in pending.symbols:
                sid.symbols.pop(symbol, None)

    def _failed(self, control: Control, pending: _Pending | None) -> tuple[list[bytes], list[Notice]]:
        """Codes we do not know only fail their command: Kalshi has given old numbers new meanings before."""
        body = control.body
        said = f"error {body.code}: {body.msg[:200]}"
        if body.code in TERMINAL:
            return self._dead(control.sid or body.sid or (pending.sid if pending else 0), body.code, said)
        if pending is None:
            return [], [Notice("warning", tuple(body.market_tickers or ()), evidence=said)]
        if pending.kind == "unsubscribe":
            self._sids.pop(pending.sid, None)
            return [], []
        if body.code == UNKNOWN_SID and pending.sid in self._sids:
            return self._dead(pending.sid, body.code, said)
        if body.code == MARKET_LIMIT and pending.symbols and pending.kind in _ADDING:
            return self._split(pending, said)
        if pending.kind == "get_snapshot":  # tick asks again, then subscribes anew
            return [], [Notice("warning", pending.symbols or (), evidence=f"{pending}: {said}")]
        if body.code in PASSING and pending.attempts < ATTEMPTS_MAX:
            pending.retry = True
            pending.deadline_ns = 0
            self._pending[self._next_id()] = pending
            return [], [Notice("warning", pending.symbols or (), evidence=f"{pending}: {said}; asking again")]
        return [], [_given_up(pending, said)]

    def _split(self, pending: _Pending, said: str) -> tuple[list[bytes], list[Notice]]:
        """Too many markets for one subscription (the limit is not published): halve the list."""
        symbols = pending.symbols or ()
        if pending.kind == "add_markets":
            return [self._subscribe(pending.channel, symbols, pending.broken)], []
        if len(symbols) == 1:
            return [], [Notice("refused", symbols, evidence=f"{pending}: {said}")]
        half = len(symbols) // 2
        return [self._subscribe(pending.channel, part, pending.broken) for part in (symbols[:half], symbols[half:])], []

    def _dead(self, number: int, code: int, said: str) -> tuple[list[bytes], list[Notice]]:
        """The venue has ended a subscription: a break for its markets, and the subscription anew."""
        if not number:
            listing = self._command("list_subscriptions", None, _Pending("list_subscriptions"))
            return [listing], [Notice("warning", evidence=f"{said}, without saying which subscription")]
        sid = self._sids.pop(number, None)
        if sid is None:
            return [], [Notice("warning", evidence=f"{said} (sid {number})")]
        evidence = f"sid {number} ({sid.channel}): {said}"
        cause: GapCause = "overflow" if code == BUFFER_OVERFLOW else "disconnect"
        symbols = tuple(sid.symbols or ())
        broken = sid.broken or _Break(symbols, evidence)
        notice = Notice("warning" if sid.broken else "break", broken.symbols, cause, evidence)
        broken.waiting |= set(symbols)
        for asked in [n for n, p in self._pending.items() if p.sid == number]:
            pending = self._pending.pop(asked)
            if pending.kind == "add_markets":
                symbols += pending.symbols or ()
        return [self._subscribe(sid.channel, None if sid.symbols is None else symbols, broken)], [notice]

    def _compare(self, listed: list[Listed]) -> tuple[list[bytes], list[Notice]]:
        """A subscription that the venue no longer lists has ended."""
        alive = {entry.sid for entry in listed}
        owed, notices = [], []
        for number in [n for n in self._sids if n not in alive]:
            more, told = self._dead(number, 0, "the venue no longer lists it")
            owed += more
            notices += told
        if self._probing:
            self._probing = False
            known = {s.channel for s in self._sids.values()} - {BOOK}  # what these have missed cannot be asked
            notices.append(Notice("explained", channels=tuple(k for k, c in CHANNELS.items() if c in known)))
        return owed, notices

    # -------------------------------------------------------------------------------------------------- commands

    @property
    def brings_all(self) -> bool:
        return self._subscription.general and any(map(self._for_all, self._subscription.channels))

    def opened(self) -> Sequence[bytes]:
        """One command for each channel and list, so that a refusal names what it is about."""
        symbols = list(dict.fromkeys(self._subscription.symbols))
        owed = []
        for channel in self._subscription.channels:
            if self._for_all(channel):
                owed += [self._subscribe(channel, None)] if self._subscription.general else []
            else:
                owed += [self._subscribe(channel, tuple(some)) for some in _chunks(symbols, self._room)]
        return owed

    @property
    def standing(self) -> bool:
        return all(p.kind != "subscribe" for p in self._pending.values())

    def subscribe(self, symbols: Iterable[str]) -> Sequence[bytes]:
        """Fill the live subscriptions up to their limit, then make new ones."""
        wanted = list(dict.fromkeys(symbols))
        owed: list[bytes] = []
        for channel in self._subscription.channels:
            if self._for_all(channel):
                continue
            have = self._symbols(channel)
            new = [s for s in wanted if s not in have]
            for sid in self._sids.values():
                room = self._room - self._taken(sid)
                if new and sid.channel == channel and room > 0:
                    owed.append(self._update("add_markets", sid, tuple(new[:room])))
                    new = new[room:]
            owed += [self._subscribe(channel, tuple(some)) for some in _chunks(new, self._room)]
        return owed

    def unsubscribe(self, symbols: Iterable[str]) -> Sequence[bytes]:
        """A subscription that would be left without markets is ended instead."""
        unwanted = set(symbols)
        owed = []
        for sid in list(self._sids.values()):
            if sid.symbols is None:
                continue
            drop = tuple(s for s in sid.symbols if s in unwanted)
            if drop and len(drop) == len(sid.symbols):
                owed.append(self._unsubscribe_sid(sid.sid, sid.channel))
            elif drop:
                owed.append(self._update("delete_markets", sid, drop))
            if sid.broken is not None:
                sid.broken.waiting -= unwanted
        return owed

    def numbers(self) -> Mapping[str, Number]:
        """A sid's numbering begins and ends with it."""
        return {}

    def probe(self) -> Sequence[bytes]:
        """List the subscriptions, and take a snapshot of one market of each book sid: its seq shows what was missed."""
        owed = [self._command("list_subscriptions", None, _Pending("list_subscriptions"))]
        self._probing = True
        self._probed.clear()
        for sid in self._sids.values():
            if sid.channel == BOOK and sid.symbols:
                symbol = next(iter(sid.symbols))
                parameters = Parameters(action="get_snapshot", sids=[sid.sid], market_tickers=[symbol])
                pending = _Pending("get_snapshot", BOOK, (symbol,), sid.sid)
                owed.append(self._command("update_subscription", parameters, pending))
                self._probed.add(sid.sid)
                del self._pending[self._id]  # the snapshot is all the answer there is, and nothing hangs on it
        return owed

    def tick(self, now_ns: int) -> Received | None:
        """Commands that were not answered in time, books that were not mended in time."""
        owed: list[bytes] = []
        notices: list[Notice] = []
        for number, pending in list(self._pending.items()):
            if pending.kind == "get_snapshot":
                continue  # its answer is a snapshot: the break has the deadline
            if not pending.deadline_ns:
                pending.deadline_ns = now_ns + (_pause_ns(pending.attempts) if pending.retry else ANSWER_NS)
            elif now_ns >= pending.deadline_ns:
                del self._pending[number]
                self._overdue(number, pending, owed, notices)
        for sid in list(self._sids.values()):
            sid.warned = False
            if sid.broken is not None:
                self._still_broken(sid, sid.broken, now_ns, owed, notices)
        return Received(CONTROL, None, owed=tuple(owed), notices=tuple(notices)) if owed or notices else None

    def _overdue(self, number: int, pending: _Pending, owed: list[bytes], notices: list[Notice]) -> None:
        if not pending.retry:
            notices.append(Notice("warning", pending.symbols or (), evidence=f"{pending}: no answer, asking again"))
            if pending.kind == "subscribe":
                self._abandoned.add(number)
        if pending.attempts >= ATTEMPTS_MAX:
            notices.append(_given_up(pending, f"asked {pending.attempts} times"))
            return
        pending.attempts += 1
        pending.retry = False
        pending.deadline_ns = 0
        sid = self._sids.get(pending.sid)
        if pending.kind == "subscribe":
            owed.append(self._send_subscribe(pending))
        elif pending.kind == "list_subscriptions":
            owed.append(self._command("list_subscriptions", None, pending))
        elif pending.kind == "unsubscribe":
            owed.append(self._command("unsubscribe", Parameters(sids=[pending.sid]), pending))
        elif sid is not None and pending.symbols:
            owed.append(self._send_update(pending))

    def _still_broken(self, sid: _Sid, broken: _Break, now_ns: int, owed: list[bytes], notices: list[Notice]) -> None:
        waiting = broken.waiting & set(sid.symbols or ())
        if not waiting:  # the last ones were unsubscribed meanwhile
            sid.broken = None
            if not broken.waiting:
                notices.append(Notice("mended", broken.symbols, "sequence", broken.evidence))
        elif not broken.deadline_ns:
            broken.deadline_ns = now_ns + ANSWER_NS
        elif now_ns >= broken.deadline_ns:
            if broken.attempts < ATTEMPTS_MAX:
                broken.attempts += 1
                owed += self._ask_snapshots(sid, broken)
                return
            owed.append(self._unsubscribe_sid(sid.sid, sid.channel))
            more, told = self._dead(sid.sid, 0, f"no snapshot came in {broken.attempts} attempts")
            broken.attempts = 1
            owed += more
            notices += told

    # ------------------------------------------------------------------------------------------ making commands

    def _for_all(self, channel: str) -> bool:
        return channel in UNFILTERED or (channel in FIREHOSE and self._subscription.firehose)

    def _symbols(self, channel: str) -> set[str]:
        """What is subscribed on a channel, or about to be."""
        live = chain.from_iterable(s.symbols or () for s in self._sids.values() if s.channel == channel)
        asked = (p.symbols or () for p in self._pending.values() if p.channel == channel and p.kind in _ADDING)
        return set(live) | set(chain.from_iterable(asked))

    def _taken(self, sid: _Sid) -> int:
        asked = (p for p in self._pending.values() if p.sid == sid.sid and p.kind == "add_markets")
        return len(sid.symbols or ()) + sum(len(p.symbols or ()) for p in asked)

    def _subscribe(self, channel: str, symbols: tuple[str, ...] | None, broken: _Break | None = None) -> bytes:
        pending = _Pending("subscribe", channel, symbols)
        pending.broken = broken
        return self._send_subscribe(pending)

    def _send_subscribe(self, pending: _Pending) -> bytes:
        parameters = Parameters(
            channels=[pending.channel],
            market_tickers=None if pending.symbols is None else list(pending.symbols),
            use_yes_price=False if pending.channel == BOOK else None,  # its default will change
        )
        return self._command("subscribe", parameters, pending)

    def _update(self, action: str, sid: _Sid, symbols: tuple[str, ...]) -> bytes:
        return self._send_update(_Pending(action, sid.channel, symbols, sid.sid))

    def _send_update(self, pending: _Pending) -> bytes:
        assert pending.kind in {"add_markets", "delete_markets"}
        parameters = Parameters(action=pending.kind, sids=[pending.sid], market_tickers=list(pending.symbols or ()))
        return self._command("update_subscription", parameters, pending)

    def _unsubscribe_sid(self, sid: int, channel: str) -> bytes:
        return self._command("unsubscribe", Parameters(sids=[sid]), _Pending("unsubscribe", channel, None, sid))

    def _command(self, cmd: str, parameters: Parameters | None, pending: _Pending) -> bytes:
        self._pending[self._next_id()] = pending
        return _encode(Command(self._id, cmd, parameters))

    def _next_id(self) -> int:
        self._id += 1
        return self._id


def _with(route: Received, owed: Sequence[bytes], notices: Sequence[Notice]) -> Received:
    if not owed and not notices:
        return route
    return route._replace(owed=(*route.owed, *owed), notices=(*route.notices, *notices))


def _given_up(pending: _Pending, why: str) -> Notice:
    kind = "refused" if pending.kind in _ADDING else "warning"
    return Notice(kind, pending.symbols or (), evidence=f"{pending}: {why}")


def _symbol(head: Head) -> str:
    return head.msg.market_ticker or ""


def _chunks(symbols: Sequence[str], size: int) -> list[list[str]]:
    return [list(symbols[i : i + size]) for i in range(0, len(symbols), size)]


def _pause_ns(attempts: int) -> int:
    """How long to wait before a command that failed for a passing reason is sent again: 1, 2, 4, 8 s."""
    return int(1_000_000_000 * 2 ** (attempts - 1))
