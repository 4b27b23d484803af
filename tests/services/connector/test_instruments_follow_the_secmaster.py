"""Markets are created, close and settle in mid-run: the secmaster's changes alone make the connector follow."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import nats
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from temporalio.testing import ActivityEnvironment

from activities.secmaster import Secmaster
from exchanges.kalshi import venue
from exchanges.kalshi.simulator import KalshiSimulator
from exchanges.port import Simulation
from services.archiver.archiver import Archiver
from services.connector.connector import Connector
from services.simulator.player import MarketPlayer
from services.simulator.server import SimulatorServer
from ssmd import archive, config, jobs, subjects
from ssmd.changes import Changes
from ssmd.clock import SystemClock
from ssmd.durable import Appender
from ssmd.telemetry import Telemetry, configure_logging
from tests.chaos.accounts import account

from .conftest import until

LOG = configure_logging(service="test")
NEVER = 3600.0
KEY_ID = "key-1"


class Living:
    """Kalshi with markets that come and go, the connector, the archiver and the secmaster, in this process."""

    def __init__(self, folder: Path, nats_url: str, port: int) -> None:
        self.folder, self.port = folder, port
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        secret = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        simulation = Simulation(
            key_id=KEY_ID, public_key=public, seed=3, markets=6, frames_per_second=300, turnover_seconds=3
        )
        self.simulator = KalshiSimulator(simulation)
        self.truth = folder / "truth.ndjson"
        self.server = SimulatorServer(
            self.simulator,
            lambda lines: MarketPlayer(self.simulator, lines, SystemClock().now_ns),
            Appender(self.truth),
            SystemClock().now_ns,
            False,
            LOG,
        )
        (folder / "key.id").write_text(KEY_ID)
        (folder / "key.pem").write_bytes(secret)
        plan = config.EnvironmentFeed(
            feed="kalshi",
            endpoint="simulator",
            symbols=config.Symbols(refresh_seconds=NEVER),
            key=config.KeyReference(id="file:{data}/key.id", secret="file:{data}/key.pem"),
        )
        self.environment = config.Environment(
            name=f"l{port}", nats=nats_url, archiving=config.Archiving(commit_seconds=0.2), feeds=[plan]
        )
        here = f"127.0.0.1:{port}/trade-api"
        places = {"kalshi": config.FeedAddress(f"ws://{here}/ws/v2", f"http://{here}/v2")}
        self.addresses = config.Addresses(self.environment.name, nats_url, "", "", places, {})
        self.connector: Connector
        self.running: dict[str, tuple[asyncio.Event, asyncio.Task[None]]] = {}

    def start(self, name: str) -> None:
        stop = asyncio.Event()
        if name == "archiver":
            part = Archiver(self.environment, "kalshi", self.addresses.nats, self.folder / "archive", LOG)
        else:
            feed = config.load_feed("kalshi")
            part = self.connector = Connector(  # type: ignore[assignment]
                self.environment, feed, self.addresses, self.folder, venue, SystemClock(), LOG
            )
        self.running[name] = stop, asyncio.create_task(part.run(stop, Telemetry(name)))

    async def stop(self, name: str) -> None:
        stop, task = self.running.pop(name)
        stop.set()
        async with asyncio.timeout(20):
            await task

    async def sync(self) -> jobs.Synced:
        """As a worker does it."""
        secmaster = Secmaster(config.Places(self.folder), self.environment, self.addresses)
        job = jobs.Listing("kalshi")
        synced = await asyncio.to_thread(ActivityEnvironment().run, secmaster.sync_instruments, job)
        await asyncio.to_thread(ActivityEnvironment().run, secmaster.announce_changes, job)
        return synced

    def markets(self, *states: str) -> set[str]:
        return {m.ticker for m in self.simulator.exchange.markets.values() if m.state in states}

    def carried(self) -> set[str]:
        return {s for symbols in self.connector._spread.places.values() for s in symbols}

    def books(self) -> set[str]:
        """The markets whose books are archived, as far as segments are finished."""
        lines = [
            line
            for manifest in archive.manifests(self.folder / "archive")
            for segment in manifest.segments
            if segment.channel == "orderbook_delta"
            for line in archive.read_segment(
                archive.day_folder(self.folder / "archive", manifest.feed, manifest.date) / segment.name
            )
        ]
        return {msgspec.json.decode(line.frame)["msg"]["market_ticker"] for line in lines}


@pytest.fixture
async def living(tmp_path: Path, nats_server, free_port) -> AsyncIterator[Living]:  # type: ignore[no-untyped-def]
    living = Living(tmp_path, nats_server.url, free_port())
    await living.server.start(living.port)
    playing = asyncio.create_task(living.server.wait(asyncio.Event()))
    try:
        yield living
    finally:
        for _, task in living.running.values():
            task.cancel()
        await asyncio.gather(*(task for _, task in living.running.values()), return_exceptions=True)
        playing.cancel()
        await living.server.close()


async def test_a_market_created_in_mid_run_is_captured_and_a_settled_one_is_dropped(living: Living) -> None:
    heard: list[Changes] = []
    client = await nats.connect(living.addresses.nats)

    async def hear(msg: nats.aio.msg.Msg) -> None:
        heard.append(msgspec.json.decode(msg.data, type=Changes))

    await client.subscribe(subjects.secmaster_changes(living.environment.name), cb=hear)
    await client.flush()
    living.start("archiver")
    living.start("connector")
    await until(lambda: living.connector._status()["frames"] > 200, 30)  # type: ignore[operator]
    first = living.carried()
    assert len(first) == 6
    await until(lambda: living.connector._attached)
    async with asyncio.timeout(60):
        while not (living.markets("finalized") & first and len(living.carried() - first) >= 2):
            await living.sync()
            await asyncio.sleep(0.3)
    await living.sync()
    settled, created = living.markets("finalized") & first, living.carried() - first
    await until(lambda: not settled & living.carried())
    frames = living.connector._status()["frames"]
    await until(lambda: living.connector._status()["frames"] > frames + 300, 30)  # type: ignore[operator]
    assert living.connector._status()["gaps"] == 0 and living.connector._status()["reconnects"] == 0
    await living.stop("connector")
    await living.stop("archiver")
    await client.drain()
    assert created <= living.books()
    found = account(living.truth, living.folder / "archive")
    assert found.whole and not found.gaps, str(found)
    told = {(change.symbol, change.status) for one in heard for change in one.changes}
    assert {(symbol, "open") for symbol in created} <= told and {(s, "settled") for s in settled} <= told


async def test_without_the_changes_it_would_carry_what_it_listed(
    living: Living, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the same market's life, and nobody listens."""

    heard = asyncio.Event()

    async def deaf(self: Connector, msg: nats.aio.msg.Msg) -> None:
        heard.set()

    monkeypatch.setattr(Connector, "_on_changes", deaf)
    living.start("connector")
    await until(lambda: living.connector._status()["frames"] > 200, 30)  # type: ignore[operator]
    first = living.carried()
    async with asyncio.timeout(60):
        while not living.markets("finalized") & first:
            await asyncio.sleep(0.1)
    await until(lambda: living.connector._attached)
    await living.sync()
    await asyncio.wait_for(heard.wait(), 10)
    assert living.markets("active") - first and living.carried() == first
