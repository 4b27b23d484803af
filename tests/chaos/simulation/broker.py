"""NATS with JetStream, as far as connector and archiver use it: kept in memory, synced lazily, cut off at will.

A connection delivers in order or not at all. What was on its way when it broke is lost, in both directions; what
is published while disconnected goes out after the reconnect (nats-py's pending buffer), or is lost with it. Pull
requests outlive a reconnect, for the client subscribes to the same inbox again; consumers do not outlive the
server. A power cut takes the end of the stream that was not synced, now and then the stream. A stream may take
fast-ingest batches (as measured with nats-server 2.15): a hole ends one, 10 s of silence or a restart forgets it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import msgspec
from nats import errors
from nats.js.errors import APIError, BadRequestError, NoStreamResponseError, NotFoundError

from services.archiver.delivery import Deliveries, Ended, Take
from tests.chaos.simulation.scheduler import Loop, Scheduler

Callback = Callable[["Msg"], Awaitable[None]]
JS_API_SECONDS = 5.0
BATCH_SECONDS = 10.0
BATCH_FLOW_MAX = 500
STREAM_IS_FULL = b'{"code":503,"err_code":10077,"description":"maximum bytes exceeded"}'


@dataclass
class Msg:
    subject: str
    data: bytes
    reply: str = ""
    headers: dict[str, str] | None = None
    client: "Client | None" = None

    @property
    def header(self) -> dict[str, str] | None:
        return self.headers

    async def respond(self, data: bytes) -> None:
        if not self.reply:
            raise errors.Error("no reply subject available")
        assert self.client is not None
        await self.client.publish(self.reply, data)


def matches(pattern: str, subject: str) -> bool:
    if pattern == subject:
        return True
    if "*" not in pattern and ">" not in pattern:
        return False
    wanted, given = pattern.split("."), subject.split(".")
    for i, token in enumerate(wanted):
        if token == ">":
            return len(given) > i
        if i >= len(given) or token not in {"*", given[i]}:
            return False
    return len(wanted) == len(given)


@dataclass
class Pull:
    reply: str
    left: int
    by: "Client"


@dataclass
class Consumer:
    name: str
    next: int
    delivered: int = 0
    pulls: deque[Pull] = field(default_factory=deque)


@dataclass
class Batch:
    """A fast-ingest batch: it has `last` frames, `told` of them acknowledged."""

    flow: int
    last: int = 0
    told: int = 0
    heard: float = 0.0


class Stream:
    def __init__(self, config: Any) -> None:
        self.config = config
        self.messages: dict[int, tuple[str, bytes]] = {}
        self.last = 0
        self.synced = 0
        self.consumers: dict[str, Consumer] = {}
        self.batches: dict[str, Batch] = {}


class Server:
    """One nats-server."""

    def __init__(self, scheduler: Scheduler, trace: Callable[[str], None]) -> None:
        self.scheduler = scheduler
        self.trace = trace
        self.up = True
        self.full = False  # then JetStream gives no answer at all
        self.refuses = False  # or says that the stream is full
        self.takes_batches = True  # 2.14 or later
        self.silent_without_consumer = False
        self.lost_acks = 0.0
        self.slow_seconds = 0.0
        self.streams: dict[str, Stream] = {}
        self.clients: list[Client] = []
        self.stored = 0
        self.seen: Callable[[Msg], None] = lambda msg: None
        self.answered: Callable[[str, bytes], None] = lambda subject, data: None

    # -------------------------------------------------------------------------------------------------- its life

    def sync(self) -> None:
        if self.up:
            for stream in self.streams.values():
                stream.synced = stream.last

    def stop(self) -> None:
        """kill -9: what is stored stays, consumers in memory and all connections go."""
        self.up = False
        for stream in self.streams.values():
            stream.consumers.clear()
            stream.batches.clear()
        for client in list(self.clients):
            client.disconnect("the server is gone")

    def lose_power(self) -> None:
        rng = self.scheduler.rng
        self.stop()
        for name, stream in list(self.streams.items()):
            if stream.synced == 0 and rng.random() < 0.3:
                self.trace(f"nats lost the young stream {name} with {len(stream.messages)} messages")
                del self.streams[name]
                continue
            last = rng.randint(stream.synced, stream.last) if rng.random() < 0.7 else stream.synced
            self.trace(f"nats lost messages {last + 1}..{stream.last}")
            for seq in range(last + 1, stream.last + 1):
                stream.messages.pop(seq, None)
            stream.last = last

    def start(self) -> None:
        self.up = True

    # ------------------------------------------------------------------------------------------------- messages

    def arrived(self, client: "Client", msg: Msg) -> None:
        """A client's PUB: core subscribers, streams, the API."""
        if not self.up:
            return
        taken = False
        self.seen(msg)
        if msg.subject.startswith("$JS.API.CONSUMER.MSG.NEXT."):
            taken = self._pulled(client, msg)
        else:
            for other in self.clients:
                taken |= other.offer(msg)
            for stream in self.streams.values():
                if any(matches(s, msg.subject) for s in stream.config.subjects):
                    taken = True
                    if msg.reply.endswith(".$FI") and self.takes_batches:
                        self._batched(client, stream, msg)
                    else:
                        self._publish(client, stream, msg)
        if not taken and msg.reply:
            client.deliver(Msg(msg.reply, b"", headers={"Status": "503"}))

    def _publish(self, client: "Client", stream: Stream, msg: Msg) -> None:
        """A publish of its own."""
        if self.full:
            return
        if self.refuses:
            client.deliver(Msg(msg.reply, b'{"error":%s}' % STREAM_IS_FULL))
            return
        self._store(stream, msg)
        if msg.reply:
            self._answer(client, msg, b'{"stream":"S","seq":%d}' % stream.last)

    def _batched(self, client: "Client", stream: Stream, msg: Msg) -> None:
        """A frame of a fast-ingest batch in gap mode `fail`, or the end of one."""
        name, flow, mode, number, operation, _ = msg.reply.split(".")[-6:]
        assert mode == "fail"
        n, now = int(number), self.scheduler.now
        batch = stream.batches.get(name)
        if batch is not None and now - batch.heard >= BATCH_SECONDS:
            batch = stream.batches.pop(name) and None
        if not stream.config.allow_batched:
            client.deliver(Msg(msg.reply, b'{"error":{"code":400,"err_code":10205,"description":"disabled"},"seq":0}'))
            return
        if batch is None:
            if n != 1:
                client.deliver(Msg(msg.reply, b'{"error":{"code":400,"err_code":10208,"description":"ID unknown"}}'))
                return
            batch = stream.batches[name] = Batch(1 if len(stream.batches) else min(int(flow), BATCH_FLOW_MAX))
            self._answer(client, msg, b'{"type":"ack","seq":0,"msgs":%d}' % batch.flow)
        batch.heard = now
        if n != batch.last + 1:
            client.deliver(Msg(msg.reply, b'{"type":"gap","last_seq":%d,"seq":%d}' % (batch.last + 1, n)))
            self._end(client, stream, name, msg)
        elif operation == "3":
            if not self.full:
                self._end(client, stream, name, msg)
        elif self.refuses:
            client.deliver(Msg(msg.reply, b'{"type":"err","seq":%d,"error":%s}' % (n, STREAM_IS_FULL)))
            self._end(client, stream, name, msg)
        elif not self.full:
            self._store(stream, msg)
            batch.last = n
            if batch.last - batch.told >= batch.flow:
                batch.told = batch.last
                batch.flow = min(2 * batch.flow, int(flow), BATCH_FLOW_MAX)
                self._answer(client, msg, b'{"type":"ack","seq":%d,"msgs":%d}' % (batch.told, batch.flow))

    def _end(self, client: "Client", stream: Stream, name: str, msg: Msg) -> None:
        count = stream.batches.pop(name).last
        if count:
            self._answer(
                client, msg, b'{"stream":"S","seq":%d,"batch":"%s","count":%d}' % (stream.last, name.encode(), count)
            )
        else:
            self._answer(client, msg, b'{"error":%s,"stream":"S","seq":0}' % STREAM_IS_FULL)

    def _answer(self, client: "Client", msg: Msg, data: bytes) -> None:
        rng = self.scheduler.rng
        if not (self.lost_acks and rng.random() < self.lost_acks):
            client.deliver(Msg(msg.reply, data), self.slow_seconds * rng.random())

    def _store(self, stream: Stream, msg: Msg) -> None:
        stream.last += 1
        self.stored += 1
        stream.messages[stream.last] = (msg.subject, msg.data)
        for consumer in stream.consumers.values():
            self._pump(stream, consumer)

    def _pulled(self, client: "Client", msg: Msg) -> bool:
        stream_name, consumer_name = msg.subject.split(".")[-2:]
        stream = self.streams.get(stream_name)
        consumer = stream.consumers.get(consumer_name) if stream is not None else None
        if stream is None or consumer is None:
            return self.silent_without_consumer
        asked = msgspec.json.decode(msg.data)
        pull = Pull(msg.reply, asked["batch"], client)
        consumer.pulls.append(pull)
        self.scheduler.after(asked["expires"] / 1e9, self._expire, consumer, pull)
        self._pump(stream, consumer)
        return True

    def _expire(self, consumer: Consumer, pull: Pull) -> None:
        if pull in consumer.pulls:
            consumer.pulls.remove(pull)
            if self.up:
                pull.by.deliver(Msg(pull.reply, b"", headers={"Status": "408", "Description": "Request Timeout"}))

    def _pump(self, stream: Stream, consumer: Consumer) -> None:
        while consumer.pulls and consumer.next <= stream.last:
            pull = consumer.pulls[0]
            if not pull.by.interested(pull.reply):
                consumer.pulls.popleft()
                continue
            seq = consumer.next
            consumer.next += 1
            stored = stream.messages.get(seq)
            if stored is None:
                continue
            consumer.delivered += 1
            pull.left -= 1
            if pull.left == 0:
                consumer.pulls.popleft()
            ack = f"$JS.ACK.S.{consumer.name}.1.{seq}.{consumer.delivered}.0.{stream.last - seq}"
            pull.by.deliver(Msg(stored[0], stored[1], ack), inbox=pull.reply)

    def remove_consumers(self) -> None:
        """As after `inactive_threshold`: pull requests are turned away, later ones find nobody."""
        for stream in self.streams.values():
            for consumer in stream.consumers.values():
                for pull in consumer.pulls:
                    pull.by.deliver(Msg(pull.reply, b"", headers={"Status": "409", "Description": "Consumer Deleted"}))
            stream.consumers.clear()

    # ------------------------------------------------------------------------------------------------------ API

    def stream_info(self, name: str) -> Any:
        stream = self._stream(name)
        first = min(stream.messages, default=stream.last + 1)
        state = SimpleNamespace(last_seq=stream.last, first_seq=first, messages=len(stream.messages))
        return SimpleNamespace(state=state, config=stream.config)

    def add_stream(self, config: Any) -> Any:
        if config.allow_batched and not self.takes_batches:
            raise BadRequestError(code=400, err_code=10025, description='invalid JSON: unknown field "allow_batched"')
        self.streams.setdefault(config.name, Stream(config))
        return self.stream_info(config.name)

    def update_stream(self, config: Any) -> Any:
        if config.allow_batched and not self.takes_batches:
            raise BadRequestError(code=400, err_code=10025, description='invalid JSON: unknown field "allow_batched"')
        self._stream(config.name).config = config
        return self.stream_info(config.name)

    def add_consumer(self, name: str, config: Any) -> Any:
        stream = self._stream(name)
        consumer = stream.consumers[config.name] = Consumer(config.name, config.opt_start_seq)
        return SimpleNamespace(name=config.name, num_pending=max(0, stream.last - consumer.next + 1))

    def get_msg(self, name: str, seq: int) -> Any:
        stored = self._stream(name).messages.get(seq)
        if stored is None:
            raise NotFoundError(code=404, err_code=10037, description="no message found")
        return SimpleNamespace(subject=stored[0], data=stored[1], seq=seq)

    def purge_stream(self, name: str, seq: int) -> bool:
        stream = self._stream(name)
        for old in [s for s in stream.messages if s < seq]:
            del stream.messages[old]
        return True

    def _stream(self, name: str) -> Stream:
        if name not in self.streams:
            raise NotFoundError(code=404, err_code=10059, description="stream not found")
        return self.streams[name]


