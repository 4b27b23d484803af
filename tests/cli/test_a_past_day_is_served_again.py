"""`ssmd replay`: an archived day comes again, to clients of each venue and on NATS, byte for byte and in its order."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from exchanges.port import Subscription
from services.normalizer.normalizer import Normalizer
from ssmd import archive, capnp, frames, subjects
from ssmd.telemetry import Telemetry, configure_logging
from tests.archived_days import DATE, FEEDS, CapturedDay, keep
from tests.conftest import NatsServer

ROOT = Path(__file__).resolve().parents[2]


class Replay:
    """A running `ssmd replay`, and what it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: list[str] = []

    async def url(self) -> str:
        """Where it listens."""
        assert self.process.stderr is not None
        async with asyncio.timeout(30):
            while line := (await self.process.stderr.readline()).decode():
                self.said.append(line)
                if line.startswith("listening at "):
                    return line.split()[2].rstrip(",")
        raise AssertionError("".join(self.said))

    async def end(self) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        async with asyncio.timeout(60):
            out, err = await self.process.communicate()
        return await self.process.wait(), out.decode(), "".join(self.said) + err.decode()


@asynccontextmanager
async def replay(*arguments: object) -> AsyncIterator[Replay]:
    command = [sys.executable, "-m", "ssmd", "replay", *map(str, arguments)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=pipe, stderr=pipe)
    try:
        yield Replay(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def subscribed(day: CapturedDay, symbols: tuple[str, ...] | None = None) -> list[str]:
    """What a client of the venue sends."""
    subscription = Subscription(day.channels, day.symbols if symbols is None else symbols)
    return [sent.decode() for sent in day.venue.adapter(subscription).opened()]


async def everything(ws: ClientConnection) -> list[bytes]:
    """All that comes until the venue says good-bye."""
    got = []
    try:
        while True:
            got.append(await ws.recv(decode=False))
    except ConnectionClosed as e:
        assert e.rcvd is not None and e.rcvd.code == 1001
    return got


@pytest.mark.parametrize("feed", FEEDS)
def test_a_client_of_the_venue_gets_the_day_byte_for_byte(tmp_path: Path, feed: str) -> None:
    """One frame was archived late, and the day is in several segments of each channel."""
    day = CapturedDay(feed).archive(tmp_path)

    async def run() -> None:
        async with replay(feed, DATE, "--speed", "max", "--json", "--data", tmp_path) as running:
            async with connect(await running.url(), compression=None) as ws:
                for command in subscribed(day):
                    await ws.send(command)
                got = await everything(ws)
            code, out, err = await running.end()
        assert code == 0, err
        data = set(day.data)
        assert [wire for wire in got if wire in data] == day.data
        adapter = day.venue.adapter(Subscription(day.channels, day.symbols))
        routes = {adapter.received(wire, day.start_ns).channel for wire in got if wire not in data}
        assert routes <= {"control", "status"}  # nothing is made up but the venue's answers
        told = json.loads(out)
        assert (told["frames"], told["sent"], told["left_out"]) == (len(day.data), len(day.data), {})
        assert told["complete"] and told["recorded_seconds"] > 1

    asyncio.run(run())


@pytest.mark.parametrize("feed", ["kalshi", "binance"])
def test_only_what_was_subscribed_to_is_sent(tmp_path: Path, feed: str) -> None:
    """Order and bytes are those of the archive, numbers of the venue included; two clients are served side by side."""
    day = CapturedDay(feed).archive(tmp_path)
    lists = {
        "kalshi": {"id": 1, "cmd": "subscribe"}
        | {"params": {"channels": ["orderbook_delta"], "market_tickers": [day.symbols[0]]}},
        "binance": {"id": 1, "method": "SUBSCRIBE", "params": [f"{day.symbols[0].lower()}@trade"]},
    }
    wanted = {"kalshi": {"orderbook_snapshot", "orderbook_delta"}, "binance": {"trade"}}
    expected = [w for channel, s, w in day.wires if channel in wanted[feed] and s == day.symbols[0]]
    assert expected

    async def run() -> None:
        async with replay(feed, DATE, "--speed", "max", "--data", tmp_path) as running:
            url = await running.url()
            async with connect(url, compression=None) as one, connect(url, compression=None) as other:
                await asyncio.gather(*(ws.send(json.dumps(lists[feed])) for ws in (one, other)))
                got = await asyncio.gather(everything(one), everything(other))
            code, out, err = await running.end()
        assert code == 0, err
        for said in got:
            assert said[1:] == expected  # after the acknowledgement
        assert f"{len(day.data):,} frames served, {2 * len(expected):,} sent to clients" in out

    asyncio.run(run())


def test_a_window_of_the_day_begins_with_the_books_of_that_time(tmp_path: Path) -> None:
    day, later = CapturedDay("kalshi"), CapturedDay("kalshi", hour=11)
    keep(tmp_path, "kalshi", iter([*day.messages, *later.messages]))
    symbol = day.symbols[0]

    async def run() -> list[bytes]:
        window = ("--start", "10:00", "--end", "24:00")
        params = {"channels": ["orderbook_delta"], "market_tickers": [symbol]}
        async with (
            replay("kalshi", DATE, "--speed", "max", *window, "--data", tmp_path) as running,
            connect(await running.url(), compression=None) as ws,
        ):
            await ws.send(json.dumps({"id": 1, "cmd": "subscribe", "params": params}))
            return await everything(ws)

    _, first, *rest = asyncio.run(run())
    assert json.loads(first)["type"] == "orderbook_snapshot" and json.loads(first)["msg"]["yes_dollars_fp"]
    kinds = {"orderbook_snapshot", "orderbook_delta"}
    assert rest == [w for channel, s, w in later.wires if channel in kinds and s == symbol]


def test_frames_keep_their_distance(tmp_path: Path) -> None:
    """Two seconds at four times their speed take half a second at least."""
    day = CapturedDay("kalshi").archive(tmp_path)

    async def run() -> dict[str, float]:
        async with replay("kalshi", DATE, "--speed", "4", "--json", "--data", tmp_path) as running:
            async with connect(await running.url(), compression=None) as ws:
                for command in subscribed(day):
                    await ws.send(command)
                await everything(ws)
            _, out, _ = await running.end()
            return dict(json.loads(out))

    told = asyncio.run(run())
    assert told["seconds"] >= 0.99 * told["recorded_seconds"] / 4 and told["speed"] <= 4.05


def test_what_came_on_two_connections_is_served_once(tmp_path: Path) -> None:
    """A connection that is about to end, and its successor."""
    day = CapturedDay("binance")
    successor = day.conn.replace("-0-", "-1-")
    both = [(c, s, m) for c, s, m in day.messages]
    twice = [(c, s, m.replace(day.conn.encode(), successor.encode())) for c, s, m in both]
    keep(tmp_path, "binance", (message for pair in zip(both, twice, strict=True) for message in pair))

    async def run() -> list[bytes]:
        async with (
            replay("binance", DATE, "--speed", "max", "--data", tmp_path) as running,
            connect(await running.url(), compression=None) as ws,
        ):
            for command in subscribed(day):
                await ws.send(command)
            return await everything(ws)

    data = set(day.data)
    assert [wire for wire in asyncio.run(run()) if wire in data] == day.data


def test_ctrl_c_ends_it_and_it_says_what_it_did(tmp_path: Path) -> None:
    CapturedDay("kalshi").archive(tmp_path)

    async def run() -> tuple[int, str, str]:
        async with replay("kalshi", DATE, "--data", tmp_path) as running:
            await running.url()
            running.process.send_signal(signal.SIGINT)
            return await running.end()

    code, out, err = asyncio.run(run())
    assert code == 130 and "0 frames served" in out and "interrupted" in out
    assert "Traceback" not in err


# ------------------------------------------------------------------------------------------------------ refusals


def _flip(tmp_path: Path, manifest: archive.Manifest) -> Path:
    segment = next(s for s in manifest.segments if s.channel == "orderbook_delta")
    path = archive.day_folder(tmp_path / "archive", "kalshi", DATE) / segment.name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("to", ["ws", "nats"])
def test_a_changed_byte_is_refused_and_not_served(tmp_path: Path, nats_server: NatsServer, to: str) -> None:
    manifest = keep(tmp_path, "kalshi", iter(CapturedDay("kalshi").messages))
    path = _flip(tmp_path, manifest)

    async def run() -> tuple[int, str, str]:
        async with replay("kalshi", DATE, "--to", to, "--nats", nats_server.url, "--data", tmp_path) as running:
            return await running.end()

    code, out, err = asyncio.run(run())
    assert (code, out) == (2, "")
    assert f"error: {path} is damaged" in err and "listening" not in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["kalshi", "2026-08-12"], "2026-08-12 of kalshi is not archived in"),
        (["kalshi", "2026-13-01"], "'2026-13-01' is no date"),
        (["nobody", DATE], "there is no feed 'nobody'"),
        (["kalshi", DATE, "--speed", "0"], "--speed 0: is neither a factor above 0 nor `max`"),
        (["kalshi", DATE, "--start", "25:00"], "--start 25:00: is no time of day"),
        (["kalshi", DATE, "--start", "12:00", "--end", "11:00"], "--start 12:00: is not before --end 11:00"),
        (["kalshi", DATE, "--start", "23:00"], "has no market data so late"),
        (["kalshi", DATE, "--end", "00:01"], "has no market data so early"),
        (["kalshi", DATE, "--to", "nats", "--name", "Re.play"], "--name Re.play"),
        (["kalshi", DATE, "--to", "nats", "--nats", "nats://127.0.0.1:1"], "no NATS answers at nats://127.0.0.1:1"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path: Path, arguments: list[str], says: str) -> None:
    CapturedDay("kalshi", seconds=0.2).archive(tmp_path)

    async def run() -> tuple[int, str, str]:
        async with replay(*arguments, "--data", tmp_path) as running:
            return await running.end()

    code, out, err = asyncio.run(run())
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert (code, out) == (2, "") and says in line and "Traceback" not in err


