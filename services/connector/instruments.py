"""What the venue lists, and when it is closed: asked by REST, once for all connections of the connector."""

import asyncio
import ssl
import time
from collections.abc import Sequence

import httpx
import structlog

from exchanges.port import Request, Unparsable, Venue
from ssmd import __version__, config
from ssmd.changes import Change
from ssmd.errors import Permanent, Transient

FRESH_SECONDS = 5.0  # connections that begin one after the other need one listing
SCHEDULE_SECONDS = 60.0  # between two looks at the calendar
REQUEST_SECONDS = 10.0
HEADERS = {"User-Agent": f"ssmd/{__version__}"}

Log = structlog.typing.FilteringBoundLogger


class Rest:
    """The venue's REST services, by one client for all requests."""

    def __init__(self, endpoint: str, simulated: bool) -> None:
        self._endpoint = endpoint
        self._simulated = simulated
        self._client: httpx.AsyncClient | None = None
        self._making = asyncio.Lock()

    def service(self, request: Request) -> str:
        """The service that a request is for."""
        return f"https://{request.host}" if request.host and not self._simulated else self._endpoint

    async def client(self) -> httpx.AsyncClient:
        """Made for the first request, its root certificates read in a thread: that takes 60 ms."""
        async with self._making:
            if self._client is None:
                tls: ssl.SSLContext | bool = False
                if not self._simulated:
                    tls = await asyncio.to_thread(httpx.create_ssl_context)
                self._client = httpx.AsyncClient(timeout=REQUEST_SECONDS, headers=HEADERS, verify=tls)
        return self._client

    async def ask(self, request: Request) -> httpx.Response:
        client = await self.client()
        return await client.request(request.method, self.service(request) + request.path, params=request.query)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()


class Instruments:
    """The instruments that an environment wants of a venue: the named ones, or what the venue lists as open."""

    def __init__(
        self,
        plan: config.Symbols,
        venue: Venue,
        rest: Rest,
        log: Log,
        calendar: config.Calendar | None = None,
        *,
        alone: bool,
    ) -> None:
        """`alone`: no other connector has a part of these."""
        self._plan = plan
        self._calendar = calendar
        self._venue = venue
        self._rest = rest
        self._log = log
        self._alone = alone
        self.together: dict[str, str] = {}  # what instruments share that are told of by the same frames
        self._listed: frozenset[str] | None = None
        self._listed_at = 0.0
        self._listed_ns = 0  # the same by the wall clock
        self._turn = asyncio.Lock()
        self.schedule: bytes | None = None  # the venue's calendar, as it told it last
        self._schedule_due = 0.0

    async def wanted(self, *, fresh: bool = False) -> frozenset[str]:
        """Raises Transient, Permanent, Unparsable or httpx.HTTPError if there is no listing, nor an earlier one; with
        `fresh`, which asks anew, also if there is one."""
        if self._plan.names:
            return frozenset(self._plan.names)
        async with self._turn:
            now = asyncio.get_running_loop().time()
            if self._listed is None or fresh or now - self._listed_at > FRESH_SECONDS:
                try:
                    asked_ns = time.time_ns()
                    self._listed = frozenset(await self._list())
                    self._listed_at, self._listed_ns = now, asked_ns
                except (Transient, Permanent, Unparsable, httpx.HTTPError) as e:
                    if self._listed is None or fresh:
                        raise
                    self._log.warning("no listing: going on with the last one", error=str(e) or type(e).__name__)
            return self._listed

    def changed(self, told: Sequence[Change]) -> frozenset[str] | None:
        """What is wanted now that these instruments have changed; None if that is as before, or not known yet."""
        if self._plan.names or self._listed is None:
            return None
        wanted = set(self._listed)
        for change in told:
            if change.valid_from <= self._listed_ns:
                continue  # our own listing is younger
            if change.status != "open":
                wanted.discard(change.symbol)
            elif self.together and not self._alone and change.symbol not in self.together:
                continue  # which connector it belongs to, only a listing tells
            elif not self._plan.series or set(self._plan.series) & set(change.series):
                wanted.add(change.symbol)
        if wanted == self._listed:
            return None
        self._listed = frozenset(wanted)
        return self._listed

    async def _list(self) -> list[str]:
        found: list[str] = []
        together: dict[str, str] = {}
        todo = list(self._venue.instruments(self._plan.series))
        while todo:
            request = todo.pop()
            answer = await self._rest.ask(request)
            if answer.status_code != httpx.codes.OK:
                raise self._venue.refusal(answer.status_code, answer.content)
            page = self._venue.instruments_page(request, answer.content)
            found += page.symbols
            together |= page.together
            if page.next is not None:
                todo.append(page.next)
        self.together = together
        return found

    async def ask_schedule(self) -> None:
        """The venue's calendar, if it has one and tells it now."""
        request, now = self._venue.schedule(), asyncio.get_running_loop().time()
        if request is None or now < self._schedule_due:
            return
        self._schedule_due = now + SCHEDULE_SECONDS
        try:
            answer = await self._rest.ask(request)
        except httpx.HTTPError:
            return
        if answer.status_code == httpx.codes.OK:
            self.schedule = answer.content

    def planned(self) -> str | None:
        """Why the venue is closed by the feed's calendar or its own; None if it should be open, or we do not know."""
        if self._calendar is not None and (reason := self._calendar.closed(time.time_ns())) is not None:
            return reason
        try:
            return self._venue.closed(self.schedule, time.time_ns()) if self.schedule is not None else None
        except Unparsable as e:
            self._log.warning("the venue's calendar is not as documented", error=str(e))
            return None