class Subscription:
    def __init__(self, client: "Client", subject: str, cb: Callback) -> None:
        self.client, self.subject, self._cb = client, subject, cb
        self._queue: deque[Msg] = deque()
        self._busy = False

    def put(self, msg: Msg) -> None:
        self._queue.append(msg)
        if not self._busy:
            self._busy = True
            self.client.loop.create_task(self._dispatch())

    async def _dispatch(self) -> None:
        try:
            while self._queue:
                try:
                    await self._cb(self._queue.popleft())
                except Exception as e:  # nats-py hands it to error_cb, which logs
                    self.client.callback_failed(e)
        finally:
            self._busy = False

    async def unsubscribe(self, limit: int = 0) -> None:
        if self in self.client.subscriptions:
            self.client.subscriptions.remove(self)


class Bytes(Subscription):
    """A subscription read as `services.archiver.delivery` reads it: what one read brings is cut anywhere."""

    def __init__(self, client: "Client", subject: str, deliveries: Deliveries) -> None:
        super().__init__(client, subject, _never)
        self._deliveries = deliveries
        self._epoch = 0
        self._bytes = b""

    def put(self, msg: Msg) -> None:
        client = self.client
        if self._epoch != client._epoch:
            self._epoch, self._bytes = client._epoch, b""
            self._deliveries.reset()
        if not self._bytes:
            client._scheduler.after(client._delay(), self._read, self._epoch, loop=client.loop)
        self._bytes += _protocol(msg)

    def _read(self, epoch: int) -> None:
        client = self.client
        if epoch != client._epoch or client.is_closed:
            return
        rng = client._rng
        size = len(self._bytes) if rng.random() < 0.5 else rng.randint(1, len(self._bytes))
        read, self._bytes = self._bytes[:size], self._bytes[size:]
        client.loop.create_task(self._parse(read))
        if self._bytes:
            client._scheduler.after(client._delay(), self._read, epoch, loop=client.loop)

    async def _parse(self, read: bytes) -> None:
        try:
            await self._deliveries.parse(read)
        except Exception as e:
            self.client.callback_failed(e)