# ---------------------------------------------------------------------------------------------------------- NATS


async def heard(url: str, subject: str, run: Callable[[], Awaitable[None]]) -> list[Msg]:
    """What a plain subscriber gets meanwhile."""
    client: Client = await nats.connect(url)
    got: list[Msg] = []

    async def on_message(msg: Msg) -> None:
        got.append(msg)

    await client.subscribe(subject, cb=on_message)
    await client.flush()
    await run()
    await client.flush()
    await client.drain()
    return got


@pytest.mark.parametrize("feed", FEEDS)
def test_on_nats_each_frame_comes_as_its_connector_published_it(
    tmp_path: Path, nats_server: NatsServer, feed: str
) -> None:
    day = CapturedDay(feed).archive(tmp_path)

    async def run() -> None:
        arguments = (feed, DATE, "--to", "nats", "--nats", nats_server.url, "--speed", "max", "--data", tmp_path)
        async with replay(*arguments) as running:
            code, out, err = await running.end()
        assert code == 0, err
        assert f"{len(day.messages):,} frames published" in out

    got = asyncio.run(heard(nats_server.url, f"replay.{feed}.json.>", run))
    assert [(msg.subject, msg.data) for msg in got] == [
        (subjects.frame("replay", feed, channel, None if symbol == frames.ALL else symbol), message)
        for channel, symbol, message in day.messages
    ]


