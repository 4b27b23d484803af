"""Listings, read page by page into a file, so that a next try goes on where this one ended."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
from temporalio import activity
from temporalio.exceptions import CancelledError

from activities.rest import Rest
from exchanges.port import Request, Unparsable
from ssmd import durable, jobs
from ssmd.errors import Permanent, SsmdError, Transient

Records = list[dict[str, object]]
Read = Callable[[Request, bytes], tuple[Records, Request | None]]  # a page's records, and the next page
ERROR_CHARACTERS_MAX = 300  # what is told of a page travels through Temporal
UNREAD_MAX = 50


class Page(msgspec.Struct, frozen=True):
    """A page as it is kept: when it came (ns) and what it held."""

    ts: int
    records: Records


class Stopping(Transient):
    """Not the venue is busy, this worker ends."""


class Pages:
    """The pages of one try, and those that earlier tries of the same job have read.

    Pages that are read `after` others (which are all there) are read from the start by each try.
    """

    def __init__(self, path: Path, doing: str, now_ns: Callable[[], int], after: "Pages | None" = None) -> None:
        self._path = path
        self._doing = doing
        self._now_ns = now_ns
        self._after = after
        self.cursor = _where_it_ended(path) if after is None else jobs.Cursor()
        self._problem: SsmdError | None = None
        durable.make_folder(path.parent)
        self._file = durable.Appender(path, self.cursor.bytes)

    def beat(self) -> None:
        """Tell how far it is; raises CancelledError once the job is, Stopping once its worker is told to end."""
        before = self._after.cursor if self._after is not None else self.cursor
        activity.heartbeat(jobs.Progress(self._doing, self.cursor.pages), before)
        if activity.is_cancelled():
            raise CancelledError(f"{self._doing}: cancelled after {self.cursor.pages} pages")
        if activity.is_worker_shutdown():
            raise Stopping(f"{self._doing}: this worker stops; the next one goes on after {self.cursor.pages} pages")

    def read(self, rest: Rest, chains: Sequence[Request], read: Read) -> None:
        """Read all pages of all chains. A page that cannot be read ends its chain, and no other."""
        while self.cursor.chain < len(chains):
            request = chains[self.cursor.chain]
            if self.cursor.query is not None:
                request = replace(request, query=self.cursor.query)
            try:
                records, following = rest.ask(request, _reader(request, read))
            except Stopping:
                raise
            except (Transient, Permanent) as e:
                self._problem = e
                one = jobs.Unread(request.target[:ERROR_CHARACTERS_MAX], str(e)[:ERROR_CHARACTERS_MAX])
                unread = [*self.cursor.unread, one][:UNREAD_MAX]
                self.cursor = replace(self.cursor, chain=self.cursor.chain + 1, query=None, unread=unread)
                continue
            self._file.append(msgspec.json.encode(Page(self._now_ns(), records)) + b"\n")
            self.cursor = replace(
                self.cursor,
                chain=self.cursor.chain + (following is None),
                query=None if following is None else dict(following.query),
                pages=self.cursor.pages + 1,
                bytes=self._file.size,
            )
            self.beat()

    def check(self) -> None:
        """Raises Transient or Permanent, and forgets it, if there was not a single page to be had."""
        if not self.cursor.pages and self.cursor.unread:
            self.forget()
            raise self._problem or Transient(self.cursor.unread[0].error)

    def __iter__(self) -> Iterator[Page]:
        """What was read, in the order of the chains; whoever takes long over a page is heard of after each."""
        with self._path.open("rb") as lines:
            for line in lines:
                self.beat()
                yield msgspec.json.decode(line, type=Page)

    def close(self) -> None:
        self._file.close()

    def forget(self) -> None:
        """What was read is where it belongs: the next job begins anew."""
        self.close()
        durable.remove(self._path)


def _reader(request: Request, read: Read) -> Callable[[bytes], tuple[Records, Request | None]]:
    def one(body: bytes) -> tuple[Records, Request | None]:
        try:
            return read(request, body)
        except Unparsable as e:
            raise Permanent(str(e)) from e

    return one


def _where_it_ended(path: Path) -> jobs.Cursor:
    """The cursor of the last try's last heartbeat; the start if there was none, or its pages are not here."""
    details = activity.info().heartbeat_details
    if len(details) < 2:
        return jobs.Cursor()
    cursor = msgspec.convert(details[1], jobs.Cursor) if not isinstance(details[1], jobs.Cursor) else details[1]
    size = path.stat().st_size if path.exists() else 0
    return cursor if size >= cursor.bytes else jobs.Cursor()
