"""How long an event loop of ours does nothing else, and what the garbage collector has to do with it.

python -m bench.pauses watch WAY MODULE … runs a module as it is, with a timer in its event loop that is due each
millisecond: how late it comes is how long everything else had to wait. SIGUSR1 begins anew, SIGUSR2 tells.
"""

import asyncio
import functools
import gc
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import msgspec
import uvloop

from bench import chain, corpus, latency, parts
from bench.figures import Measured, Row, Table, number
from bench.size import Size

RATE = 5_000
LIMIT_US = 5_000.0
COLLECTED_RATES = (RATE, 40_000)
TICK_SECONDS = 0.001
SETTLE_SECONDS = 0.5  # what is on its way arrives, and the watch is set
MARKETS, BODY_FRAMES = latency.MARKETS, latency.BODY_FRAMES
THRESHOLDS = (50_000, 20, 100)
SHIPPED = "shipped"
WAYS: dict[str, tuple[str, Callable[[], object]]] = {
    SHIPPED: ("as ssmd ships: what start-up made is frozen", lambda: None),
    "plain": ("Python's own settings", lambda: setattr(gc, "freeze", lambda: None)),
    "seldom": (f"frozen, and thresholds {THRESHOLDS}", lambda: gc.set_threshold(*THRESHOLDS)),
    "off": ("no collections", gc.disable),
}


class Pauses(msgspec.Struct, frozen=True):
    """What a watch saw. Times are µs; `busy` is the most CPU that the loop's thread used between two ticks.

    `collections` counts those of each generation.
    """

    longest: float
    p99_9: float
    busy: float
    collections: list[int]
    longest_collection: float
    collecting: float


class Collected(NamedTuple):
    """What one way of collecting did at one rate."""

    pauses: Pauses
    cpu_us: float  # of the connector, for a frame


def run(size: Size) -> Measured:
    frames = corpus.make(BODY_FRAMES, MARKETS)
    seconds = 4 * size.seconds
    found: dict[str, list[Pauses]] = {"connector": [], "archiver": [], "relay": []}
    for _ in range(size.rounds):
        for name, pauses in (*ours(frames, seconds).items(), ("relay", relay(frames, seconds))):
            found[name].append(pauses)
    collected = {way: collections(way, frames, 2 * size.seconds) for way in WAYS}
    return Measured(rows(found), tables=[table(collected)])


def ours(frames: corpus.Corpus, seconds: float) -> dict[str, Pauses]:
    """The connector and the archiver, at work for so long."""
    count = int(RATE * seconds)
    with parts.scratch() as folder, chain.chain(folder, frames, through(SHIPPED)) as running:
        watched = {"connector": running.connector, "archiver": running.archiver}
        for part in watched.values():
            begin(part)
        running.at(count, RATE)
        return {name: tell(part) for name, part in watched.items()}


def relay(frames: corpus.Corpus, seconds: float) -> Pauses:
    """As `bench.latency` has it: WebSocket in, core publish out."""
    command = [sys.executable, "-m", *through(SHIPPED), "bench.latency", "relay"]
    with (
        parts.scratch() as folder,
        parts.Blaster(folder, frames) as blaster,
        parts.Nats(folder) as server,
        parts.Part("relay", [*command, blaster.url, server.url], folder) as part,
    ):
        part.told("ready")
        blaster.told("connected")
        blaster.send(RATE, RATE)  # a second to warm up
        blaster.sent()
        begin(part)
        blaster.send(int(RATE * seconds), RATE)
        blaster.sent()
        return tell(part)


def collections(way: str, frames: corpus.Corpus, seconds: float) -> dict[int, Collected]:
    """The connector alone, with the collector set one way, at each rate."""
    found = {}
    with parts.scratch() as folder, parts.Blaster(folder, frames) as blaster, parts.Nats(folder) as server:
        config = parts.configure(folder, server, blaster, frames.symbols)
        with parts.Connector(folder, config, blaster, through(way)) as connector:
            sent = blaster.opening
            for rate in COLLECTED_RATES:
                count = int(rate * seconds)
                begin(connector)
                before = connector.cpu_seconds
                blaster.send(count, rate)
                sent += count
                parts.until(functools.partial(connector.caught_up, sent), "all is acknowledged")
                used = (connector.cpu_seconds - before) / count * 1e6
                found[rate] = Collected(tell(connector), used)
                blaster.sent()
    return found


