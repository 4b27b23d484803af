"""Socket → subscriber: how old a frame is when another process has it from NATS, beside a plain relay.

python -m bench.latency listen NATS is that other process: a blocking socket that speaks just enough of NATS, so that
nothing of the age is its own. `reset` and `report` on stdin.
python -m bench.latency relay URL NATS is the relay: WebSocket in, core publish out, nothing kept (the limit).
"""

import asyncio
import contextlib
import json
import re
import select
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import nats
import uvloop
from websockets.asyncio.client import connect

from bench import corpus, parts
from bench.figures import Curve, Measured, Row, Table, number
from bench.size import Size
from ssmd import subjects

RATES = (1_000, 5_000, 20_000)
TARGET_RATE = 5_000
TARGETS_US = {50.0: 300.0, 99.0: 1_000.0}  # at that rate
MARKETS = 12
BODY_FRAMES = 60_000
LONGER = 2  # than other subjects: a stall of 5 ms that the machine has each second or two shall not be luck
RELAY = "plain relay: websockets → core publish (limit)"
SHARES = (50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 100)  # percentiles kept
SUBJECT = f"{subjects.prefix(parts.ENV, parts.FEED)}.json"
STAMP = re.compile(rb'"sent_ns":(\d+)\}')
Ages = dict[float, float]  # percentile -> µs


def run(size: Size) -> Measured:
    """Connector and relay in turn; each round goes through all rates on one connection."""
    found: dict[tuple[str, int], list[Ages]] = {}
    with parts.scratch() as folder:
        frames = corpus.make(BODY_FRAMES, MARKETS)
        with parts.Blaster(folder, frames) as blaster:
            for round_number in range(size.rounds):
                for way in ("ours", "relay"):
                    place = folder / f"{way}-{round_number}"
                    place.mkdir()
                    for rate, ages in once(way, place, blaster, frames, size):
                        found.setdefault((way, rate), []).append(ages)
    return Measured(rows(found), curves(found), [table(found)])


def once(
    way: str, folder: Path, blaster: parts.Blaster, frames: corpus.Corpus, size: Size
) -> Iterator[tuple[int, Ages]]:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(parts.Nats(folder))
        python = [sys.executable, "-m", "bench.latency"]
        if way == "ours":
            config = parts.configure(folder, server, blaster, frames.symbols)
            stack.enter_context(parts.Connector(folder, config, blaster))
        else:
            relaying = stack.enter_context(parts.Part("relay", [*python, "relay", blaster.url, server.url], folder))
            relaying.told("ready")
            blaster.told("connected")
        listener = stack.enter_context(parts.Part("listen", [*python, "listen", server.url], folder))
        listener.told("ready")
        blaster.send(TARGET_RATE, TARGET_RATE)  # a second to warm up
        blaster.sent()
        time.sleep(0.2)  # what is on its way arrives
        for rate in RATES:
            listener.order("reset")
            listener.told("reset")
            count = int(rate * size.seconds * LONGER)
            blaster.send(count, rate)
            blaster.sent()
            listener.order(f"report {count}")
            told = json.loads(" ".join(listener.told("report")))
            yield rate, {float(share): age for share, age in told.items()}


def rows(found: dict[tuple[str, int], list[Ages]]) -> list[Row]:
    made = []
    for rate in RATES:
        for share in (50, 99, 99.9, 100):
            limit = TARGETS_US.get(share) if rate == TARGET_RATE else None
            ours, theirs = ([ages[share] for ages in found[way, rate]] for way in ("ours", "relay"))
            what = f"socket → subscriber, {rate:,} frames/s, {named(share)}"
            made.append(Row(what, "µs", ours, RELAY, theirs, more_is_better=False, ours_max=limit))
    return made


def curves(found: dict[tuple[str, int], list[Ages]]) -> list[Curve]:
    ways = {"ours": "ssmd", "relay": "plain relay"}
    return [
        Curve("latency", f"{ways[way]}, {rate:,} frames/s", list(SHARES), middle(rounds))
        for (way, rate), rounds in sorted(found.items())
    ]


def table(found: dict[tuple[str, int], list[Ages]]) -> Table:
    header = ["", *map(named, SHARES)]
    ways = {"ours": "ssmd", "relay": "relay"}
    lines = [
        [f"{ways[way]}, {rate:,} frames/s", *(number(age) for age in middle(rounds))]
        for (way, rate), rounds in sorted(found.items(), key=lambda item: (item[0][1], item[0][0]))
    ]
    return Table("Socket → subscriber, µs (median of the rounds)", header, lines)


def named(share: float) -> str:
    return f"p{share:g}" if share < 100 else "max"


def middle(rounds: list[Ages]) -> list[float]:
    return [sorted(ages[share] for ages in rounds)[len(rounds) // 2] for share in SHARES]


# ---------------------------------------------------------------------------------------------------- processes


def listen(url: str) -> None:
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port)) as server:
        server.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB %b.> 1\r\nPING\r\n' % SUBJECT.encode())
        data, ages = b"", []
        wanted = 0
        print("ready", flush=True)
        while True:
            readable, _, _ = select.select([server, sys.stdin], [], [], 0.2 if wanted else None)
            if server in readable:
                data += server.recv(1 << 20)
                now = time.monotonic_ns()
                end = 0
                for found in STAMP.finditer(data):
                    ages.append(now - int(found[1]))
                    end = found.end()
                if b"PING\r\n" in data[end:]:
                    server.sendall(b"PONG\r\n")
                    end = len(data)
                data = data[end:]
            if sys.stdin in readable:
                order, *more = sys.stdin.readline().split()
                if order == "reset":
                    ages = []
                    print("reset", flush=True)
                else:
                    wanted = int(more[0])
            if wanted and len(ages) >= wanted:
                ages.sort()
                last = len(ages) - 1
                told = {str(share): ages[round(last * share / 100)] / 1000 for share in SHARES}
                print("report", json.dumps(told), flush=True)
                wanted = 0


async def relay(url: str, nats_url: str) -> None:
    connection = await nats.connect(nats_url)
    async with connect(url, compression=None) as websocket:
        print("ready", flush=True)
        async for wire in websocket:
            await connection.publish(f"{SUBJECT}.frames.all", wire.encode() if isinstance(wire, str) else wire)
        await asyncio.sleep(0)


if __name__ == "__main__":
    if sys.argv[1] == "listen":
        listen(sys.argv[2])
    else:
        with contextlib.suppress(nats.errors.Error):
            uvloop.run(relay(*sys.argv[2:]))
