"""More instruments than a connection may carry: several connections, each with its own gaps, and nothing missing."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from websockets.asyncio.client import connect

from exchanges.binance_usdm import venue
from exchanges.port import Simulation
from services.archiver.archiver import Archiver
from services.connector.connector import CARRIED, Connector
from services.simulator.player import MarketPlayer
from services.simulator.server import SimulatorServer
from ssmd import config, coverage
from ssmd.archive import manifests
from ssmd.clock import SystemClock
from ssmd.durable import Appender
from ssmd.telemetry import Telemetry, configure_logging
from tests.chaos.accounts import Account, account

from .conftest import until

MARKETS, ROOM = 250, 99  # 200 streams are allowed: of two channels, and one of each in reserve
LOG = configure_logging(service="test")


class Wide:
    """The venue with many markets, the connector and the archiver, in this process."""

    def __init__(self, folder: Path, nats_url: str, port: int) -> None:
        self.folder, self.port = folder, port
        self.simulator = venue.simulator(Simulation(seed=7, markets=MARKETS, frames_per_second=600))
        self.truth = folder / "truth.ndjson"
        self.server = SimulatorServer(
            self.simulator,
            lambda lines: MarketPlayer(self.simulator, lines, SystemClock().now_ns),
            Appender(self.truth),
            SystemClock().now_ns,
            False,
            LOG,
        )
        plan = config.EnvironmentFeed(feed="binance-usdm", endpoint="simulator", channels=["trade", "bookTicker"])
        self.environment = config.Environment(
            name=f"w{port}", nats=nats_url, archiving=config.Archiving(commit_seconds=0.2), feeds=[plan]
        )
        here = f"127.0.0.1:{port}"
        places = {"binance-usdm": config.FeedAddress(f"ws://{here}/public/stream", f"http://{here}")}
        self.addresses = config.Addresses(self.environment.name, nats_url, "", "", places, {})
        self.connector: Connector
        self.running: dict[str, tuple[asyncio.Event, asyncio.Task[None]]] = {}

    def start(self, name: str) -> None:
        stop = asyncio.Event()
        if name == "archiver":
            part = Archiver(self.environment, "binance-usdm", self.addresses.nats, self.folder / "archive", LOG)
        else:
            feed = config.load_feed("binance-usdm")
            part = self.connector = Connector(  # type: ignore[assignment]
                self.environment, feed, self.addresses, self.folder, venue, SystemClock(), LOG
            )
        self.running[name] = stop, asyncio.create_task(part.run(stop, Telemetry(name)))

    async def stop(self, *names: str) -> None:
        for name in names:
            stop, task = self.running.pop(name)
            stop.set()
            async with asyncio.timeout(20):
                await task

    async def kill(self, name: str) -> None:
        """End a part, and its sockets, without a word."""
        _, task = self.running.pop(name)
        task.cancel()
        if name == "connector":
            for line in list(self.server._lines.values()):
                line.ws.transport.abort()
        await asyncio.gather(task, return_exceptions=True)

    async def subscribed(self, streams: int) -> None:
        """Until all of what is wanted is subscribed to, and was heard."""
        lines = self.server._lines
        await until(lambda: sum(line.grammar.subscriptions for line in lines.values()) == streams, 30)
        heard = self.connector._status()["frames"]
        await until(lambda: self.connector._status()["frames"] > heard + 300, 30)  # type: ignore[operator]

    def places(self) -> dict[int, set[str]]:
        return {number: set(symbols) for number, symbols in self.connector._spread.places.items()}

    def account(self) -> Account:
        return account(self.truth, self.folder / "archive")


@pytest.fixture
async def wide(tmp_path: Path, nats_server, free_port) -> AsyncIterator[Wide]:  # type: ignore[no-untyped-def]
    wide = Wide(tmp_path, nats_server.url, free_port())
    await wide.server.start(wide.port)
    playing = asyncio.create_task(wide.server.wait(asyncio.Event()))
    try:
        yield wide
    finally:
        for name in list(wide.running):
            await wide.kill(name)
        playing.cancel()
        await wide.server.close()


async def test_all_are_captured_and_one_connection_cut_alone_concerns_its_own(wide: Wide) -> None:
    wide.start("archiver")
    wide.start("connector")
    await wide.subscribed(2 * MARKETS)
    places = wide.places()
    assert sorted(map(len, places.values())) == [83, 83, 84]
    assert wide.connector._status() | {"connected": True, "connections": 3, "symbols": MARKETS, "gaps": 0} == (
        wide.connector._status()
    )
    cut = wide.connector._carriers[1].connection
    assert cut is not None
    wide.server._lines[cut.conn].ws.transport.abort()
    await until(lambda: wide.connector._status()["reconnects"] == 1)
    await wide.subscribed(2 * MARKETS)
    open_gaps = wide.connector._capture.ledger.open_gaps
    assert "disconnect" not in {gap.cause for gap in open_gaps} and wide.places() == places
    await wide.stop("connector", "archiver")
    found = wide.account()
    assert found.whole and found.archived > 500, str(found)
    gap, *missed = sorted(found.gaps, key=lambda gap: gap.cause)
    assert (gap.cause, gap.conn, gap.symbols) == ("disconnect", cut.conn, places[1])
    for gap in missed:  # what the venue's numbers say of single instruments
        assert gap.cause == "sequence" and gap.symbols < places[1] and "on the connection before" in gap.evidence
    (manifest,) = manifests(wide.folder / "archive")
    day = coverage.coverage(coverage.of_manifest(manifest))
    assert {s for c in day if c.condition == "degraded" for s in c.symbols} == places[1]
    assert {s for c in day if c.condition == "available" for s in c.symbols} == places[0] | places[2]


async def test_a_killed_connector_begins_each_place_where_it_was(wide: Wide) -> None:
    wide.start("archiver")
    wide.start("connector")
    await wide.subscribed(2 * MARKETS)
    places = wide.places()
    await wide.kill("connector")
    wide.start("connector")
    await wide.subscribed(2 * MARKETS)
    assert wide.places() == places
    await wide.stop("connector", "archiver")
    found = wide.account()
    assert found.whole, str(found)
    assert sorted(map(sorted, (gap.symbols for gap in found.gaps))) == sorted(map(sorted, places.values()))
    assert {gap.cause for gap in found.gaps} == {"restart"}
    closed = [msgspec.json.decode(row) for manifest in manifests(wide.folder / "archive") for row in manifest.sessions]
    reasons = sorted(row["reason"] for row in closed if row["type"] == "close")
    assert reasons == ["stopped"] * 3 + ["the connector died"] * 3


async def test_connections_come_and_go_with_instruments(wide: Wide) -> None:
    wide.start("archiver")
    wide.start("connector")
    await wide.subscribed(2 * MARKETS)
    before = wide.places()
    every = frozenset().union(*before.values())
    wide.connector.carry(every - before[2])
    assert wide.places() == {0: before[0], 1: before[1]}
    await wide.subscribed(2 * (len(before[0]) + len(before[1])))
    assert len(wide.server._lines) == 2
    wide.connector.carry(every)
    await wide.subscribed(2 * MARKETS)
    after = wide.places()
    assert len(wide.server._lines) == len(after) == 3
    assert all(before[number] <= after[number] for number in (0, 1)), "none has moved"
    kept = msgspec.json.decode((wide.folder / "journal/binance-usdm" / CARRIED).read_bytes(), type=dict[int, set[str]])
    await wide.stop("connector", "archiver")
    assert kept == after
    found = wide.account()
    assert found.whole and not found.gaps, str(found)


async def test_what_has_no_room_is_refused_in_the_ledger(wide: Wide, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = config.Limits(subscriptions_per_connection=200, connections=2)
    feed = config.load_feed("binance-usdm")
    version = feed.versions[-1].model_copy(update={"limits": limits})
    monkeypatch.setattr(config, "load_feed", lambda name: feed.model_copy(update={"versions": [version]}))
    wide.start("archiver")
    wide.start("connector")
    await wide.subscribed(2 * 2 * ROOM)
    (told,) = wide.connector._status()["refused"]  # type: ignore[misc]
    assert told["symbols"] == MARKETS - 2 * ROOM  # type: ignore[index]
    left = set(wide.connector._spread.left)
    await wide.stop("connector", "archiver")
    found = wide.account()
    assert found.whole
    (gap,) = found.gaps
    assert (gap.cause, gap.symbols) == ("refused", left)
    assert gap.evidence == "more than 2 connections of 99 instruments can carry"


async def test_the_simulator_refuses_more_than_a_connection_may_carry(wide: Wide) -> None:
    streams = [f"{s.lower()}@trade" for s in wide.simulator.markets]  # type: ignore[attr-defined]
    async with connect(f"ws://127.0.0.1:{wide.port}/public/stream") as ws:
        for number, some in enumerate((streams[:150], streams[150:250])):
            await ws.send(msgspec.json.encode({"method": "SUBSCRIBE", "params": some, "id": number}).decode())
        answers = []
        while len(answers) < 2:
            answer = msgspec.json.decode(await ws.recv())
            answers += [answer] if "id" in answer else []
    assert answers[0]["result"] is None and "Too many" in str(answers[1])
