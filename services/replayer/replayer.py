"""A past day on NATS: every frame, our own included, as its connector published it but for the subject's first token.

Core NATS, like all that nobody has to keep: subscribers get a frame at most once, and the numbers in the frames show
what they missed. What a backfill brought later is no part of it.
"""

import asyncio

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from exchanges.port import Adapter, Subscription, Venue
from ssmd import broker, frames, replaying, subjects
from ssmd.clock import SECOND_NS
from ssmd.config import Feed
from ssmd.errors import Permanent, Transient
from ssmd.past_day import Frame, PastDay
from ssmd.replaying import Replayed, Told

CONNECT_SECONDS = 5.0
LOOK_SECONDS = 3.0  # JetStream answers in milliseconds, or it is not there
FLUSH_FRAMES = 1000  # between two answers of the server: what it has not taken yet is bounded
PACE_SECONDS = 0.05  # the longest sleep while waiting for a frame's time


class Replayer:
    """Publishes one feed's frames under `name` instead of an environment's."""

    def __init__(self, name: str, feed: Feed, venue: Venue, speed: float | None) -> None:
        """`speed` None: as fast as it goes."""
        self._name = name
        self._feed = feed
        self._venue = venue
        self._speed = speed
        self._client: Client
        self._url = ""
        self._routers: dict[str, Adapter] = {}

    async def connect(self, url: str) -> None:
        """Raises Transient if nobody is there, Permanent if a stream there would keep what we publish."""
        self._url = url
        try:
            self._client = await broker.connect_once(url, f"replayer-{self._feed.name}", CONNECT_SECONDS)
        except (NatsError, OSError, TimeoutError) as e:
            raise Transient(
                f"no NATS answers at {url} ({e or type(e).__name__}): start it with `ssmd up`, or name one with --nats"
            ) from e
        (subject,) = subjects.raw(self._name, self._feed.name)
        try:
            stream = await self._client.jetstream(timeout=LOOK_SECONDS).find_stream_name_by_subject(subject)
        except (NotFoundError, NatsError, TimeoutError):  # nothing takes it, or there is no JetStream
            return
        await self.close()
        raise Permanent(
            f"stream {stream} at {url} keeps {subject}, so the day would be archived as if it had come again: "
            "choose another --name"
        )

    async def close(self) -> None:
        await self._client.close()

    async def play(self, day: PastDay, from_ns: int, until_ns: int, stop: asyncio.Event) -> Replayed:
        """Publish the day's frames at their pace, until the last or `stop`. Raises Transient if NATS goes away."""
        total, (first_ns, last_ns) = day.manifest.frames, day.span_ns
        pace = _Pace(self._speed, min(last_ns, until_ns), max(first_ns, from_ns))
        count = 0
        try:
            for frame in day.frames():
                ts_ns = frame.line.ts_recv
                if not from_ns <= ts_ns < until_ns or frame.channel == frames.BACKFILL:
                    total -= 1
                    continue
                await pace.wait(ts_ns, stop, count, total)
                if stop.is_set():
                    break
                await self._client.publish(self._subject(frame), frame.message)
                count += 1
                if count % FLUSH_FRAMES == 0:
                    await self._client.flush()
            await self._client.flush()
        except (NatsError, OSError, TimeoutError) as e:
            raise Transient(
                f"NATS at {self._url} went away after {count:,} frames ({e or type(e).__name__}): start this again"
            ) from e
        finally:
            await self.close()
        return Replayed(
            feed=self._feed.name,
            date=day.manifest.date,
            to="nats",
            frames=count,
            sent=count,
            left_out={},
            seconds=pace.seconds,
            recorded_seconds=(pace.at_ns - pace.began_ns) / SECOND_NS,
            complete=not stop.is_set(),
        )

    def _subject(self, frame: Frame) -> str:
        """Where the connector published it: the archive keeps the channel, the venue's grammar knows the instrument."""
        symbol = None
        if not frame.channel.startswith("_"):
            router = self._routers.get(frame.line.conn)
            if router is None:
                channels = tuple(self._feed.versions[-1].channels)
                router = self._routers[frame.line.conn] = self._venue.adapter(Subscription(channels, ()))
            symbol = router.received(frame.line.wire(), frame.line.ts_recv).symbol
        return subjects.frame(self._name, self._feed.name, frame.channel, symbol)


class _Pace:
    """Waits for each frame's time, and tells how far it is."""

    def __init__(self, speed: float | None, end_ns: int, at_ns: int) -> None:
        self._speed = speed
        self._end_ns = end_ns
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._told = 0.0
        self.at_ns = self.began_ns = at_ns
        self._first = True

    @property
    def seconds(self) -> float:
        return self._loop.time() - self._began

    async def wait(self, ts_ns: int, stop: asyncio.Event, done: int, total: int) -> None:
        """Until a frame's time has come, or `stop`."""
        if self._first:  # time begins with it
            self._first, self.began_ns, self._began = False, ts_ns, self._loop.time()
        while True:
            if self._loop.time() - self._told > replaying.TELL_SECONDS:
                self._told = self._loop.time()
                left = replaying.seconds_left(self.at_ns, self._end_ns, self._speed, done, total, self.seconds)
                replaying.tell(Told("publishing", done, total, self.at_ns, left))
            due = 0.0 if self._speed is None else (ts_ns - self.began_ns) / SECOND_NS / self._speed
            if stop.is_set() or due <= self.seconds:
                break
            await asyncio.sleep(min(due - self.seconds, PACE_SECONDS))
        self.at_ns = max(self.at_ns, ts_ns)
