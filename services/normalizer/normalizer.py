"""The normalizer process: a core NATS subscription to a feed's raw frames, core publishes of what they say.

Nothing is kept and nothing is waited for. Whoever was not listening finds the frames in the archive; what did not come
through here is told by gaps (see `translation`).
"""

import asyncio

import msgspec
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from exchanges.port import Venue
from services.normalizer.translation import Translation
from ssmd import broker, ending, subjects
from ssmd.telemetry import Telemetry

# Of frames not looked at yet, about 100,000: beyond that they are dropped, and a gap tells it.
WAITING_BYTES_MAX = 32 << 20

Log = structlog.typing.FilteringBoundLogger


class Normalizer:
    """The normalized events of one feed."""

    def __init__(self, env: str, feed: str, venue: Venue, nats_url: str, log: Log) -> None:
        prefix = subjects.prefix(env, feed)
        self._raw = (f"{prefix}.json.>", f"{prefix}.*.json.>")  # the first shard's, and those of any others
        self._feed = feed
        self._nats_url = nats_url
        self._log = log
        self._translation = Translation(env, feed, venue)
        self._nats: Client | None = None
        self._subscriptions: list[Subscription] = []
        self._unpublished = 0

    async def run(self, stop: asyncio.Event, telemetry: Telemetry) -> None:
        """Publish until `stop`."""
        telemetry.problems, telemetry.waiting, telemetry.status = self._problems, self._waiting, self._status
        telemetry.gauges("ssmd_normalizer", lambda: {k: v for k, v in self._status().items() if isinstance(v, int)})
        connecting = asyncio.create_task(self._listen())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([connecting, stopped], return_when=asyncio.FIRST_COMPLETED)
        if connecting.done():
            connecting.result()
        await stopped
        await ending.end([connecting])
        if self._nats is not None:
            await self._nats.close()

    async def _listen(self) -> None:
        nats = await broker.connect(self._nats_url, f"normalizer-{self._feed}", self._log, self._translation.link_broke)
        self._nats = nats
        self._subscriptions = [
            await nats.subscribe(raw, cb=self._on_frame, pending_msgs_limit=-1, pending_bytes_limit=WAITING_BYTES_MAX)
            for raw in self._raw
        ]

    async def _on_frame(self, msg: Msg) -> None:
        assert self._nats is not None
        try:
            for subject, message in self._translation.take(msg.subject, msg.data):
                await self._nats.publish(subject, message)
        except NatsError:  # the link is down for longer than its buffer lasts
            self._unpublished += 1
            self._translation.link_broke()
        except msgspec.DecodeError as e:
            self._log.warning("not a frame of ours", subject=msg.subject, error=str(e))

    def _problems(self) -> list[str]:
        down = self._nats is not None and not self._nats.is_connected
        return [f"not connected to NATS at {self._nats_url}"] if down else []

    def _waiting(self) -> list[str]:
        return [] if self._subscriptions else [f"waiting for NATS at {self._nats_url}"]

    def _status(self) -> dict[str, object]:
        translation = self._translation
        return {
            "feed": self._feed,
            "frames": translation.frames,
            "published": translation.published,
            "missed": translation.missed,
            "unparsable": translation.unparsable,
            "unpublished": self._unpublished,
            "waiting_bytes": sum(subscription.pending_bytes for subscription in self._subscriptions),
        }
