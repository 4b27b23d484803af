"""How a service holds its NATS connection: found dead within seconds, reconnected for ever, nothing swallowed."""

import asyncio
import random
from collections.abc import Callable

import nats
import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import BadRequestError, NotFoundError

PENDING_BYTES = 8 << 20  # what nats-py may hold back while the socket is slow


async def connect(
    url: str,
    name: str,
    log: structlog.typing.FilteringBoundLogger,
    reconnected: Callable[[], None] | None = None,
) -> Client:
    """Connect, waiting for the server as long as it takes; `reconnected` is called after each reconnect."""

    async def on_error(error: Exception) -> None:
        log.warning("nats", error=f"{type(error).__name__}: {error}")

    async def on_reconnected() -> None:
        log.info("nats reconnected")
        if reconnected is not None:
            reconnected()

    async def on_disconnected() -> None:
        log.warning("nats disconnected")

    # nats-py's own default would notice a dead link after 4 minutes, and give up after 60 tries.
    return await nats.connect(
        url,
        name=name,
        ping_interval=2,
        max_outstanding_pings=2,
        allow_reconnect=True,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.1 + random.random() * 0.2,  # noqa: S311  # spreading load, not a secret
        pending_size=PENDING_BYTES,
        error_cb=on_error,
        reconnected_cb=on_reconnected,
        disconnected_cb=on_disconnected,
    )


def write(client: Client, protocol: bytes) -> None:
    """Hand whole NATS commands to a connected client's socket; what it cannot take at once waits in memory.

    nats-py's own `publish` takes 4 µs a message, and two task switches until it is on its way. There is no other way
    to its socket than this attribute; its own commands are written there in one piece each, so they do not mix.
    """
    transport = client._transport
    if transport is not None:
        transport.write(protocol)


async def ensure_stream(client: Client, name: str, subjects: list[str]) -> bool:
    """The stream of a feed's raw frames, made or widened if needed; returns whether it takes fast-ingest batches.

    Waits until JetStream answers. `discard new`: a full stream refuses frames (the journal keeps them) instead of
    forgetting unarchived ones. Batches need nats-server 2.14: an older one does not know them, or refuses to.
    """
    config = StreamConfig(
        name=name,
        subjects=subjects,
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        max_bytes=-1,
        duplicate_window=0,
        allow_direct=True,
    )
    jetstream = client.jetstream()
    batches = True
    while True:
        try:
            try:
                made = (await jetstream.stream_info(name)).config
                known = made.subjects or []
                wanted = made.evolve(
                    subjects=[*known, *(s for s in subjects if s not in known)],
                    allow_batched=batches or made.allow_batched,
                )
                if wanted != made:
                    made = (await jetstream.update_stream(wanted)).config
            except NotFoundError:
                made = (await jetstream.add_stream(config, allow_batched=batches or None)).config
            return bool(made.allow_batched)
        except BadRequestError:  # an unknown field; or made by someone else in between
            if not batches:
                raise
            batches = False
        except (NatsError, TimeoutError):
            await asyncio.sleep(0.2)
