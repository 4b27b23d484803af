"""A venue of our own making behind the port: one channel per `type`, no handshake, frames as told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request as Handshake
from websockets.http11 import Response

from exchanges.port import Instruments, Key, Notice, Number, Received, Request, Subscription
from services.archiver.archiver import Archiver
from services.connector.connector import Connector
from ssmd import archive, config, frames
from ssmd.clock import SystemClock
from ssmd.errors import SsmdError, Transient
from ssmd.telemetry import Telemetry, configure_logging


class _Frame(msgspec.Struct):
    type: str = ""
    symbol: str = "S"
    rest: str = ""
    answer: int = 0


class FakeAdapter:
    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.heard = dict(subscription.numbers)

    brings_all = False
    standing = True

    def opened(self) -> Sequence[bytes]:
        return [b'{"cmd":"subscribe"}']

    def received(self, wire: bytes, ts_recv: int) -> Received:
        try:
            frame = msgspec.json.decode(wire, type=_Frame)
        except msgspec.DecodeError as e:
            return Received(frames.BAD, None, bad=str(e), json=False)
        if frame.type == "break":
            return Received(
                "trade", frame.symbol, notices=(Notice("break", (frame.symbol,), evidence="seq 3 after 1"),)
            )
        if frame.type == "mended":
            return Received("trade", frame.symbol, notices=(Notice("mended", (frame.symbol,)),))
        if frame.rest:
            return Received("answer", None)
        if frame.type == "wanted":
            return Received("trade", frame.symbol, asks=(Request("GET", "/book", {"of": "S"}, [wire]),))
        if frame.type == "refuse":
            told = Notice("refused", (frame.symbol,), evidence="no such market")
            return Received("control", None, notices=(told,))
        if frame.answer:
            return Received("control", None, notices=(Notice("explained", channels=("trade",)),))
        if frame.type == "ask":
            return Received("control", None, owed=(b'{"answer":1}',))
        if frame.type == "numbered":
            self.heard[frame.symbol] = Number(self.heard.get(frame.symbol, Number(0, 0)).last + 1, ts_recv)
        if frame.type == "subscribed":
            self.standing = True
        return Received(frame.type, frame.symbol)

    def subscribe(self, symbols: Iterable[str]) -> Sequence[bytes]:
        return []

    def unsubscribe(self, symbols: Iterable[str]) -> Sequence[bytes]:
        return []

    def numbers(self) -> Mapping[str, Number]:
        return self.heard

    def probe(self) -> Sequence[bytes]:
        return [b'{"cmd":"probe"}']

    def tick(self, now_ns: int) -> Received | None:
        return None


class FakeVenue:
    standing = True  # as soon as a connection is up

    def __init__(self) -> None:
        self.adapters: list[FakeAdapter] = []

    def adapter(self, subscription: Subscription) -> FakeAdapter:
        adapter = FakeAdapter(subscription)
        adapter.standing = self.standing
        if subscription.symbols != ("",):
            self.adapters.append(adapter)
        return adapter

    def key(self, key_id: str, secret: bytes) -> Key:
        raise NotImplementedError

    def events(self, date: str):  # type: ignore[no-untyped-def]
        raise NotImplementedError

    planned: str | None = None

    def schedule(self) -> Request | None:
        return None

    def closed(self, schedule: bytes, at_ns: int) -> str | None:
        return self.planned

    def refusal(self, status: int, body: bytes) -> SsmdError:
        return Transient(f"HTTP {status}")

    def instruments(self, series: Sequence[str]) -> Sequence[Request]:
        return []

    def instruments_page(self, request: Request, body: bytes) -> Instruments:
        raise NotImplementedError


Script = Callable[[ServerConnection], Awaitable[None]]
Rest = Callable[[str], tuple[int, dict[str, str], bytes]]  # target -> status, headers, body


@dataclass
class Rig:
    """A connector and an archiver of one feed, in this process, over a real NATS server."""

    data: Path
    environment: config.Environment
    feed: config.Feed
    addresses: config.Addresses
    sent: list[list[bytes]] = field(default_factory=list)  # by connection
    received: list[bytes] = field(default_factory=list)
    script: Script | None = None
    rest: Rest | None = None
    venue: FakeVenue = field(default_factory=FakeVenue)
    running: dict[str, tuple[asyncio.Event, asyncio.Task[None]]] = field(default_factory=dict)
    parts: dict[str, object] = field(default_factory=dict)

    async def start(self, name: str) -> None:
        stop, telemetry = asyncio.Event(), Telemetry(name)
        log = configure_logging(service=name)
        part: Connector | Archiver
        if name == "connector":
            part = Connector(self.environment, self.feed, self.addresses, self.data, self.venue, SystemClock(), log)
        else:
            part = Archiver(self.environment, self.feed.name, self.addresses.nats, self.data / "archive", log)
        self.parts[name] = part
        self.running[name] = (stop, asyncio.create_task(part.run(stop, telemetry)))

    async def stop(self, name: str) -> None:
        stop, task = self.running.pop(name)
        stop.set()
        async with asyncio.timeout(15):
            await task

    async def kill(self, name: str) -> None:
        """End a part without letting it say or write anything more."""
        _, task = self.running.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def status(self, name: str) -> dict[str, object]:
        return self.parts[name]._status()  # type: ignore[attr-defined,no-any-return]

    def lines(self) -> list[frames.Line]:
        """Everything in finished segments, by connection and number."""
        found = []
        for manifest in archive.manifests(self.data / "archive"):
            for segment in manifest.segments:
                folder = archive.day_folder(self.data / "archive", manifest.feed, manifest.date)
                found += list(archive.read_segment(folder / segment.name))
        return sorted(found, key=lambda line: (line.conn, line.n))

    def venue_frames(self) -> list[list[bytes]]:
        """The venue's own frames as archived, by connection."""
        by_conn: dict[str, list[bytes]] = {}
        for line in self.lines():
            own = b'"feed":"fake"' in bytes(line.frame) or frames.is_rest(line.wire())
            by_conn.setdefault(line.conn, [])
            if not own:
                by_conn[line.conn].append(line.wire())
        return [wires for wires in by_conn.values() if wires]

    def rows(self, kind: str) -> list[dict[str, object]]:
        """Our own rows, `type` or `cause` keyed, in order."""
        own = [msgspec.json.decode(line.frame) for line in self.lines() if b'"feed":"fake"' in bytes(line.frame)]
        return [row for row in own if kind in row]


