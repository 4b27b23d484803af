"""The instruments of a feed: read from its venue, compared with what is known, written down, announced."""

import asyncio
import importlib
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa
from nats.errors import Error as NatsError
from temporalio import activity

from activities import rest
from activities.paging import Pages, Records
from exchanges.port import Instrument, Request, Unparsable, Venue
from ssmd import broker, changes, config, durable, jobs, subjects, versions
from ssmd.clock import SystemClock
from ssmd.errors import Permanent, Transient

CONNECT_SECONDS = 3.0
FLUSH_SECONDS = 10
OVER = frozenset({"settled", "delisted"})  # nothing more will become of it
_DECIMALS = ("tick_size", "lot_size", "contract_size", "strike", "settlement_value")


class Secmaster:
    """A data folder, and the environment whose venues are asked."""

    def __init__(self, places: config.Places, environment: config.Environment, addresses: config.Addresses) -> None:
        self._places = places
        self._environment = environment
        self._addresses = addresses

    @activity.defn(no_thread_cancel_exception=True)
    def sync_instruments(self, job: jobs.Listing) -> jobs.Synced:
        """Read the venue's listing and add a version for each instrument that is new, has changed or is gone.

        Instruments that are no longer listed as open are asked for by name, until they are settled. What was read
        counts, even if some pages could not be: then nothing is taken for gone. Raises if nothing could be read.
        """
        feed, plan = config.load_feed(job.feed), self._environment.feed(job.feed)
        venue: Venue = importlib.import_module(f"exchanges.{feed.venue}").venue
        chains = list(venue.instruments(plan.symbols.series))
        if job.full:
            chains += venue.listing.further(plan.symbols.series)
        doing = f"reading the instruments of {job.feed}"
        now_ns = SystemClock().now_ns
        with only_one(self._places, versions.INSTRUMENTS, job.feed):
            before = versions.load(self._places.lake, versions.INSTRUMENTS, job.feed)
            known = versions.known(self._places.lake, versions.INSTRUMENTS, before, ("status", "series"))
            found = _Found(venue, before, {key[0]: value for key, value in known.items()})
            folder = self._places.run / "listings"
            pages = Pages(folder / f"instruments-{job.feed}.jsonl", doing, now_ns)
            unread = pages.cursor.unread
            try:
                with rest.of_feed(feed, self._environment, self._addresses, beat=pages.beat) as asked:

                    def read(request: Request, body: bytes) -> tuple[Records, Request | None]:
                        page = venue.instruments_page(request, body)
                        return page.records, page.next

                    pages.read(asked, chains, read)
                    pages.check()
                    for page in pages:
                        found.add(page.records, page.ts)
                    unread, listed = pages.cursor.unread, found.read > 0  # no venue lists nothing for long
                    if not unread and listed and (missing := found.missing()):
                        named = Pages(folder / f"named-{job.feed}.jsonl", doing, now_ns, after=pages)
                        try:
                            named.read(asked, venue.listing.named(missing), read)
                            for page in named:
                                found.add([r for r in page.records if found.missed(r)], page.ts)
                            unread = named.cursor.unread
                        finally:
                            named.forget()
                whole = listed and not unread and not found.odd
                if whole:
                    self._delist(before, found, plan.symbols.series, now_ns())
                after = versions.publish(
                    self._places.lake,
                    versions.INSTRUMENTS,
                    before,
                    found.rows,
                    now_ns(),
                    whole=whole,
                    full=job.full,
                )
                pages.forget()
            finally:
                pages.close()
        return jobs.Synced(
            feed=job.feed,
            full=job.full,
            whole=whole,
            revision=after.revision,
            pages=pages.cursor.pages,
            read=found.read,
            listed=found.changes["listed"],
            changed=found.changes["changed"],
            delisted=found.changes["delisted"],
            odd=found.odd,
            odd_reason=found.odd_reason,
            unread=unread,
        )

    def _delist(self, before: versions.Manifest, found: "_Found", series: Sequence[str], now_ns: int) -> None:
        """What was known, is not over and is listed no more has a last version that says so.

        A feed's series may have been others: what is none of them is left as it is, for it was not asked for.
        """
        gone = {s for s in found.missing() if not series or set(found.series_of(s)) & set(series)}
        latest = versions.latest(self._places.lake, versions.INSTRUMENTS, before, gone).values() if gone else ()
        over = {"status": "delisted", "change": "delisted", "digest": versions.digest("delisted")}
        found.put([{**row, **over, "valid_from": max(now_ns, row["valid_from"] + 1)} for row in latest])

    @activity.defn(no_thread_cancel_exception=True)
    def announce_changes(self, job: jobs.Listing) -> int:
        """Publish what is not yet announced of the feed's changes; how many there were. Raises Transient without NATS.

        A platform that does not run has nobody to tell: 0, and the changes are told by the next sync of one that does.
        """
        activity.heartbeat(jobs.Progress(f"announcing changes of {job.feed}"))
        if not self._addresses.nats:
            return 0
        lake = self._places.lake
        with only_one(self._places, versions.INSTRUMENTS, job.feed):
            manifest = versions.load(lake, versions.INSTRUMENTS, job.feed)
            if manifest.announced == manifest.revision:
                return 0
            first = manifest.announced + 1
            last, columns = manifest.revision, changes.Change.__struct_fields__
            rows = versions.of_revisions(lake, versions.INSTRUMENTS, manifest, first, last, columns)
            try:
                asyncio.run(self._publish(changes.messages(job.feed, rows)))
            except (NatsError, OSError, TimeoutError) as e:
                raise Transient(
                    f"the changes of {job.feed} are written down, but cannot be announced at {self._addresses.nats} "
                    f"({e or type(e).__name__}): the next sync announces them, too"
                ) from e
            versions.announced(lake, versions.INSTRUMENTS, manifest, manifest.revision)
        return len(rows)

    async def _publish(self, messages: list[bytes]) -> None:
        client = await broker.connect_once(self._addresses.nats, "worker", CONNECT_SECONDS)
        try:
            subject = subjects.secmaster_changes(self._environment.name)
            for message in messages:
                await client.publish(subject, message)
            await client.flush(FLUSH_SECONDS)  # its answer says that the server has them all
        finally:
            await client.close()