def through(way: str) -> list[str]:
    """What to put before a module's name so that it is watched."""
    return ["bench.pauses", "watch", way]


def begin(part: parts.Part) -> None:
    os.kill(part.pid, signal.SIGUSR1)
    time.sleep(SETTLE_SECONDS)


def tell(part: parts.Part) -> Pauses:
    os.kill(part.pid, signal.SIGUSR2)
    return msgspec.json.decode(" ".join(part.told("pauses")), type=Pauses)


def rows(found: dict[str, list[Pauses]]) -> list[Row]:
    limit = "a plain relay's: websockets → core publish (limit)"
    return [
        Row(
            f"event loop of the {name}, {RATE:,} frames/s, {what}",
            "µs",
            [seen(pauses) for pauses in found[name]],
            limit,
            [seen(pauses) for pauses in found["relay"]],
            more_is_better=False,
            ours_max=LIMIT_US,
            note=note,
        )
        for name in ("connector", "archiver")
        for what, seen, note in (
            ("longest pause", lambda pauses: pauses.longest, "waiting for a core or a disk included"),
            ("longest stretch of work", lambda pauses: pauses.busy, "CPU between two ticks of a millisecond"),
        )
    ]


def table(collected: dict[str, dict[int, Collected]]) -> Table:
    header = ["collector", "frames/s", "collections (0, 1, 2)", "longest, µs", "in all, µs", "CPU of a frame, µs"]
    lines = [
        [
            WAYS[way][0],
            f"{rate:,}",
            ", ".join(map(str, pauses.collections)),
            number(pauses.longest_collection),
            number(pauses.collecting),
            number(used),
        ]
        for rate in COLLECTED_RATES
        for way, (pauses, used) in ((way, of[rate]) for way, of in collected.items())
    ]
    return Table("The garbage collector in the connector", header, lines)


# ------------------------------------------------------------------------------------------------- in the process


class Watch:
    """Notes how late its ticks come, and what the collector does, since `begin`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        gc.callbacks.append(self._collecting)
        self.begin()
        self._tick(time.monotonic_ns(), time.thread_time_ns())

    def begin(self) -> None:
        self._late: list[int] = []
        self._busy = 0
        self._collections = [0, 0, 0]
        self._longest = self._all = self._began = 0

    def tell(self) -> Pauses:
        late = sorted(self._late) or [0]
        return Pauses(
            longest=late[-1] / 1000,
            p99_9=late[int(len(late) * 0.999)] / 1000,
            busy=self._busy / 1000,
            collections=self._collections,
            longest_collection=self._longest / 1000,
            collecting=self._all / 1000,
        )

    def _tick(self, due: int, used: int) -> None:
        now, busy = time.monotonic_ns(), time.thread_time_ns()
        self._late.append(max(0, now - due))
        self._busy = max(self._busy, busy - used)
        self._loop.call_later(TICK_SECONDS, self._tick, now + int(TICK_SECONDS * 1e9), busy)

    def _collecting(self, phase: str, info: dict[str, int]) -> None:
        now = time.monotonic_ns()
        if phase == "start":
            self._began = now
            return
        self._collections[info["generation"]] += 1
        self._longest = max(self._longest, now - self._began)
        self._all += now - self._began


def watch(way: str, module: str, arguments: list[str]) -> None:
    """Run a module as `python -m` does, with a watch in the event loop that it starts."""
    run_loop: Callable[..., object] = uvloop.run

    async def watched(main: Coroutine[Any, Any, object]) -> object:
        seen = Watch()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, seen.begin)
        loop.add_signal_handler(
            signal.SIGUSR2, lambda: print("pauses", msgspec.json.encode(seen.tell()).decode(), flush=True)
        )
        return await main

    def run_watched(main: Coroutine[Any, Any, object]) -> object:
        return run_loop(watched(main))

    uvloop.run = run_watched  # type: ignore[assignment]
    WAYS[way][1]()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _, order, *given = sys.argv
    assert order == "watch"
    watch(given[0], given[1], given[2:])
