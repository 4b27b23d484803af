"""What trading costs at a venue: read, compared with what is known, written down."""

import importlib
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
from temporalio import activity

from activities import rest
from activities.paging import Pages, Records
from activities.secmaster import only_one
from exchanges.port import Request, Venue
from ssmd import config, jobs, versions
from ssmd.clock import SystemClock

_DECIMALS = ("volume", "maker", "taker")


class Fees:
    """A data folder, and the environment whose venues are asked."""

    def __init__(self, places: config.Places, environment: config.Environment, addresses: config.Addresses) -> None:
        self._places = places
        self._environment = environment
        self._addresses = addresses

    @activity.defn(no_thread_cancel_exception=True)
    def sync_fees(self, job: jobs.FeeListing) -> jobs.Synced:
        """Add a version for each fee that is new, has changed or is told no more. Raises if nothing could be read.

        Where the venue has no request for it, or wants a key that the environment does not name, a note says so.
        """
        feed = config.load_feed(job.feed)
        venue: Venue = importlib.import_module(f"exchanges.{feed.venue}").venue
        chains = list(venue.fees(self._symbols(job.feed)))
        key = rest.key_of(feed, self._environment, self._places.data) if any(r.signed for r in chains) else None
        if not chains or (key is None and any(r.signed for r in chains)):
            return self._nothing(job.feed, signed=bool(chains))
        lake, table = self._places.lake, versions.FEES
        doing, now_ns = f"reading the fees of {job.feed}", SystemClock().now_ns

        def read(request: Request, body: bytes) -> tuple[Records, Request | None]:
            page = venue.fees_page(request, body)
            return [{**fee._asdict(), "detail": dict(fee.detail)} for fee in page.fees], page.next

        with only_one(self._places, table, job.feed):
            before = versions.load(lake, table, job.feed)
            found = _Found(versions.known(lake, table, before))
            pages = Pages(self._places.run / "listings" / f"fees-{job.feed}.jsonl", doing, now_ns)
            try:
                with rest.of_feed(feed, self._environment, self._addresses, key=key, beat=pages.beat) as asked:
                    pages.read(asked, chains, read)
                    pages.check()
                for page in pages:
                    for record in page.records:
                        found.add(record, page.ts)
                whole = not pages.cursor.unread and not found.odd and found.read > 0
                if whole and (gone := found.missing()):
                    latest = versions.latest(lake, table, before, {key[0] for key in gone})
                    found.rows += [_gone(row, now_ns()) for key, row in latest.items() if key in gone]
                rows = [versions.made(table, before, found.rows)] if found.rows else []
                after = versions.publish(lake, table, before, rows, now_ns(), whole=whole, full=True)
                pages.forget()
            finally:
                pages.close()
        kinds = [row["change"] for row in found.rows]
        return jobs.Synced(
            feed=job.feed,
            full=True,
            whole=whole,
            revision=after.revision,
            pages=pages.cursor.pages,
            read=found.read,
            listed=kinds.count("listed"),
            changed=kinds.count("changed"),
            delisted=kinds.count("delisted"),
            odd=found.odd,
            odd_reason=found.odd_reason,
            unread=pages.cursor.unread,
        )

    def _nothing(self, feed: str, *, signed: bool) -> jobs.Synced:
        note = f"{feed} has no request that tells fees, or none for instruments that are not known yet"
        if signed:
            note = f"{feed} tells fees to account holders alone: name a key of it in the environment's YAML (`key:`)"
        known = versions.load(self._places.lake, versions.FEES, feed)
        return jobs.Synced(feed, True, True, known.revision, 0, 0, 0, 0, 0, note=note)

    def _symbols(self, feed: str) -> list[str]:
        """Those that the environment names, or all that are known to be open: some venues tell fees one by one."""
        named = self._environment.feed(feed).symbols.names
        if named:
            return list(named)
        manifest = versions.load(self._places.lake, versions.INSTRUMENTS, feed)
        known = versions.known(self._places.lake, versions.INSTRUMENTS, manifest, ("status",))
        return sorted(symbol for (symbol,), one in known.items() if one.also[0] == "open")


class _Found:
    """What was told, compared with what was known."""

    def __init__(self, known: dict[versions.Key, versions.Known]) -> None:
        self._known = known
        self._seen: set[versions.Key] = set()
        self.rows: list[dict[str, Any]] = []
        self.read = 0
        self.odd = 0
        self.odd_reason = ""

    def add(self, record: dict[str, object], ts_ns: int) -> None:
        """Take in a fee that was told at `ts_ns`."""
        told = {**record, "since": record["since_ns"]}
        try:
            told |= {name: None if told[name] is None else Decimal(str(told[name])) for name in _DECIMALS}
        except InvalidOperation:
            self.odd += 1
            self.odd_reason = self.odd_reason or f"a fee of {record['symbol']} is no number"
            return
        key = tuple(told[name] for name in versions.FEES.key)
        self._seen.add(key)
        self.read += 1
        digest, before = versions.digest(record), self._known.get(key)
        if before is not None and before.digest == digest:
            return
        change = "listed" if before is None else "changed"
        valid_from = ts_ns if before is None else max(ts_ns, before.valid_from + 1)
        self._known[key] = versions.Known(digest, valid_from, change)
        row = {name: told[name] for name in ("symbol", "of", "volume", "maker", "taker", "basis", "since")}
        raw = msgspec.json.encode(record).decode()
        self.rows.append({**row, "valid_from": valid_from, "change": change, "raw": raw, "digest": digest})

    def missing(self) -> set[versions.Key]:
        """What was known and is told no more."""
        return {key for key, one in self._known.items() if key not in self._seen and one.change != "delisted"}


def _gone(row: dict[str, Any], now_ns: int) -> dict[str, Any]:
    valid_from = max(now_ns, row["valid_from"] + 1)
    return {**row, "change": "delisted", "valid_from": valid_from, "digest": versions.digest(["delisted"])}
