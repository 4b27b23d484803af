"""How a service holds its NATS connection: found dead within seconds, reconnected for ever, nothing swallowed."""

import asyncio
import random
from collections.abc import Callable, Iterator
from typing import Any

import nats
import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, BadRequestError, NotFoundError, ServiceUnavailableError

from ssmd.errors import Permanent

_NO_PEERS, _NO_CLUSTER = 10005, 10074  # err_code of JetStream's API
PENDING_BYTES = 8 << 20  # what nats-py may hold back while the socket is slow


async def connect(
    url: str,
    name: str,
    log: structlog.typing.FilteringBoundLogger,
    reconnected: Callable[[], None] | None = None,
) -> Client:
    """Connect to any of the servers of `url` (commas in between), waiting for one as long as it takes.

    `reconnected` is called after each reconnect.
    """

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
        url.split(","),
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


async def connect_once(url: str, name: str, seconds: float, **options: Any) -> Client:
    """A connection to the first of the servers that answers within `seconds`; once lost it stays so.

    Raises what the last one's failure was: NatsError, OSError or TimeoutError.
    """
    servers = url.split(",")
    for server in random.sample(servers, len(servers)):
        try:
            # Where nothing listens, nats-py would try for 2 minutes, whatever its timeouts say.
            connecting = nats.connect(server, name=name, allow_reconnect=False, **({"error_cb": _silent} | options))
            return await asyncio.wait_for(connecting, seconds)
        except (NatsError, OSError, TimeoutError) as e:
            failure = e
    raise failure


def patience() -> Iterator[float]:
    """How long to wait for JetStream's answer, at each try: while a cluster elects a leader, questions are lost.

    An election takes 4 to 9 s (nats-server's `minElectionTimeout`, `maxElectionTimeout`). Who is slow gets more.
    """
    yield from [1.0] * 10
    while True:
        yield 5.0


async def _silent(error: Exception) -> None:
    """What is asked of the connection fails itself; nothing else needs to be told."""


def write(client: Client, protocol: bytes) -> None:
    """Hand whole NATS commands to a connected client's socket; what it cannot take at once waits in memory.

    nats-py's own `publish` takes 4 µs a message, and two task switches until it is on its way. There is no other way
    to its socket than this attribute; its own commands are written there in one piece each, so they do not mix.
    """
    transport = client._transport
    if transport is not None:
        transport.write(protocol)


class Wait:
    """What a service waits for before it has its stream, and why: logged when that changes, told to who asks."""

    def __init__(self, url: str, log: structlog.typing.FilteringBoundLogger) -> None:
        self._url = url
        self._log = log
        self._why = ""

    def told(self, why: str) -> None:
        if why != self._why:
            self._log.warning("NATS does not give the stream yet", reason=why)
        self._why = why

    @property
    def sentence(self) -> str:
        return f"waiting for NATS at {self._url}" + (f": {self._why}" if self._why else "")


async def ensure_stream(
    client: Client,
    name: str,
    subjects: list[str],
    replicas: int = 1,
    waiting: Callable[[str], None] = lambda _: None,
) -> bool:
    """The stream of a feed's raw frames, made or changed if needed; returns whether it takes fast-ingest batches.

    Waits until JetStream answers, and has servers for all `replicas`; `waiting` is told why, each time. Raises
    Permanent where waiting does not help: there is no cluster for them, or other streams are in the way.
    `discard new`: a full stream refuses frames (the journal keeps them) instead of forgetting unarchived ones.
    Batches need nats-server 2.14: an older one does not know them, or refuses to.
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
        num_replicas=replicas,
    )
    batches = True
    for seconds in patience():
        jetstream = client.jetstream(timeout=seconds)
        try:
            try:
                made = (await jetstream.stream_info(name)).config
                known = made.subjects or []
                wanted = made.evolve(
                    subjects=[*known, *(s for s in subjects if s not in known)],
                    allow_batched=batches or made.allow_batched,
                    num_replicas=replicas,
                )
                if wanted != made:
                    made = (await jetstream.update_stream(wanted)).config
            except NotFoundError:
                made = (await jetstream.add_stream(config, allow_batched=batches or None)).config
            return bool(made.allow_batched)
        except BadRequestError as e:
            if e.err_code == _NO_PEERS:
                waiting(f"its cluster has not {replicas} servers with room yet")
                await asyncio.sleep(0.2)
            elif not batches:
                raise Permanent(
                    f"NATS refuses stream {name} of {', '.join(subjects)}: {e.description} (JetStream error "
                    f"{e.err_code}): `nats stream ls` shows the streams it has; mend that, then start again"
                ) from e
            else:  # an unknown field; or made by someone else in between
                batches = False
        except (NatsError, TimeoutError) as e:
            if isinstance(e, APIError) and e.err_code == _NO_CLUSTER:
                raise Permanent(
                    f"stream {name} cannot have {replicas} replicas: this NATS is no cluster: "
                    "set nats.replicas to 1 in the environment's YAML, or name a cluster's servers there"
                ) from e
            waiting(_why(e))
            await asyncio.sleep(0.2)
    raise AssertionError("patience has no end")


def _why(error: Exception) -> str:
    """Why JetStream does not do what it was asked for."""
    if isinstance(error, ServiceUnavailableError):
        return "JetStream is not enabled there, or has no leader yet"
    if isinstance(error, APIError):
        return f"{error.description} (JetStream error {error.err_code})"
    return "JetStream does not answer" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