def test_the_normalizer_understands_a_replay(tmp_path: Path, nats_server: NatsServer) -> None:
    """Every event of the day, and no gap but those that it had."""
    day = CapturedDay("kalshi").archive(tmp_path)
    expected = [
        (event.symbol, type(event).__name__)
        for channel, _, wire in day.wires
        for event in day.venue.events(DATE)(channel, wire)
    ]

    async def run() -> None:
        stop, telemetry = asyncio.Event(), Telemetry("normalizer")
        normalizer = Normalizer("replay", "kalshi", day.venue, nats_server.url, configure_logging())
        running = asyncio.create_task(normalizer.run(stop, telemetry))
        async with asyncio.timeout(30):
            while telemetry.waiting():
                await asyncio.sleep(0.05)
        to = ("--to", "nats", "--nats", nats_server.url, "--speed", "max")
        async with replay("kalshi", DATE, *to, "--data", tmp_path) as replaying:
            code, _, err = await replaying.end()
        assert code == 0, err
        async with asyncio.timeout(30):
            while telemetry.status()["frames"] != len(day.messages):
                await asyncio.sleep(0.05)
        assert telemetry.status()["missed"] == 0
        stop.set()
        await running

    got = [capnp.decode(msg.data).event for msg in asyncio.run(heard(nats_server.url, "replay.kalshi.*.*", run))]
    assert [(event.symbol, type(event).__name__) for event in got] == expected  # type: ignore[union-attr]


def test_what_a_stream_would_keep_is_refused(tmp_path: Path, nats_server: NatsServer) -> None:
    CapturedDay("kalshi", seconds=0.2).archive(tmp_path)

    async def run() -> None:
        client = await nats.connect(nats_server.url)
        jetstream = client.jetstream()
        try:
            for stream, kept, name in (
                (subjects.stream("local", "kalshi"), subjects.raw("local", "kalshi"), "local"),
                ("EVERYTHING", ["replay.*.json.trade.>"], "replay"),
            ):
                await jetstream.add_stream(name=stream, subjects=kept)
                before = (await jetstream.stream_info(stream)).state.messages
                to = ("--to", "nats", "--nats", nats_server.url, "--name", name)
                async with replay("kalshi", DATE, *to, "--data", tmp_path) as running:
                    code, out, err = await running.end()
                assert (code, out) == (2, "")
                assert f"stream {stream} at {nats_server.url} keeps {name}.kalshi.json.>" in err
                assert (await jetstream.stream_info(stream)).state.messages == before
                await jetstream.delete_stream(stream)
        finally:
            await client.close()

    asyncio.run(run())
