"""Trades that a gap swallowed, asked of the venue and put into the archive, each of them once.

The pages that hold missing trades travel as frames of a connection of their own, `backfill:<endpoint>-…`, through
the stream and the archiver like every frame, so that the archive keeps having one writer. They are first written
down (`{data}/run/backfill/…`): whoever is interrupted publishes the very same frames again, and the archiver drops
what it has.
"""

import asyncio
import contextlib
import hashlib
import importlib
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

import msgspec
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.js.errors import APIError
from temporalio import activity
from temporalio.exceptions import CancelledError

from activities import pages
from activities.replay import read_lines
from activities.rest import Rest, key_of, of_feed
from activities.together import meanwhile
from exchanges.port import BulkGrammar, EventGrammar, TradesRequest, Unparsable, Venue
from ssmd import archive, broker, config, coverage, durable, frames, jobs, ledger, moments, subjects
from ssmd.clock import DAY_NS, SECOND_NS, SystemClock, date_of
from ssmd.errors import Permanent, Transient
from ssmd.events import REPAIRED, UNREPAIRABLE, Gap, Session, Trade

HOUR_NS = 3600 * SECOND_NS
BEFORE_NS = 10 * SECOND_NS  # trades that were on their way to us when the gap began; a lag of 7 s has been seen
AFTER_NS = SECOND_NS  # clocks differ
SETTLE_NS = 15 * SECOND_NS  # until what the venue sends late has come, and its REST knows the last trades
AROUND_NS = 60 * SECOND_NS  # of the archive, looked through for trades that it has
WINDOWS_MAX = 200  # of one run: plan and answers travel through Temporal and must stay small
CONNECT_SECONDS = 3.0
FINISH_SECONDS = 60.0  # the archiver first archives all that the stream holds
PUBLISH_SECONDS = 5.0
PUBLISHES = 32  # under way at once
HEADER_BYTES_MAX = 1 << 20
_NO_CONN = re.compile(r"[^0-9A-Za-z_./*{}-]")


class Header(msgspec.Struct):
    """The last line of what is written down before it is published: whose it is, and frames by connection."""

    window: jobs.Window
    conns: dict[str, tuple[str, int]]  # connection -> its date, its frames
    filled: jobs.Filled


class Frames:
    """Frames as they are written down, `SUBJECT MESSAGE` a line: those of a day are a connection of their own.

    `endpoint` is where they come from; a connection is named by it when its first frame comes.
    """

    def __init__(self, file: BinaryIO, environment: str, feed: str, endpoint: str) -> None:
        self._file = file
        self._environment = environment
        self._feed = feed
        self.endpoint = endpoint
        self._conns: dict[str, tuple[str, int, int]] = {}  # date -> name, frames, time of the last

    @property
    def dates(self) -> list[str]:
        return sorted(self._conns)

    def add(self, ts_ns: int, channel: str, symbol: str, frame: bytes) -> None:
        date = date_of(ts_ns)
        conn, count, last = self._conns.get(date) or (self._name(), 0, 0)
        subject = subjects.frame(self._environment, self._feed, channel, symbol or None)
        self._file.write(subject.encode() + b" " + frames.message(ts_ns, conn.encode(), count + 1, frame) + b"\n")
        self._conns[date] = conn, count + 1, max(last, ts_ns)

    def end(self, window: jobs.Window, filled: jobs.Filled) -> None:
        header = Header(window, {}, filled)
        for date, (conn, count, last) in list(self._conns.items()):
            close = Session("close", self._feed, conn, frames=count + 1, reason="a backfill, not a connection")
            self.add(last, frames.SESSION, "", msgspec.json.encode(close))
            header.conns[conn] = date, count + 1
        self._file.write(msgspec.json.encode(header) + b"\n")

    def _name(self) -> str:
        endpoint = _NO_CONN.sub("_", self.endpoint)
        return frames.conn_id(f"backfill:{endpoint}", 0, SystemClock().now_ns(), random.getrandbits(16))


