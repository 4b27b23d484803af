"""REST, as jobs ask a venue: patiently, at the venue's pace, signed anew for each attempt."""

import importlib
import logging
import random
import threading
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import TypeVar
from urllib.parse import urlsplit

import httpx

from exchanges.port import Answer, Key, Request, Venue
from ssmd import __version__, config
from ssmd.clock import SystemClock, date_of
from ssmd.errors import Permanent, SsmdError, Transient

R = TypeVar("R")

REQUEST_SECONDS = 10.0  # without a byte: less than a worker may be silent for; a listing of 8 MB may take longer
TRIES_MAX = 6
WAIT_SECONDS = (0.5, 30.0)  # the bound of the first wait, doubled each time up to the second; half of it on average
RETRY_AFTER_SECONDS_MAX = 60.0  # who wants more patience gets it from the job's own retries
_PASSING = frozenset({408, 418, 425, 429})
_SLICE_SECONDS = 0.5  # between two beats while we wait

logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs URLs, and a signature may stand in one

Beat = Callable[[], None]  # called about each second; what it raises ends the waiting


class Pace:
    """At most so many requests each second, whichever thread makes them."""

    def __init__(self, per_second: float) -> None:
        self._every = 1 / per_second
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self, sleep: Callable[[float], None]) -> None:
        """Until it is our turn."""
        with self._lock:
            now = time.monotonic()
            turn = max(self._next, now)
            self._next = turn + self._every
        if turn > now:
            sleep(turn - now)


_paces: dict[tuple[str, float], Pace] = {}
_paces_lock = threading.Lock()


def pace(host: str, per_second: float) -> Pace:
    """The pace at which this process asks a host; all feeds that name the same one share it."""
    with _paces_lock:
        return _paces.setdefault((host, per_second), Pace(per_second))


