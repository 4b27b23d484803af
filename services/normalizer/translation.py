"""From raw frames to normalized messages: the venue's grammar, the encoder, and what is missing. No socket here."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from exchanges.port import EventGrammar, Unparsable, Venue
from ssmd import capnp, frames, subjects
from ssmd.clock import DAY_NS, SECOND_NS
from ssmd.events import BookDelta, BookSnapshot, Event, Gap, GapCause, Status, Ticker, Trade

CONNECTIONS_MAX = 1_000  # remembered; a feed has a few at a time
SUBJECTS_MAX = 1 << 17  # remembered: 0.1 us instead of 2
EVIDENCE_CHARACTERS_MAX = 200
# What was published so shortly before the link was found dead may have gone nowhere: three pings of 2 s (ssmd.broker).
UNSURE_NS = 6 * SECOND_NS

_KINDS: dict[type, str] = {
    Trade: "trade",
    Ticker: "ticker",
    BookSnapshot: "book",
    BookDelta: "book",
    Status: "status",
    Gap: "status",
}

Published = tuple[str, bytes]  # subject, message


class Translation:
    """A feed's frames, as NATS brings them, into what is to be published of them.

    A core subscriber gets a frame at most once for each time it was published: never, if the subscriber is too slow,
    and twice, if the connector had to send it again. The frames' numbers show both: what is known is dropped, and what
    is missing is told by a gap, cause `lost`, before the next event.
    """

    def __init__(self, env: str, feed: str, venue: Venue) -> None:
        self._feed = feed
        self._venue = venue
        self._encode = capnp.Encoder(feed).encode
        self._grammar: EventGrammar
        self._day = range(0)
        self._latest: dict[str, tuple[int, int]] = {}  # connection -> n and ts_recv of its latest frame
        self._unsure: set[str] = set()  # connections of which something may not have arrived
        self.frames = 0
        self.published = 0
        self.missed = 0
        self.unparsable = 0

        @lru_cache(SUBJECTS_MAX)
        def subject(kind: type, symbol: str | None) -> str:
            return subjects.normalized(env, feed, _KINDS[kind], symbol)

        self._subject = subject

    def link_broke(self) -> None:
        """What was published last may not have arrived: each connection's next frame tells it."""
        self._unsure.update(self._latest)

    def take(self, subject: str, message: bytes) -> list[Published]:
        """What is to be published now that this frame has come."""
        line = frames.parse(message)
        n, since = self._latest.get(line.conn) or self._met(line.conn)
        if line.n <= n:
            return []
        out = []
        if line.n > n + 1 or line.conn in self._unsure:
            out.append(self._published(self._lost(line, n, since), line, 0))
        self._latest[line.conn] = line.n, line.ts_recv
        self.frames += 1
        try:
            out += [self._published(event, line, item) for item, event in enumerate(self._events(subject, line))]
        except Exception as e:  # whatever is wrong with one frame must not keep the others back
            self.unparsable += 1
            out.append(self._published(self._unparsed(subject, line, e), line, 0))
        self.published += len(out)
        return out

    def _events(self, subject: str, line: frames.Line) -> Sequence[Event | Gap]:
        channel = subjects.channel_of(subject)
        if channel == frames.GAP:
            return (msgspec.json.decode(line.frame, type=Gap),)
        if channel in {frames.SESSION, frames.BAD, frames.BACKFILL}:  # `_bad` has its gap; what was long ago is no news
            return ()
        if line.ts_recv not in self._day:
            start = line.ts_recv // DAY_NS * DAY_NS
            self._day = range(start, start + DAY_NS)
            self._grammar = self._venue.events(f"{datetime.fromtimestamp(start // SECOND_NS, UTC):%Y-%m-%d}")
        return self._grammar(channel, line.wire())

    def _published(self, event: Event | Gap, line: frames.Line, item: int) -> Published:
        symbol = None if isinstance(event, Gap) else event.symbol
        return self._subject(type(event), symbol), self._encode(event, line.ts_recv, line.conn, line.n, item)

    # ------------------------------------------------------------------------------------------ what is missing

    def _met(self, conn: str) -> tuple[int, int]:
        """A connection that is new to us: it began when its name says."""
        if len(self._latest) >= CONNECTIONS_MAX:
            del self._latest[next(iter(self._latest))]
        return 0, frames.opened_ms(conn) * 1_000_000

    def _lost(self, line: frames.Line, n: int, since: int) -> Gap:
        if line.conn in self._unsure:
            self._unsure.discard(line.conn)
            since -= UNSURE_NS
        self.missed += line.n - n - 1
        evidence = f"after frame {n} of the connection came {line.n}; what is missing here is archived all the same"
        return self._gap(line, "lost", [], since, evidence)

    def _unparsed(self, subject: str, line: frames.Line, error: Exception) -> Gap:
        token = subject.rpartition(".")[2]
        symbols = [] if token == frames.ALL else [subjects.symbol(token)]
        said = str(error) if isinstance(error, Unparsable) else f"{type(error).__name__}: {error}"
        return self._gap(line, "parse", symbols, line.ts_recv, said[:EVIDENCE_CHARACTERS_MAX])

    def _gap(self, line: frames.Line, cause: GapCause, symbols: list[str], start: int, evidence: str) -> Gap:
        """One that is over as soon as it is known."""
        name = f"{line.conn}-normalizer-{cause}-{line.n}"
        return Gap(name, self._feed, line.conn, symbols, min(start, line.ts_recv), line.ts_recv, cause, evidence)