def _protocol(msg: Msg) -> bytes:
    """What the server sends for a message of subscription 1."""
    subject, reply = msg.subject.encode(), msg.reply.encode()
    if msg.headers is None:
        return b"MSG %s 1 %s %d\r\n%s\r\n" % (subject, reply, len(msg.data), msg.data)
    head = f"NATS/1.0 {msg.headers['Status']} {msg.headers.get('Description', '')}".rstrip().encode() + b"\r\n\r\n"
    return b"HMSG %s 1 %d %d\r\n%s\r\n" % (subject, len(head), len(head), head)


async def _never(msg: Msg) -> None:
    """What is read as bytes calls nobody back."""


async def subscribe(client: "Client", inbox: str, take: Take, ended: Ended) -> Deliveries:
    """Stands in for `services.archiver.delivery.subscribe`."""
    deliveries = Deliveries(client, take, ended)  # type: ignore[arg-type]
    deliveries.subscribed(1)
    client.subscriptions.append(Bytes(client, f"{inbox}.*", deliveries))
    return deliveries


class Client:
    """nats-py's Client on one connection to `server`, in the process that runs on `loop`."""

    def __init__(
        self,
        server: Server,
        loop: Loop,
        name: str,
        reconnected: Callable[[], None] | None,
        callback_failed: Callable[[BaseException], None],
    ) -> None:
        self.server, self.loop, self.name = server, loop, name
        self.callback_failed = callback_failed
        self.is_connected = False
        self.is_closed = False
        self.max_payload = 8 << 20
        self.subscriptions: list[Subscription] = []
        self._reconnected = reconnected
        self._epoch = 0
        self._blocked_until = 0.0
        self._out_at = 0.0
        self._in_at = 0.0
        self._pending: list[Msg] = []
        self._inboxes = 0
        self._scheduler = server.scheduler
        self._rng = server.scheduler.rng
        self.connected_once = loop.create_future()

    # ---------------------------------------------------------------------------------------------- the network

    def cut_off(self, seconds: float) -> None:
        """A partition: TCP waits; nats-py gives up after its pings."""
        self._blocked_until = max(self._blocked_until, self._scheduler.now + seconds)
        patience = self._rng.uniform(2.0, 6.0)
        if seconds > patience:
            self._scheduler.after(patience, self._give_up, self._epoch)

    def _give_up(self, epoch: int) -> None:
        if epoch == self._epoch and self.is_connected:
            self.disconnect("no pong")

    def disconnect(self, why: str) -> None:
        if self.is_closed or not self.is_connected or self.loop.dead:
            return
        self._epoch += 1
        self._in_at = self._out_at = 0.0
        self.is_connected = False
        self.server.trace(f"{self.name} lost nats: {why}")
        self.try_to_connect()

    def try_to_connect(self) -> None:
        self._scheduler.after(self._rng.uniform(0.05, 0.35), self._try, loop=self.loop)

    def _try(self) -> None:
        if self.is_closed or self.is_connected:
            return
        if not self.server.up or self._scheduler.now < self._blocked_until:
            self.try_to_connect()
            return
        self.is_connected = True
        pending, self._pending = self._pending, []
        if self._rng.random() < 0.5:
            for msg in pending:
                self._send(msg)
        if not self.connected_once.done():
            self.connected_once.set_result(None)
        else:
            self.server.trace(f"{self.name} has nats again")
            if self._reconnected is not None:
                self._reconnected()

    def _delay(self) -> float:
        return self._rng.random() * 0.004

    def _send(self, msg: Msg) -> None:
        at = max(self._out_at, self._scheduler.now + self._delay(), self._blocked_until)
        self._out_at = at
        self._scheduler.at(at, self._sent, self._epoch, msg)

    def _sent(self, epoch: int, msg: Msg) -> None:
        if epoch == self._epoch:
            self.server.arrived(self, msg)

    def deliver(self, msg: Msg, slow: float = 0.0, inbox: str | None = None) -> None:
        """From the server, for the subscription that matches `inbox` (else the message's subject)."""
        if not self.is_connected:
            return
        at = max(self._in_at, self._scheduler.now + self._delay() + slow, self._blocked_until)
        self._in_at = at
        self._scheduler.at(at, self._receive, self._epoch, msg, inbox or msg.subject, loop=self.loop)

    def _receive(self, epoch: int, msg: Msg, to: str) -> None:
        if epoch != self._epoch or self.is_closed:
            return
        for subscription in self.subscriptions:
            if matches(subscription.subject, to):
                subscription.put(Msg(msg.subject, msg.data, msg.reply, msg.headers, self))

    def interested(self, subject: str) -> bool:
        alive = not self.is_closed and not self.loop.dead
        return alive and self.is_connected and any(matches(s.subject, subject) for s in self.subscriptions)

    def offer(self, msg: Msg) -> bool:
        if self.interested(msg.subject):
            self.deliver(msg)
            return True
        return False

    # ------------------------------------------------------------------------------------------ what callers use

    def new_inbox(self) -> str:
        self._inboxes += 1
        return f"_INBOX.{self.name}.{self._scheduler.steps}.{self._inboxes}".replace("-", "")

    async def subscribe(self, subject: str, cb: Callback | None = None, **_: Any) -> Subscription:
        assert cb is not None
        subscription = Subscription(self, subject, cb)
        self.subscriptions.append(subscription)
        return subscription

    async def publish(self, subject: str, payload: bytes = b"", reply: str = "", headers: Any = None) -> None:
        if self.is_closed:
            raise errors.ConnectionClosedError
        msg = Msg(subject, bytes(payload), reply, headers)
        if self.is_connected:
            self._send(msg)
        else:
            self._pending.append(msg)

    def write(self, protocol: bytes) -> None:
        """Whole PUB commands, put into the socket: gone if it is not connected."""
        while protocol:
            head, _, protocol = protocol.partition(b"\r\n")
            command, subject, reply, size = head.decode().split(" ")
            assert command == "PUB"
            payload, protocol = protocol[: int(size)], protocol[int(size) :]
            assert protocol.startswith(b"\r\n")
            protocol = protocol[2:]
            if self.is_connected:
                self._send(Msg(subject, payload, reply))

    async def request(self, subject: str, payload: bytes = b"", timeout: float = 0.5, **_: Any) -> Msg:
        inbox = self.new_inbox()
        future: asyncio.Future[Msg] = self.loop.create_future()

        async def answered(msg: Msg) -> None:
            if not future.done():
                future.set_result(msg)

        subscription = await self.subscribe(inbox, answered)
        await self.publish(subject, payload, inbox)
        try:
            async with asyncio.timeout(timeout):
                msg = await future
        except TimeoutError:
            raise errors.TimeoutError from None
        finally:
            await subscription.unsubscribe()
        if msg.headers is not None and msg.headers.get("Status") == "503":
            raise errors.NoRespondersError
        self.server.answered(subject, msg.data)
        return msg

    async def flush(self, timeout: float = 10) -> None:
        await asyncio.sleep(0)

    async def drain(self) -> None:
        await self.close()

    async def close(self) -> None:
        self.is_closed = True
        self.is_connected = False
        if self in self.server.clients:
            self.server.clients.remove(self)

    def jetstream(self, timeout: float = JS_API_SECONDS) -> "JetStream":
        return JetStream(self, timeout)