class Rest:
    """A feed's REST services, for one job's thread. Close it, or use it as a context.

    `base` is the endpoint's URL. Whoever has a `key` may make signed requests. `beat` is called about each second
    while we wait or ask; what it raises (a cancellation) passes through.
    """

    def __init__(
        self,
        feed: str,
        venue: Venue,
        base: str,
        per_second: float,
        *,
        simulated: bool = False,
        key: Key | None = None,
        beat: Beat = lambda: None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._feed = feed
        self._venue = venue
        self._base = base.rstrip("/")
        self._simulated = simulated
        self._per_second = per_second
        self._key = key
        self._beat = beat
        self._now_ns = now_ns
        self._client = httpx.Client(
            timeout=REQUEST_SECONDS, trust_env=not simulated, headers={"User-Agent": f"ssmd/{__version__}"}
        )

    def __enter__(self) -> "Rest":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def ask(self, request: Request, read: Callable[[bytes], R]) -> R:
        """What `read` makes of the body of the answer.

        Asked again where the venue is busy, be it by HTTP's word or by what `read` raises. Raises Transient when
        patience is over, Permanent if it was refused or makes no sense.
        """
        problem: SsmdError
        for tries in range(1, TRIES_MAX + 1):
            answer, _ = self._try(request)
            if answer.status == 200:
                try:
                    return read(answer.body)
                except Transient as e:
                    problem = e
            else:
                problem = self._refusal(answer)
            after = _retry_after(answer)
            if not isinstance(problem, Transient) or tries == TRIES_MAX or after > RETRY_AFTER_SECONDS_MAX:
                raise problem
            self._back_off(tries, after)
        raise AssertionError("the last try returns or raises")

    def answer(self, request: Request, tries_max: int = TRIES_MAX) -> tuple[Answer, int]:
        """Whatever is answered at last, and the time (ns) that was signed; status 0 if nothing was."""
        for tries in range(1, tries_max + 1):
            answer, sent_ns = self._try(request)
            after = _retry_after(answer)
            passing = answer.status in _PASSING or answer.status >= 500 or answer.status == 0
            if not passing or tries == tries_max or after > RETRY_AFTER_SECONDS_MAX:
                return answer, sent_ns
            self._back_off(tries, after)
        raise AssertionError("the last try returns")

    def _try(self, request: Request) -> tuple[Answer, int]:
        url = self._url(request)
        pace(urlsplit(url).netloc, self._per_second).wait(self._sleep)
        self._beat()
        now_ns = self._now_ns()
        if request.signed:
            if self._key is None:
                raise Permanent(
                    f"{self._feed} answers {request.path} to account holders alone: "
                    "name a key of it in the environment's YAML (`key:`)"
                )
            request = self._key.signed(request, now_ns)
        sent = {"Content-Type": "application/x-www-form-urlencoded"} if request.body else {}
        try:
            with self._client.stream(
                request.method,
                self._url(request) + request.target,
                headers={**sent, **request.headers},
                content=request.body or None,
            ) as answer:
                body = bytearray()
                for part in answer.iter_bytes():
                    body += part
                    self._beat()
        except httpx.HTTPError as e:
            # Not the error's own words: they may quote the URL, in which a signature may stand.
            return Answer(0, type(e).__name__.encode()), now_ns
        return Answer(answer.status_code, bytes(body), dict(answer.headers)), now_ns

    def _url(self, request: Request) -> str:
        return self._base if self._simulated or not request.host else f"https://{request.host}"

    def _refusal(self, answer: Answer) -> SsmdError:
        if answer.status:
            return self._venue.refusal(answer.status, answer.body)
        return Transient(
            f"{self._feed} cannot be reached at {self._base} ({answer.body.decode()}): check that it is up and the "
            "network, and try again"
        )

    def _back_off(self, tries: int, after: float) -> None:
        most = min(WAIT_SECONDS[0] * 2 ** (tries - 1), WAIT_SECONDS[1])
        self._sleep(after + random.uniform(0, most))  # noqa: S311  # jitter, not a secret

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._beat()
            time.sleep(min(left, _SLICE_SECONDS))


def _retry_after(answer: Answer) -> float:
    """Seconds for which the venue wants to be left alone."""
    text = next((value for name, value in answer.headers.items() if name.lower() == "retry-after"), "")
    return float(text) if text.isdecimal() else 0.0


def of_feed(
    feed: config.Feed,
    environment: config.Environment,
    addresses: config.Addresses,
    *,
    key: Key | None = None,
    beat: Beat = lambda: None,
) -> Rest:
    """A feed's REST services as an environment has them: the simulator's, or those of its endpoint.

    Raises Transient if the feed is simulated and no simulator runs, Permanent if there is no such endpoint.
    """
    named = environment.feed(feed.name).endpoint
    version = feed.at(date.fromisoformat(date_of(SystemClock().now_ns())))
    if named == "simulator":
        address = addresses.feeds.get(feed.name)
        if address is None:
            raise Transient(f"no simulator of {feed.name} runs, so there is nobody to ask: start it with `ssmd up`")
        base = address.rest
    elif named in version.endpoints:
        base = version.endpoints[named].rest
    else:
        raise Permanent(
            f"environment {environment.name}: feed {feed.name}: there is no endpoint {named!r}; "
            f"there is: simulator, {', '.join(version.endpoints)}"
        )
    return Rest(
        feed.name,
        importlib.import_module(f"exchanges.{feed.venue}").venue,
        base,
        version.limits.rest_per_second,
        simulated=named == "simulator",
        key=key,
        beat=beat,
    )


def key_of(feed: config.Feed, environment: config.Environment, data: Path) -> Key | None:
    """The key that the environment names for a feed; None if it names none. Raises Permanent, never with a secret."""
    reference = environment.feed(feed.name).key
    if reference is None:
        return None
    venue: Venue = importlib.import_module(f"exchanges.{feed.venue}").venue
    return venue.key(*reference.load(data))