async def until(condition: Callable[[], bool], seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.fixture
async def rig(tmp_path: Path, nats_server, free_port) -> AsyncIterator[Rig]:  # type: ignore[no-untyped-def]
    async with rigged(tmp_path, nats_server.url, free_port()) as rig:
        yield rig


@contextlib.asynccontextmanager
async def rigged(data: Path, nats_url: str, port: int) -> AsyncIterator[Rig]:
    """A rig over the NATS server at `nats_url`, its venue listening on `port`."""
    url = f"ws://127.0.0.1:{port}/ws"
    environment = config.Environment(
        name=f"t{port}",
        nats=nats_url,
        archiving=config.Archiving(commit_seconds=0.1),
        feeds=[config.EnvironmentFeed(feed="fake", endpoint="simulator", symbols=config.Symbols(names=["S"]))],
    )
    version = config.FeedVersion(effective_from="2020-01-01", endpoints={}, channels=["trade"])
    feed = config.Feed(
        name="fake", venue="fake", title="Fake", precision=config.Precision(price=2, size=2), versions=[version]
    )
    addresses = config.Addresses(
        environment.name, nats_url, "", "", {"fake": config.FeedAddress(url, f"http://127.0.0.1:{port}")}, {}
    )
    rig = Rig(data, environment, feed, addresses)

    async def handler(connection: ServerConnection) -> None:
        mine: list[bytes] = []
        rig.sent.append(mine)

        async def listen() -> None:
            async for text in connection:
                rig.received.append(text.encode() if isinstance(text, str) else text)

        listening = asyncio.create_task(listen())
        assert rig.script is not None
        send = connection.send

        async def noted(message: str | bytes, *args: object, **more: object) -> None:
            mine.append(message.encode() if isinstance(message, str) else message)
            await send(message, *args, **more)  # type: ignore[arg-type]

        connection.send = noted  # type: ignore[method-assign,assignment]
        await rig.script(connection)
        await listening

    def answer(connection: ServerConnection, request: Handshake) -> Response | None:
        if request.path == "/ws" or rig.rest is None:
            return None
        status, headers, body = rig.rest(request.path)
        more = Headers({"Content-Length": str(len(body)), "Connection": "close", **headers})
        return Response(status, HTTPStatus(status).phrase, more, body)

    async with serve(handler, "127.0.0.1", port, close_timeout=0.2, process_request=answer) as server:
        yield rig
        for name in list(rig.running):
            await rig.kill(name)
        for connection in server.connections:
            connection.transport.abort()
