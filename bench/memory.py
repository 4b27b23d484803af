"""Memory over time: every process of the chain while frames flow at a steady rate."""

import statistics
import time

from bench import chain, corpus, parts
from bench.figures import Curve, Measured, Row
from bench.size import Size

RATE = 5_000
SAMPLE_SECONDS = 1.0
POINTS_MAX = 200  # of a curve
FLAT = 0.95  # the most it held in the second third, against the most in the last: buffers breathe
FILLING = ("nats",)  # its caches fill for minutes: flat is what it has to be over the half hour
MARKETS = 100


def run(size: Size) -> Measured:
    frames = corpus.make(chain.BODY_FRAMES, MARKETS)
    seconds = size.minutes * 60
    times: list[float] = []
    samples: dict[str, list[float]] = {name: [] for name in chain.PARTS}
    with parts.scratch() as folder, chain.chain(folder, frames) as running:
        running.blaster.send(int(seconds * RATE), RATE)
        began = time.monotonic()
        while (now := time.monotonic() - began) < seconds:
            times.append(now / 60)
            for name, part in running.parts.items():
                samples[name].append(part.memory_bytes / 2**20)
            time.sleep(SAMPLE_SECONDS)
        running.blaster.sent()
    third = len(times) // 3
    rows = []
    for name, found in samples.items():
        slope = statistics.linear_regression(times[third:], found[third:]).slope * 60
        rows.append(
            Row(
                f"memory: {name}, {size.minutes:g} min at {RATE:,} frames/s",
                "MB",
                [max(found[2 * third :])],
                "itself in the second third of the time",
                [max(found[third : 2 * third + 1])],
                more_is_better=False,
                ratio_min=FLAT if size.long or name not in FILLING else None,
                note=f"{slope:+.1f} MB/h",
            )
        )
    step = max(1, len(times) // POINTS_MAX)
    picture = "memory-long" if size.long else "memory"
    return Measured(rows, [Curve(picture, name, times[::step], found[::step]) for name, found in samples.items()])
