"""The requests that an adapter has asked for on one connection: performed patiently, each until it has an answer."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import httpx

from exchanges.port import Request

REQUESTS_MAX = 4  # at once; how many in a minute is the adapter's to know
REQUEST_SECONDS = 10.0
WAITS_SECONDS = (0.5, 1.0, 2.0, 4.0)  # before each further try
RETRY_AFTER_SECONDS_MAX = 30.0  # a venue that wants more patience gets it from the adapter
_PASSING = frozenset({408, 418, 425, 429})

Answered = Callable[[Request, int, bytes], None]  # status 0: no answer


class Asking:
    """Tells `answered` what became of each request, until `stop`."""

    def __init__(
        self, rest: Callable[[Request], str], client: Callable[[], Awaitable[httpx.AsyncClient]], answered: Answered
    ) -> None:
        self._rest = rest
        self._client = client
        self._answered = answered
        self._turn = asyncio.Semaphore(REQUESTS_MAX)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def under_way(self) -> int:
        return len(self._tasks)

    def ask(self, request: Request) -> None:
        task = asyncio.create_task(self._perform(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _perform(self, request: Request) -> None:
        async with self._turn:
            status, body, after = await self._try(request)
            for wait in WAITS_SECONDS:
                if (status not in _PASSING and 0 < status < 500) or after > RETRY_AFTER_SECONDS_MAX:
                    break
                await asyncio.sleep(max(after, random.uniform(wait / 2, wait)))  # noqa: S311  # jitter, not a secret
                status, body, after = await self._try(request)
        self._answered(request, status, body)

    async def _try(self, request: Request) -> tuple[int, bytes, float]:
        """Status, body, and how many seconds the venue wants to be left alone for."""
        client = await self._client()
        try:
            answer = await client.request(request.method, self._rest(request) + request.target, timeout=REQUEST_SECONDS)
        except httpx.HTTPError as e:
            return 0, f"{type(e).__name__}: {e}".encode(), 0.0
        after = answer.headers.get("Retry-After", "")
        return answer.status_code, answer.content, float(after) if after.isdecimal() else 0.0

    async def stop(self) -> None:
        """Give up on what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