class JetStream:
    def __init__(self, client: Client, timeout: float) -> None:
        self._client = client
        self._timeout = timeout

    async def _ask(self, call: Callable[..., Any], *args: Any) -> Any:
        client, scheduler = self._client, self._client.server.scheduler
        if client.is_closed:
            raise errors.ConnectionClosedError
        future: asyncio.Future[Any] = client.loop.create_future()
        epoch = client._epoch

        def at_server() -> None:
            if epoch != client._epoch or not client.server.up or not client.is_connected:
                return
            try:
                result, error = call(*args), None
            except APIError as e:
                result, error = None, e
            at = max(client._in_at, scheduler.now + client._delay(), client._blocked_until)
            client._in_at = at
            scheduler.at(at, answer, result, error, loop=client.loop)

        def answer(result: Any, error: Exception | None) -> None:
            if epoch != client._epoch or future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

        at = max(client._out_at, scheduler.now + client._delay(), client._blocked_until)
        client._out_at = at
        scheduler.at(at, at_server)
        try:
            async with asyncio.timeout(self._timeout):
                return await future
        except TimeoutError:
            raise errors.TimeoutError from None

    async def publish(self, subject: str, payload: bytes = b"", timeout: float = 5, **_: Any) -> Any:
        try:
            answer = await self._client.request(subject, payload, timeout)
        except errors.NoRespondersError:
            raise NoStreamResponseError from None
        told = msgspec.json.decode(answer.data)
        if "error" in told:
            raise APIError(code=told["error"]["code"], description=told["error"]["description"])
        return SimpleNamespace(seq=told["seq"])

    async def stream_info(self, name: str) -> Any:
        return await self._ask(self._client.server.stream_info, name)

    async def add_stream(self, config: Any, **more: Any) -> Any:
        return await self._ask(self._client.server.add_stream, config.evolve(**more))

    async def update_stream(self, config: Any, **more: Any) -> Any:
        return await self._ask(self._client.server.update_stream, config.evolve(**more))

    async def add_consumer(self, stream: str, config: Any) -> Any:
        return await self._ask(self._client.server.add_consumer, stream, config)

    async def get_msg(self, stream: str, seq: int, **_: Any) -> Any:
        return await self._ask(self._client.server.get_msg, stream, seq)

    async def purge_stream(self, name: str, seq: int = 0) -> Any:
        return await self._ask(self._client.server.purge_stream, name, seq)
