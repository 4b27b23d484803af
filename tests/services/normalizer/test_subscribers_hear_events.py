"""Over a real NATS server: raw frames in JetStream come out as events, and a NATS that was away is told."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import nats
import pytest
from nats.aio.client import Client

from exchanges.kalshi import venue
from services.normalizer.normalizer import Normalizer
from ssmd import broker, capnp, frames, subjects
from ssmd.events import Gap, Trade
from ssmd.telemetry import Telemetry, configure_logging
from ssmd.up import servers

ENV, FEED = "local", "kalshi"
NOW = 1_786_410_915_000_000_000
CONN = frames.conn_id(FEED, 0, NOW, 7)
TRADE = (
    b'{"type":"trade","sid":1,"seq":1,"msg":{"trade_id":"t%d","market_ticker":"KX.A","yes_price_dollars":"0.3600",'
    b'"count_fp":"136.00","taker_side":"no","ts_ms":1786410915579}}'
)


class Running:
    """A normalizer in this process, a client that publishes raw frames, and what was heard."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.heard: list[tuple[str, capnp.Message]] = []
        self.stop = asyncio.Event()
        self.telemetry = Telemetry("normalizer")
        self.client: Client
        log = configure_logging(service="normalizer")
        self.normalizer = Normalizer(ENV, FEED, venue, url, log)
        self.task = asyncio.create_task(self.normalizer.run(self.stop, self.telemetry))

    async def start(self) -> None:
        self.client = await nats.connect(self.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1)
        await broker.ensure_stream(self.client, subjects.stream(ENV, FEED), [f"{ENV}.{FEED}.json.>"])
        for kind in ("trade", "ticker", "book", "status"):
            await self.client.subscribe(f"{ENV}.{FEED}.{kind}.>", cb=self.on_message)
        await self.client.flush()
        await until(lambda: not self.telemetry.waiting())

    async def on_message(self, msg: nats.aio.msg.Msg) -> None:
        self.heard.append((msg.subject, capnp.decode(msg.data)))

    async def send(self, *numbers: int) -> None:
        for n in numbers:
            data = frames.message(NOW + n, CONN.encode(), n, TRADE % n)
            await self.client.jetstream().publish(subjects.frame(ENV, FEED, "trade", "KX.A"), data)

    def kinds(self) -> list[str]:
        return [type(m.event).__name__ for _, m in self.heard]


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


class Nats:
    """A nats-server of our own that can be killed and started again."""

    def __init__(self, folder: Path, port: int, monitor_port: int) -> None:
        self.url = f"nats://127.0.0.1:{port}"
        self._command = servers.nats_command(servers.find_binary("nats-server"), folder, port, monitor_port)
        self._monitor_port = monitor_port
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        await servers.nats_ready(self._monitor_port)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()


@pytest.fixture
async def server(tmp_path: Path, free_port: Callable[[], int]) -> AsyncIterator[Nats]:
    made = Nats(tmp_path / "nats", free_port(), free_port())
    await made.start()
    yield made
    made.kill()


@pytest.fixture
async def running(server: Nats) -> AsyncIterator[Running]:
    made = Running(server.url)
    await made.start()
    yield made
    made.stop.set()
    async with asyncio.timeout(5):
        await made.task
    await made.client.close()


async def test_a_raw_frame_is_heard_as_an_event(running: Running) -> None:
    await running.send(1, 2)
    await until(lambda: len(running.heard) == 2)
    trade = Trade("KX.A", 1_786_410_915_579_000_000, "0.3600", "136.00", "sell", "t1")
    assert running.heard[0] == (f"{ENV}.{FEED}.trade.KX%2EA", capnp.Message(NOW + 1, FEED, CONN, 1, 0, trade))
    assert running.telemetry.status()["published"] == 2


async def test_nothing_normalized_is_kept_in_the_stream(running: Running) -> None:
    await running.send(1, 2, 3)
    await until(lambda: len(running.heard) == 3)
    assert (await running.client.jetstream().stream_info(subjects.stream(ENV, FEED))).state.messages == 3


async def test_a_nats_that_was_away_is_told_as_a_gap(server: Nats, running: Running) -> None:
    await running.send(1, 2)
    await until(lambda: len(running.heard) == 2)
    server.kill()
    await until(lambda: running.telemetry.problems() != [])
    assert "not connected to NATS" in running.telemetry.problems()[0]
    await server.start()
    await until(lambda: not running.telemetry.problems() and running.client.is_connected)
    while len(running.heard) == 2:  # its subscription may reach the new server after what we send; repeats are dropped
        await running.send(2, 3, 7)
        await asyncio.sleep(0.3)
    await until(lambda: running.kinds()[2:] == ["Gap", "Trade", "Gap", "Trade"])
    events = [m.event for _, m in running.heard]
    assert [e.cause for e in events if isinstance(e, Gap)] == ["lost", "lost"]
    assert running.heard[2][0] == f"{ENV}.{FEED}.status.all"


async def test_it_stops_while_nats_is_not_there(free_port: Callable[[], int]) -> None:
    alone = Running(f"nats://127.0.0.1:{free_port()}")
    port = await alone.telemetry.serve("127.0.0.1", 0)
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"http://127.0.0.1:{port}/health")).status_code == 200
        assert (await client.get(f"http://127.0.0.1:{port}/ready")).status_code == 503
    alone.stop.set()
    async with asyncio.timeout(5):
        await alone.task
    await alone.telemetry.close()
