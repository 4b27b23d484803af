"""Venue, connector, NATS, archiver in a row: what a frame costs as the load and the number of symbols grow."""

import contextlib
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import corpus, parts
from bench.figures import Curve, Measured, Row
from bench.size import Size

MARKETS = 12
BODY_FRAMES = 60_000
SYMBOLS_RATE = 20_000
WARM_FRAMES = 5_000  # in a second, before anything is measured: whatever is done once is done
WAIT_SECONDS = 60.0
PARTS = ("connector", "archiver", "nats")
Costs = dict[str, float]  # part -> µs of CPU per frame


@dataclass
class Chain:
    """All of it, running."""

    blaster: parts.Blaster
    nats: parts.Nats
    archiver: parts.Service
    connector: parts.Connector
    sent: int = 0

    @property
    def parts(self) -> dict[str, parts.Part]:
        return {"connector": self.connector, "archiver": self.archiver, "nats": self.nats}

    def at(self, count: int, rate: float) -> Costs:
        """Send so many frames, wait until all are archived; what each part did for a frame."""
        before = {name: part.cpu_seconds for name, part in self.parts.items()}
        self.blaster.send(count, rate)
        self.blaster.sent(WAIT_SECONDS)
        self.sent += count
        parts.until(lambda: self.connector.caught_up(self.sent), "JetStream has acknowledged all", WAIT_SECONDS)
        parts.until(self.archived, "all is archived", WAIT_SECONDS)
        return {name: (part.cpu_seconds - before[name]) / count * 1e6 for name, part in self.parts.items()}

    def archived(self) -> bool:
        status = self.archiver.status
        return bool(status) and status["archived"] >= self.sent and not status["buffered_bytes"]


@contextlib.contextmanager
def chain(folder: Path, frames: corpus.Corpus, through: Sequence[str] = ()) -> Iterator[Chain]:
    with contextlib.ExitStack() as stack:
        blaster = stack.enter_context(parts.Blaster(folder, frames))
        server = stack.enter_context(parts.Nats(folder))
        config = parts.configure(folder, server, blaster, frames.symbols)
        archiver = stack.enter_context(parts.Service("archiver", folder, config, through))
        connector = stack.enter_context(parts.Connector(folder, config, blaster, through))
        parts.until(lambda: archiver.ready, "the archiver is ready")
        running = Chain(blaster, server, archiver, connector, blaster.opening)
        running.at(WARM_FRAMES, WARM_FRAMES)
        yield running


def load(size: Size) -> Measured:
    """Ever higher rates, one after the other."""
    found: dict[int, list[Costs]] = {}
    frames = corpus.make(BODY_FRAMES, MARKETS)
    for _ in range(size.rounds):
        with parts.scratch() as folder, chain(folder, frames) as running:
            for rate in size.rates:
                found.setdefault(rate, []).append(running.at(int(rate * size.seconds), rate))
    return Measured(
        rows("cost of a frame", found, lambda rate: f"{rate:,} frames/s (×{rate // size.rates[0]})"),
        curves("load", found),
    )


def symbols(size: Size) -> Measured:
    """Ever more of them, each time from the start."""
    found: dict[int, list[Costs]] = {}
    made = {markets: corpus.make(BODY_FRAMES, markets) for markets in size.markets}
    for _ in range(size.rounds):
        for markets, frames in made.items():
            with parts.scratch() as folder, chain(folder, frames) as running:
                found.setdefault(markets, []).append(running.at(int(SYMBOLS_RATE * size.seconds), SYMBOLS_RATE))
    return Measured(rows("cost of a frame", found, lambda markets: f"{markets:,} symbols"), curves("symbols", found))


def rows(what: str, found: dict[int, list[Costs]], name: Callable[[int], str]) -> list[Row]:
    """The most against the least, for each of our parts."""
    least, most = min(found), max(found)
    return [
        Row(
            f"{what}: {part}, {name(most)}",
            "µs of CPU",
            [costs[part] for costs in found[most]],
            f"the same with {name(least)}",
            [costs[part] for costs in found[least]],
            more_is_better=False,
        )
        for part in ("connector", "archiver")
    ]


def curves(picture: str, found: dict[int, list[Costs]]) -> list[Curve]:
    xs = sorted(found)
    return [
        Curve(picture, part, [float(x) for x in xs], [statistics.median(c[part] for c in found[x]) for x in xs])
        for part in PARTS
    ]