class _Found:
    """What a listing told, compared with what was known."""

    def __init__(self, venue: Venue, before: versions.Manifest, known: dict[str, versions.Known]) -> None:
        self._venue = venue
        self._before = before
        self._known = known
        self._seen: set[str] = set()
        self.rows: list[pa.Table] = []
        self.changes: Counter[str] = Counter()
        self.read = 0
        self.odd = 0
        self.odd_reason = ""

    def add(self, records: Records, ts_ns: int) -> None:
        """Take in a page that came at `ts_ns`."""
        new: list[dict[str, Any]] = []
        for record in records:
            try:
                instruments = self._venue.listing.instruments_of(record)
                lasting = self._venue.listing.lasting(record)
            except Unparsable as e:
                self.odd += 1
                self.odd_reason = self.odd_reason or str(e)
                continue
            for instrument in instruments:
                new += self._compare(instrument, record, lasting, ts_ns)
        self.put(new)

    def put(self, rows: list[dict[str, Any]]) -> None:
        """Take in new versions."""
        if rows:
            self.rows.append(versions.made(versions.INSTRUMENTS, self._before, rows))
            self.changes.update(row["change"] for row in rows)

    def _compare(
        self, instrument: Instrument, record: dict[str, object], lasting: object, ts_ns: int
    ) -> list[dict[str, Any]]:
        """Its new version; none if it is as it was."""
        symbol = instrument.symbol
        self._seen.add(symbol)
        self.read += 1
        digest = versions.digest([instrument._asdict(), lasting])
        before = self._known.get(symbol)
        if before is not None and before.digest == digest:
            return []
        change = "listed" if before is None else "changed"
        valid_from = ts_ns if before is None else max(ts_ns, before.valid_from + 1)
        self._known[symbol] = versions.Known(digest, valid_from, change, (instrument.status, list(instrument.series)))
        told = {**instrument._asdict(), "series": list(instrument.series)}
        told |= {name: None if told[name] is None else Decimal(told[name]) for name in _DECIMALS}
        raw = msgspec.json.encode(record).decode()
        return [{**told, "valid_from": valid_from, "change": change, "raw": raw, "digest": digest}]

    def missing(self) -> list[str]:
        """What was known, is not over, and was not told of."""
        return sorted(s for s, known in self._known.items() if s not in self._seen and known.also[0] not in OVER)

    def missed(self, record: dict[str, object]) -> bool:
        """Whether a record is of an instrument that was missing, or of none that can be read."""
        try:
            symbols = {i.symbol for i in self._venue.listing.instruments_of(record)}
        except Unparsable:
            return True
        return any(s in self._known and s not in self._seen for s in symbols)

    def series_of(self, symbol: str) -> list[str]:
        return self._known[symbol].also[1] or []


def only_one(places: config.Places, table: versions.Table, feed: str) -> "_OnlyOne":
    return _OnlyOne(versions.lock(places.lake, table, feed, f"a sync of {feed}'s {table.name}"))


class _OnlyOne:
    """A folder's lock, for which a job waits its turn."""

    def __init__(self, lock: durable.Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        try:
            self._lock.__enter__()
        except Permanent as e:
            raise Transient(str(e)) from e

    def __exit__(self, *ended: Any) -> None:
        self._lock.__exit__(*ended)