class Backfill:
    """The archive under a data folder, the environment that fills it, and its venues."""

    def __init__(
        self,
        places: config.Places,
        environment: config.Environment,
        addresses: config.Addresses,
        settle_ns: int = SETTLE_NS,
    ) -> None:
        self._places = places
        self._environment = environment
        self._addresses = addresses
        self._settle_ns = settle_ns

    # ---------------------------------------------------------------------------------------------------- steps

    @activity.defn(no_thread_cancel_exception=True)
    def plan_backfill(self, missing: jobs.Missing) -> jobs.Planned:
        """Which windows are to be filled. Raises Permanent if there is no such gap, or no such time."""
        config.load_feed(missing.feed)
        self._environment.feed(missing.feed)
        if not (missing.gap or missing.start or missing.end) and not (self._places.archive / missing.feed).is_dir():
            return jobs.Planned([])  # nothing was captured yet
        gaps = meanwhile(f"looking for gaps of {missing.feed}", lambda: self._recorded(missing.feed)).gaps
        if missing.start or missing.end:
            return jobs.Planned([_window(missing, gaps)])
        if missing.gap:
            chosen = [gap for gap in gaps if gap.gap == missing.gap]
            if not chosen:
                raise Permanent(
                    f"{missing.feed} has no gap {missing.gap!r}: `ssmd gaps {missing.feed} --json` lists them"
                )
            if chosen[0].end is None:
                raise Permanent(f"gap {missing.gap} of {missing.feed} is still open: it can be filled when it is over")
        else:
            chosen = [gap for gap in gaps if _untried(gap)]
        windows = [
            jobs.Window(gap.feed, gap.start, gap.end or gap.start, [gap.gap], missing.symbols)
            for gap in chosen
            if not (missing.symbols and gap.symbols) or set(missing.symbols) & set(gap.symbols)
        ]
        if not missing.gap:
            windows = [*(left for left in self._interrupted(missing.feed) if left not in windows), *windows]
        return jobs.Planned(windows[:WINDOWS_MAX], max(0, len(windows) - WINDOWS_MAX))

    @activity.defn(no_thread_cancel_exception=True)
    def fill_window(self, window: jobs.Window) -> jobs.Filled:
        """Ask the venue for the window's trades, and archive those that are not. Again: the same, and nothing new.

        What the venue refuses is told (`failed`), not raised, so that other windows are filled all the same.
        """
        doing = f"filling {window.feed} from {_said(window.start)} to {_said(window.end)}"
        written = self._written(window)
        archived = written.with_suffix(".archived")
        self._wait(doing, window.end + AFTER_NS + self._settle_ns)
        durable.make_folder(written.parent)
        lock = durable.Lock(written.parent, f"a backfill of {window.feed}")
        try:
            lock.__enter__()
        except Permanent as e:
            raise Transient(str(e)) from None  # two at once would each fetch what the other has not archived yet
        with contextlib.ExitStack() as stack:
            stack.push(lock)
            for half in written.parent.glob(".*.tmp"):  # of one that was killed as it wrote
                durable.remove(half)
            if archived.exists():
                return _header(archived).filled
            if not written.exists():
                try:
                    filled = self._ask(doing, window, written)
                except (Permanent, Unparsable) as e:
                    return jobs.Filled(gaps=window.gaps, failed=f"{doing}: {e}")
                if filled is not None:
                    return filled
            header = _header(written)
            asyncio.run(self._publish(doing, window.feed, header, _lines(written)))
            durable.rename(written, archived)
            return header.filled

    @activity.defn(no_thread_cancel_exception=True)
    def close_windows(self, windows: list[jobs.Window]) -> None:
        """Forget windows of which all is done, their days' tables included."""
        activity.heartbeat(jobs.Progress("closing the windows"))
        for window in windows:
            durable.remove(self._written(window).with_suffix(".archived"))

    # ----------------------------------------------------------------------------------------------------- asking

    def _ask(self, doing: str, window: jobs.Window, written: Path) -> jobs.Filled | None:
        """Fetch what is missing and write it down as frames; what became of the window if there is nothing to write."""
        feed = config.load_feed(window.feed)
        venue: Venue = importlib.import_module(f"exchanges.{feed.venue}").venue
        low, high = window.start - BEFORE_NS, window.end + AFTER_NS
        sealed = self._finish(doing, window.feed, _dates(low, high))
        recorded = meanwhile(doing, lambda: self._recorded(window.feed))
        gaps = [gap for gap in recorded.gaps if gap.gap in window.gaps]
        symbols = self._symbols(recorded, venue, window, gaps)
        first = venue.trades(symbols[0] if symbols else "-", low, high)
        beyond = f"{feed.title} tells of no trades of the past" if first is None else self._forgotten(feed, low)
        if beyond and not gaps:
            raise Permanent(beyond)
        if beyond or first is None:

            def say(file: BinaryIO) -> None:
                out = Frames(file, self._environment.name, window.feed, "ledger")
                self._end(out, window, gaps, f"{UNREPAIRABLE} {beyond}", sealed, 0)

            return self._written_by(say, written)
        key = key_of(feed, self._environment, self._places.data)
        whole = not window.symbols or all(gap.symbols and set(gap.symbols) <= set(window.symbols) for gap in gaps)

        def write(file: BinaryIO) -> None:
            out = Frames(file, self._environment.name, window.feed, _endpoint(first))
            trades = 0
            fresh: list[Trade] = []  # of the hour before: whole seconds, as Polymarket has them, lie on both sides
            with of_feed(feed, self._environment, self._addresses, key=key, beat=self._beat(doing)) as rest:
                for begin, end in _hours(low, high):
                    known = Known(chain(self._archived(doing, venue, window.feed, begin, end), fresh))
                    fresh = []
                    for i, symbol in enumerate(symbols):
                        activity.heartbeat(jobs.Progress(f"{doing} ({_said(begin)})", i, len(symbols)))
                        told = _asked(rest, venue, symbol, begin, end)
                        news = known.missing([some for _, _, _, some in told])
                        for (request, asked_ns, body, some), new in zip(told, news, strict=True):
                            out.endpoint = _endpoint(request)
                            if new:
                                out.add(end, frames.BACKFILL, symbol, pages.frame(request, asked_ns, new, body))
                                fresh += [some[i] for i in new]
                    trades += len(fresh)
            repair = f"{REPAIRED}{out.endpoint}: {trades} trades; books and tickers cannot be had" if whole else ""
            self._end(out, window, gaps, repair, sealed, trades)

        return self._written_by(write, written)

    def _forgotten(self, feed: config.Feed, since_ns: int) -> str:
        """Why the venue cannot know all trades since then; empty if it can. An empty page would not tell."""
        named = self._environment.feed(feed.name).endpoint
        now_ns = SystemClock().now_ns()
        endpoint = feed.at(datetime.fromtimestamp(now_ns // SECOND_NS, UTC).date()).endpoints.get(named)
        days = endpoint.trades_days if endpoint is not None else None
        if days is None or since_ns >= now_ns - int(days * DAY_NS):
            return ""
        return f"{feed.title} remembers trades for {days:g} days only, at its endpoint {named}"

    def _end(
        self,
        out: "Frames",
        window: jobs.Window,
        gaps: Sequence[Gap],
        repair: str,
        sealed: Mapping[str, bool],
        trades: int,
    ) -> None:
        """After the pages: the ledger's rows, the end of each connection, and what became of it all."""
        rows = [g for g in gaps if trades or not g.repair or g.repaired != repair.startswith(REPAIRED)]
        for ts, gap in self._rows(window.feed, rows, repair):
            out.add(ts, frames.GAP, "", msgspec.json.encode(gap))
        today = date_of(SystemClock().now_ns())
        renewed = [date for date in out.dates if date < today or sealed.get(date)]
        out.end(window, jobs.Filled(trades, renewed, window.gaps if repair else [], repair))

    def _written_by(self, write: Callable[[BinaryIO], None], written: Path) -> jobs.Filled | None:
        """Write frames down, whole or not at all; what became of the window if there are none."""
        durable.replace_by(written, write)
        header = _header(written)
        if header.conns:
            return None
        durable.remove(written)
        return header.filled

    def _rows(self, feed: str, gaps: Sequence[Gap], repair: str) -> Iterator[tuple[int, Gap]]:
        """The ledger's new rows for each day of a gap, with a time right after the gap's last row of that day."""
        for gap in gaps if repair else ():
            for date in _dates(gap.start, gap.end or gap.start):
                manifest = self._manifest(feed, date)
                if manifest is None:
                    continue
                begin = coverage.midnight(date)
                latest = max(
                    (ts for ts, row in self._gap_rows(manifest) if row.gap == gap.gap), default=gap.end or gap.start
                )
                ts = min(max(latest + 1, begin), begin + DAY_NS - 1)
                yield ts, msgspec.structs.replace(gap, repair=repair)

    def _gap_rows(self, manifest: archive.Manifest) -> Iterator[tuple[int, Gap]]:
        folder = archive.day_folder(self._places.archive, manifest.feed, manifest.date)
        for segment in manifest.segments:
            if segment.channel == frames.GAP:
                for line in archive.read_segment(folder / segment.name):
                    yield line.ts_recv, msgspec.json.decode(line.frame, type=Gap)

    def _symbols(self, recorded: ledger.Recorded, venue: Venue, window: jobs.Window, gaps: Sequence[Gap]) -> list[str]:
        """Of which instruments trades are missing; [""] if the venue tells of all at once, and all concern us."""
        named = {symbol for gap in gaps for symbol in gap.symbols}
        if window.symbols:
            return sorted(named & set(window.symbols) or window.symbols) if gaps else sorted(set(window.symbols))
        if gaps and all(gap.symbols for gap in gaps):
            return sorted(named)
        if venue.trades("", window.start, window.end) is not None:
            return [""]
        now_ns = SystemClock().now_ns()
        for date in _dates(window.start, window.end):
            if date not in recorded.manifests:
                continue
            for covered in recorded.coverage(date, now_ns):
                if not gaps or {gap.gap for gap in covered.gaps} & set(window.gaps):
                    named.update(covered.symbols)
        return sorted(named)

    def _archived(self, doing: str, venue: Venue, feed: str, low: int, high: int) -> Iterator[Trade]:
        """The trades that the archive has around a time; what was backfilled at any time of those days, too."""
        beat = self._beat(doing)
        for date in _dates(low - AROUND_NS, high + AROUND_NS):
            manifest = self._manifest(feed, date)
            if manifest is None:
                continue
            grammar = venue.events(date)
            folder = archive.day_folder(self._places.archive, feed, date)
            for segment in manifest.segments:
                again = segment.channel == frames.BACKFILL
                near = segment.ts_recv_last >= low - AROUND_NS and segment.ts_recv_first <= high + AROUND_NS
                if not again and not (near and _may_trade(grammar, segment.channel)):
                    continue
                archive.check_segment(folder / segment.name, segment)
                for lines in read_lines(folder / segment.name):
                    beat()
                    for line in lines:
                        if again or low - AROUND_NS <= line.ts_recv <= high + AROUND_NS:
                            yield from _trades(venue, grammar, segment.channel, line)

    # -------------------------------------------------------------------------------------------- the archiver

    def _finish(self, doing: str, feed: str, dates: Sequence[str]) -> dict[str, bool]:
        """Have the archiver finish all that the stream holds of some days; which of them were sealed."""
        sealed = {}
        for date in dates:
            manifest = self._manifest(feed, date)
            sealed[date] = manifest is not None and manifest.sealed
        asyncio.run(self._with_nats(doing, feed, self._finished, dates))
        return sealed

    async def _finished(self, client: Client, doing: str, feed: str, dates: Sequence[str]) -> None:
        for date in dates:
            request = asyncio.ensure_future(
                client.request(
                    subjects.finish(self._environment.name, feed),
                    msgspec.json.encode({"date": date}),
                    timeout=FINISH_SECONDS,
                )
            )
            while not request.done():
                await asyncio.wait([request], timeout=1)
                self._beat(doing)()
            answer = msgspec.json.decode(request.result().data)
            if "error" in answer:
                raise Transient(f"{doing}: the archiver cannot finish {date} now: {answer['error']}")

    async def _with_nats(self, doing: str, feed: str, work: object, *given: object) -> None:
        if not self._addresses.nats:
            raise Permanent(
                f"{doing}: nothing runs on {self._places.data}, so there is no archiver to take it: `ssmd up` first"
            )
        try:
            client = await broker.connect_once(self._addresses.nats, "backfill", CONNECT_SECONDS)
            try:
                await work(client, doing, feed, *given)  # type: ignore[operator]
            finally:
                await client.close()
        except NoRespondersError:
            raise Transient(
                f"{doing}: no archiver of {feed} answers at {self._addresses.nats}: start it (`ssmd up`)"
            ) from None
        except (NatsError, APIError, OSError, TimeoutError) as e:
            raise Transient(
                f"{doing}: NATS at {self._addresses.nats} does not answer ({e or type(e).__name__}): "
                "start it and the archiver (`ssmd up`)"
            ) from e

    async def _publish(self, doing: str, feed: str, header: Header, lines: Iterator[bytes]) -> None:
        """Publish what was written down, and make sure that it is archived."""
        await self._with_nats(doing, feed, self._published, lines)
        dates = sorted({date for date, _ in header.conns.values()})
        await self._with_nats(doing, feed, self._finished, dates)
        for conn, (date, count) in header.conns.items():
            manifest = self._manifest(feed, date)
            here = [c for c in manifest.connections if c.conn == conn] if manifest is not None else []
            if not here or here[0].frames != count:
                raise Transient(f"{doing}: the archive of {date} does not have all of {conn} yet: trying again")

    async def _published(self, client: Client, doing: str, feed: str, lines: Iterator[bytes]) -> None:
        stream = client.jetstream()
        beat = self._beat(f"{doing}: publishing")
        while some := [line.split(b" ", 1) for line in islice(lines, PUBLISHES)]:
            beat()
            for subject, message in some:
                if len(message) > client.max_payload:
                    raise Permanent(
                        f"{doing}: a page of {len(message):,} bytes ({subject.decode()}) is more than NATS takes "
                        f"({client.max_payload:,}): raise its max_payload"
                    )
            await asyncio.gather(*(stream.publish(s.decode(), m, timeout=PUBLISH_SECONDS) for s, m in some))

    # --------------------------------------------------------------------------------------------------- inside

    def _written(self, window: jobs.Window) -> Path:
        """Where a window's frames are written down: the same for the same window."""
        name = hashlib.sha256(msgspec.json.encode(window)).hexdigest()[:16]
        return self._places.run / "backfill" / window.feed / f"{name}.frames"

    def _interrupted(self, feed: str) -> list[jobs.Window]:
        """Windows that a backfill was killed over; the ledger may have them as repaired already."""
        folder = self._places.run / "backfill" / feed
        left = sorted([*folder.glob("*.frames"), *folder.glob("*.archived")])
        return sorted((_header(path).window for path in left), key=lambda window: window.start)

    def _recorded(self, feed: str) -> ledger.Recorded:
        [recorded] = ledger.recorded(self._places.archive, feed)
        return recorded

    def _manifest(self, feed: str, date: str) -> archive.Manifest | None:
        path = archive.manifest_path(self._places.archive, feed, date)
        return archive.load_manifest(path) if path.exists() else None

    def _wait(self, doing: str, until_ns: int) -> None:
        """Until late frames of the window have come."""
        while SystemClock().now_ns() < until_ns:
            self._beat(f"{doing}: waiting until all of it has come")()
            activity.wait_for_cancelled_sync(1)

    def _beat(self, doing: str, done: int = 0, total: int = 0) -> Callable[[], None]:
        """Says that we are alive, and ends the work if it is cancelled."""

        def beat() -> None:
            activity.heartbeat(jobs.Progress(doing, done, total))
            if activity.is_cancelled():
                raise CancelledError(f"{doing}: cancelled")

        return beat


class Known:
    """The trades that the archive has, to tell which of the venue's are missing.

    An id names a trade. Where several trades share one (Polymarket's transactions), as many are known as there are;
    those of the same price and size first. What was archived without an id is known by side, price and size.
    """

    def __init__(self, archived: Iterable[Trade]) -> None:
        self._exact: Counter[tuple[object, ...]] = Counter()
        self._ids: Counter[tuple[object, ...]] = Counter()
        self._nameless: Counter[tuple[object, ...]] = Counter()
        for trade in archived:
            self._add(trade)

    def _add(self, trade: Trade) -> None:
        if trade.trade_id is None:
            self._nameless[trade.symbol, trade.side, *_numbers(trade)] += 1
        else:
            self._exact[trade.symbol, trade.trade_id, *_numbers(trade)] += 1
            self._ids[trade.symbol, trade.trade_id] += 1

    def missing(self, asked: Sequence[Sequence[Trade]]) -> list[list[int]]:
        """Of the pages of one question: the places of missing trades in each. They are known from then on.

        A page may repeat what stood at the end of the one before.
        """
        exact, ids, nameless = Counter(self._exact), Counter(self._ids), Counter(self._nameless)
        before: Counter[tuple[object, ...]] = Counter()
        doubtful: list[tuple[int, int, Trade]] = []
        for number, page in enumerate(asked):
            here: Counter[tuple[object, ...]] = Counter()
            for place, trade in enumerate(page):
                fact = (trade.symbol, trade.trade_id, *_numbers(trade))
                here[*fact, trade.ts_event] += 1
                if here[*fact, trade.ts_event] <= before[*fact, trade.ts_event]:
                    continue
                if exact[fact] > 0:
                    exact[fact] -= 1
                    ids[fact[:2]] -= 1
                else:
                    doubtful.append((number, place, trade))
            before |= here
        found: list[list[int]] = [[] for _ in asked]
        for number, place, trade in doubtful:
            name, alike = (trade.symbol, trade.trade_id), (trade.symbol, trade.side, *_numbers(trade))
            if trade.trade_id is not None and ids[name] > 0:
                ids[name] -= 1
            elif nameless[alike] > 0:
                nameless[alike] -= 1
            else:
                found[number].append(place)
                self._add(trade)
        return found


def _numbers(trade: Trade) -> tuple[float, float]:
    """Price and size to be compared: REST may write them with other digits."""
    return float(trade.price), float(trade.size)


def _asked(
    rest: Rest, venue: Venue, symbol: str, low: int, high: int
) -> list[tuple[TradesRequest, int, bytes, list[Trade]]]:
    """All pages of a symbol's trades: what was asked and when, the answer's bytes, its trades."""
    found = []
    request = venue.trades(symbol, low, high)
    while request is not None:
        asked: TradesRequest = request
        asked_ns = SystemClock().now_ns()
        body, page = rest.ask(asked, lambda body, asked=asked: (body, venue.trades_page(asked, body)))  # type: ignore[misc]
        if page.trades:
            found.append((asked, asked_ns, body, page.trades))
        request = page.next
    return found


def _trades(venue: Venue, grammar: EventGrammar, channel: str, line: frames.Line) -> list[Trade]:
    try:
        if channel == frames.BACKFILL:
            return pages.trades(venue, line.wire())
        return [event for event in grammar(channel, line.wire()) if isinstance(event, Trade)]
    except Unparsable:
        return []


def _may_trade(grammar: EventGrammar, channel: str) -> bool:
    if channel.startswith("_"):
        return False
    bulk = grammar.bulk(channel) if isinstance(grammar, BulkGrammar) else None
    return bulk is None or bulk.event is Trade


def _untried(gap: Gap) -> bool:
    return gap.end is not None and not gap.repair


def _window(missing: jobs.Missing, gaps: Iterable[Gap]) -> jobs.Window:
    """A time as asked for, and the gaps that lie in it."""
    start, end = _ns("start", missing.start), _ns("end", missing.end)
    if end < start:
        raise Permanent(f"the end {missing.end} is before the start {missing.start}")
    if end > SystemClock().now_ns():
        raise Permanent(f"the end {missing.end} has not come yet")
    wanted = set(missing.symbols)
    inside = [
        gap.gap
        for gap in gaps
        if _untried(gap) and start <= gap.start and (gap.end or 0) <= end
        if not wanted or (gap.symbols and set(gap.symbols) <= wanted)
    ]
    return jobs.Window(missing.feed, start, end, inside, sorted(wanted))


def _ns(what: str, text: str) -> int:
    try:
        return moments.ns_of(text)
    except ValueError:
        raise Permanent(
            f"the {what} {text!r} is no time: write it like 2026-11-20T14:00:00Z, or in ns since the epoch"
        ) from None


def _dates(low: int, high: int) -> list[str]:
    """The UTC dates that a time touches."""
    return [date_of(at) for at in range(low // DAY_NS * DAY_NS, high + 1, DAY_NS)]


def _hours(low: int, high: int) -> Iterator[tuple[int, int]]:
    """A time (both ends included), cut where hours begin: a page then belongs to one hour of the archive."""
    while low <= high:
        end = min(high, low // HOUR_NS * HOUR_NS + HOUR_NS - 1)
        yield low, end
        low = end + 1


def _endpoint(request: TradesRequest) -> str:
    """The request's path, the same for every symbol."""
    return request.path.replace(request.symbol, "*") if request.symbol else request.path


def _said(ts_ns: int) -> str:
    return f"{datetime.fromtimestamp(ts_ns // SECOND_NS, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _header(path: Path) -> Header:
    """The last line of what is written down."""
    with path.open("rb") as file:
        file.seek(-min(HEADER_BYTES_MAX, path.stat().st_size), os.SEEK_END)
        return msgspec.json.decode(file.read().rstrip(b"\n").rpartition(b"\n")[2], type=Header)


def _lines(path: Path) -> Iterator[bytes]:
    """Subject and message of each frame that is written down."""
    with path.open("rb") as file:
        for line in file:
            if not line.startswith(b"{"):
                yield line.removesuffix(b"\n")
