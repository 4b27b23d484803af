"""Asks every part how it is, once a second, and makes one snapshot of the answers."""

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import msgspec

from ssmd.up.plan import Part
from ssmd.up.processes import Process
from ssmd.up.status import Event, FeedState, ProcessState, Snapshot
from ssmd.up.wanted import SIMULATOR

if TYPE_CHECKING:
    from temporalio.client import Client

ASK_SECONDS = 1.0
RATE_SECONDS = 5.0  # frames per second are the mean over so long
EVENTS_MAX = 50
SETTLE_SECONDS = 5.0  # what a process lacks right after its start is no problem yet
Figures = Mapping[str, Any]


@dataclass
class Total:
    """A count that starts from 0 when its process does, added up over restarts."""

    before: int = 0
    last: int = 0

    def now(self, count: int) -> int:
        if count < self.last:
            self.before += self.last
        self.last = count
        return self.before + count


@dataclass
class _Heard:
    """The last answers of one part."""

    status: Figures = field(default_factory=dict)
    answers: bool = False
    ready: bool = False
    problems: tuple[str, ...] = ()
    well: int = 0  # the process that was seen healthy, by its id
    unwell_looks: int = 0  # at that process, one after the other


class Watch:
    """What is known of a run. `ask` refreshes it; `snapshot` is made of what was last heard."""

    def __init__(self, environment: str, started: float) -> None:
        self.environment = environment
        self.doing = "starting"
        self.places: tuple[tuple[str, str], ...] = ()
        self.parts: Sequence[Part] = ()
        self.processes: dict[str, Process] = {}
        self.temporal: Client | None = None
        self.workflows: tuple[int, int, int] | None = None
        self.days_before: dict[str, dict[str, int]] = {}  # per feed: frames of each day when its archiver had started
        self._round = asyncio.Event()
        self._started = started
        self._heard: dict[str, _Heard] = {}
        self._frames: dict[str, Total] = {}
        self._days: dict[str, dict[str, int]] = {}  # per feed: frames of each day, as the archiver last said
        self._rates: dict[str, deque[tuple[float, int]]] = {}
        self._events: deque[Event] = deque(maxlen=EVENTS_MAX)
        self._memory: dict[str, int] = {}
        self._client = httpx.AsyncClient(trust_env=False, timeout=ASK_SECONDS)

    def tell(self, text: str) -> None:
        """Something the operator should know."""
        self._events.append(Event(time.time(), text))

    def status(self, kind: str, feed: str | None) -> Figures:
        """What a service last said at /status; empty if it has not answered (or not since it was last asked)."""
        return self.named(f"{kind}-{feed}" if feed else kind)

    def named(self, name: str) -> Figures:
        """The same of the part with this name."""
        heard = self._heard.get(name)
        return heard.status if heard is not None and heard.answers else {}

    def connector(self, feed: str) -> Figures:
        """What a feed's connectors last said, as if they were one: figures add up, all are connected or it is not."""
        names = [part.name for part in self.parts if part.kind == "connector" and part.feed == feed]
        if len(names) <= 1:
            return self.status("connector", feed)
        told = [figures for name in names if (figures := self.named(name))]
        numbers = {k for figures in told for k, v in figures.items() if isinstance(v, int) and not isinstance(v, bool)}
        total: dict[str, Any] = {key: sum(int(figures.get(key, 0)) for figures in told) for key in numbers}
        total["connected"] = len(told) == len(names) and all(figures.get("connected") for figures in told)
        return total

    def remember_days(self, archiver: Part) -> None:
        """Keep what the archive holds now, before this run adds to it."""
        assert archiver.feed is not None
        days = self.status("archiver", archiver.feed).get("days", ())
        self.days_before[archiver.feed] = {day["date"]: day["frames"] for day in days}

    def ready(self, part: Part) -> bool:
        """A service says so itself; a server is when its process runs (it was awaited at the start)."""
        if not part.status_port:
            process = self.processes.get(part.name)
            return process is not None and process.was_ready and process.running
        heard = self._heard.get(part.name)
        return heard is not None and heard.answers and heard.ready

    def answers(self, part: Part) -> bool:
        heard = self._heard.get(part.name)
        return heard is not None and heard.answers

    def hear(self, name: str, status: Figures) -> None:
        """What a part says at /status."""
        heard = self._heard.setdefault(name, _Heard())
        heard.status, heard.answers = status, True

    def forget(self, name: str) -> None:
        """What a part said before it ended says nothing of the next one."""
        self._heard.pop(name, None)

    def problems(self, part: Part) -> str:
        heard = self._heard.get(part.name)
        return "; ".join(heard.problems) if heard is not None and heard.answers else ""

    async def ask(self) -> None:
        """One round: every service, every process, and Temporal."""
        services = (self._ask_part(part) for part in self.parts if part.status_port)
        own_word = (self._ask_server(part) for part in self.parts if part.health)
        await asyncio.gather(*services, *own_word, self._ask_temporal())
        for name, process in self.processes.items():
            self._memory[name] = process.sample()
        self._round.set()
        self._round = asyncio.Event()

    async def next_round(self) -> None:
        """Until everything has been asked once more."""
        await self._round.wait()

    async def _ask_part(self, part: Part) -> None:
        heard = self._heard.setdefault(part.name, _Heard())
        process = self.processes.get(part.name)
        if process is None or not process.running:
            heard.answers = False
            return
        base = f"http://127.0.0.1:{part.status_port}"
        try:
            ready = await self._client.get(f"{base}/ready")
            status = await self._client.get(f"{base}/status")
            verdict = msgspec.json.decode(ready.content)
            self.hear(part.name, msgspec.json.decode(status.content))
            heard.ready = ready.status_code == httpx.codes.OK
            heard.problems = tuple(verdict.get("problems", ()))
            process.was_ready |= heard.ready
        except (httpx.HTTPError, msgspec.DecodeError, AttributeError):
            heard.answers = False

    async def _ask_server(self, part: Part) -> None:
        """A server that was healthy and says that it no longer is; one that is starting or silent is another matter."""
        heard, process = self._heard.setdefault(part.name, _Heard()), self.processes.get(part.name)
        heard.answers = False
        if process is None or not process.running:
            return
        try:
            answer = await self._client.get(part.health)
            error = str(msgspec.json.decode(answer.content).get("error", "it is not healthy"))
        except (httpx.HTTPError, msgspec.DecodeError, AttributeError):
            return
        heard.answers = True
        if answer.status_code == httpx.codes.OK:
            heard.well, heard.unwell_looks, heard.problems = process.pid, 0, ()
        elif heard.well == process.pid:
            heard.unwell_looks += 1
            heard.problems = (error,)

    def unwell_looks(self, part: Part) -> int:
        """How often in a row a server that was healthy has said that it is not."""
        heard = self._heard.get(part.name)
        return heard.unwell_looks if heard is not None and heard.answers else 0

    async def _ask_temporal(self) -> None:
        if self.temporal is None:
            return
        try:
            counted = await self.temporal.count_workflows("GROUP BY ExecutionStatus", rpc_timeout=_rpc_timeout())
        except Exception:  # it is starting, restarting or gone; its process row says so
            self.workflows = None
            return
        by_status = {str(group.group_values[0]): group.count for group in counted.groups}
        running, completed = by_status.pop("Running", 0), by_status.pop("Completed", 0)
        by_status.pop("ContinuedAsNew", None)
        self.workflows = running, completed, sum(by_status.values())

    async def close(self) -> None:
        await self._client.aclose()

    # ---------------------------------------------------------------------------------------------- the snapshot

    def snapshot(self, now: float) -> Snapshot:
        """The run as last heard; `now` by the monotonic clock."""
        feeds = list(dict.fromkeys(part.feed for part in self.parts if part.feed))
        return Snapshot(
            seconds=now - self._started,
            doing=self.doing,
            environment=self.environment,
            places=self.places,
            feeds=tuple(self._feed(feed, now) for feed in feeds),
            processes=tuple(self._process(part) for part in self.parts),
            workflows=self.workflows,
            events=tuple(self._events),
        )

    def _feed(self, feed: str, now: float) -> FeedState:
        connector, archiver = self.connector(feed), self.status("archiver", feed)
        frames = self._frames.setdefault(feed, Total())
        archived = self._archived(feed, archiver)
        # A connector that was killed took with it the count of its last second; what is archived was received.
        received = max(archived, frames.now(int(connector.get("frames", frames.last))))
        tape = self.status(SIMULATOR, feed).get("tape") or {}
        return FeedState(
            name=feed,
            connected=connector.get("connected"),
            frames=received,
            frames_per_second=self._rate(feed, now, received),
            archived=archived,
            lag_ms=archiver.get("lag_ms"),
            gaps_open=int(connector.get("gaps_open", 0)),
            gaps=int(connector.get("gaps", 0)),
            journal_bytes=int(connector.get("journal_bytes", 0)),
            segments=int(archiver.get("segments", 0)),
            tape_sent=tape.get("sent"),
            tape_frames=tape.get("frames"),
        )

    def _archived(self, feed: str, archiver: Figures) -> int:
        """Frames committed since the start: counted by day, which survives a restart of the archiver."""
        days = self._days.setdefault(feed, {})
        days.update({day["date"]: day["frames"] for day in archiver.get("days", ())})
        before = self.days_before.get(feed, {})
        return sum(frames - before.get(date, 0) for date, frames in days.items())

    def _rate(self, feed: str, now: float, frames: int) -> float:
        seen = self._rates.setdefault(feed, deque())
        seen.append((now, frames))
        while len(seen) > 2 and now - seen[0][0] > RATE_SECONDS:
            seen.popleft()
        (then, before) = seen[0]
        return (frames - before) / (now - then) if now > then else 0.0

    def _process(self, part: Part) -> ProcessState:
        process = self.processes.get(part.name)
        if process is None:
            return ProcessState(part.name, "waiting")
        state, problem = process.state, ""
        if state == "running":
            if self.ready(part):
                state = "ready"
            elif not process.was_ready:
                state = "starting"
            elif not self.answers(part):
                state = "silent"
            settled = process.was_ready or time.monotonic() - process.started_at > SETTLE_SECONDS
            problem = self.problems(part) if settled else ""
        memory = self._memory.get(part.name, 0)
        return ProcessState(part.name, state, process.pid, memory, process.peak_bytes, process.restarts, problem)


def _rpc_timeout() -> Any:
    from datetime import timedelta  # noqa: PLC0415

    return timedelta(seconds=ASK_SECONDS)
