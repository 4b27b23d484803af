"""`ssmd tail` as a person types it, over a real NATS server."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import nats
import pytest
from nats.aio.client import Client

from ssmd import capnp, config, subjects
from ssmd.cli.tail import as_line
from ssmd.events import BookDelta, BookSnapshot, Event, Gap, Status, Ticker, Trade

SSMD = Path(sys.executable).parent / "ssmd"
ENV, FEED = "local", "kalshi"
NOW = 1_786_410_915_579_000_123
GAP = Gap("g", FEED, "c", ["KX.A"], NOW - 3_000_000_000, NOW, "sequence", "seq 9 after 7")
EVENTS: list[tuple[str, Event | Gap]] = [
    ("trade", Trade("KX.A", NOW, "0.3600", "136.00", "sell", "t1")),
    ("trade", Trade("KX.B", None, "0.5", "1", None, None)),
    ("ticker", Ticker("KX.A", NOW, last="0.36", bid="0.35", bid_size="10", volume="7")),
    ("book", BookSnapshot("KX.A", NOW, [("0.35", "10"), ("0.34", "5")], [])),
    ("book", BookDelta("KX.A", NOW, "bid", "0.35", None, "-10")),
    ("book", BookDelta("KX.A", NOW, "ask", "0.40", "12", None)),
    ("status", Status("KX.A", NOW, "settled", '{"result":\n"yes"}')),
    ("status", GAP),
]
encoder = capnp.Encoder(FEED)


@pytest.fixture
async def platform(tmp_path: Path, nats_server) -> AsyncIterator[tuple[Path, Client]]:  # type: ignore[no-untyped-def]
    """A data folder whose platform runs, as far as its addresses say; and a client of its NATS."""
    (tmp_path / "run").mkdir()
    addresses = config.Addresses(ENV, nats_server.url, "", "", {}, {f"connector-{FEED}": ""}, os.getpid())
    config.addresses_path(tmp_path).write_bytes(msgspec.json.encode(addresses))
    client = await nats.connect(nats_server.url)
    yield tmp_path, client
    await client.close()


async def tailed(platform: tuple[Path, Client], *arguments: str) -> tuple[int, list[str], str]:
    """The exit code, what it showed and what it complained of, while all of EVENTS are published again and again."""
    data, client = platform
    command = [str(SSMD), "tail", FEED, "--data", str(data), *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    ended = asyncio.create_task(process.communicate())
    n = 0
    async with asyncio.timeout(30):
        while not ended.done():
            for kind, event in EVENTS:
                n += 1
                symbol = None if isinstance(event, Gap) else event.symbol
                subject = subjects.normalized(ENV, FEED, kind, symbol)
                await client.publish("local.kalshi.archived.get", b"not for us")
                await client.publish(subject, encoder.encode(event, NOW + n, "c", n, 0))
            await asyncio.sleep(0.05)
    out, err = ended.result()
    assert process.returncode is not None
    return process.returncode, out.decode().splitlines(), err.decode()


async def test_every_kind_of_event_is_a_line(platform: tuple[Path, Client]) -> None:
    code, lines, complaint = await tailed(platform, "--count", str(2 * len(EVENTS)))
    assert (code, complaint) == (0, "")
    assert len(lines) == 2 * len(EVENTS)
    expected = [as_line(capnp.Message(NOW, FEED, "c", 1, 0, event)) for _, event in EVENTS]
    start = expected.index(lines[0])
    assert lines == ((expected * 4)[start:])[: len(lines)], "in the order in which they were published"
    assert lines[0].startswith("2026-08-11 01:15:15.579  ")


async def test_json_is_exact(platform: tuple[Path, Client]) -> None:
    _, lines, _ = await tailed(platform, "--json", "--channel", "trade", "--symbol", "KX.A", "-n", "1")
    said = json.loads(lines[0])
    assert said["kind"] == "trade"
    assert said["event"] == {
        "symbol": "KX.A",
        "ts_event": NOW,
        "price": "0.3600",
        "size": "136.00",
        "side": "sell",
        "trade_id": "t1",
    }
    assert said["conn"] == "c" and said["ts_recv"] == NOW + said["n"]


async def test_gaps_are_shown_whatever_is_asked_for(platform: tuple[Path, Client]) -> None:
    for arguments in (["--channel", "ticker"], ["--symbol", "KX.B"], ["--symbol", "KX.B", "--channel", "status"]):
        _, lines, _ = await tailed(platform, *arguments, "--count", "4")
        assert any("  gap " in line and "sequence of KX.A" in line for line in lines), arguments
        others = [line for line in lines if "  gap " not in line]
        wanted = "  ticker " if "ticker" in arguments else "KX.B"
        assert all(wanted in line for line in others), arguments


async def test_ctrl_c_ends_it_quietly(platform: tuple[Path, Client]) -> None:
    data, client = platform
    command = [str(SSMD), "tail", FEED, "--data", str(data)]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    shown = asyncio.create_task(process.stdout.readline())
    async with asyncio.timeout(20):
        while not shown.done():
            await client.publish(f"{ENV}.{FEED}.trade.x", encoder.encode(EVENTS[0][1], NOW, "c", 1, 0))
            await asyncio.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert (process.returncode, err) == (130, b"")


async def test_a_reader_who_has_seen_enough_ends_it(platform: tuple[Path, Client]) -> None:
    data, client = platform
    line = f"{SSMD} tail {FEED} --data {data} | head -1"
    process = await asyncio.create_subprocess_shell(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    ended = asyncio.create_task(process.communicate())
    async with asyncio.timeout(20):
        while not ended.done():
            await client.publish(f"{ENV}.{FEED}.trade.x", encoder.encode(EVENTS[0][1], NOW, "c", 1, 0))
            await asyncio.sleep(0.05)
    out, err = ended.result()
    assert (out.count(b"\n"), err) == (1, b"")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["kalshi", "--data", "nowhere"], "no platform is running on the data folder nowhere"),
        (["kalshi", "--channel", "trades"], "'trades' is not one of"),
        (["kalshi", "--count", "0"], "invalid value for '--count'"),
    ],
)
def test_what_cannot_be_shown_is_one_sentence(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    done = subprocess.run([str(SSMD), "tail", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert sentence in done.stderr


async def test_an_unknown_feed_and_a_foreign_message_are_one_sentence(platform: tuple[Path, Client]) -> None:
    data, client = platform
    for feed, sentence in {
        "nyse": "there is no feed 'nyse'",
        "deribit": "feed deribit does not run here, only kalshi",
    }.items():
        words = [str(SSMD), "tail", feed, "--data", str(data)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert sentence in done.stderr
    command = [str(SSMD), "tail", FEED, "--data", str(data)]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    ended = asyncio.create_task(process.communicate())
    async with asyncio.timeout(20):
        while not ended.done():
            await client.publish(f"{ENV}.{FEED}.trade.x", b"no message")
            await asyncio.sleep(0.05)
    assert process.returncode == 2
    assert b"local.kalshi.trade.x: 10 bytes are no message of ours" in ended.result()[1]
