"""Faults that venues have, injected on purpose: drawn from a seed, each written into the truth log.

They act on market data after it was numbered, as a fault between a venue's sequencer and its socket does.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from exchanges.port import Record
from ssmd.clock import SECOND_NS

KINDS = ("skip", "duplicate", "swap", "stale", "cut", "oversized", "garbage")
STALE_NS = 20 * SECOND_NS  # or until the client has had enough; a watchdog must bark well before
OVERSIZED_BYTES = (4 << 20) + 1  # one byte more than feeds/*.yaml allow
FRAMES_MIN = 20  # between two faults, so that each is a fault of its own

Put = Callable[[Sequence[bytes]], None]


@dataclass(frozen=True)
class FaultPlan:
    """One fault every so many frames of market data in the mean, of these kinds, from this seed."""

    seed: int
    every: float
    kinds: tuple[str, ...] = KINDS
    after: int = 0  # frames of market data before the first: a client must know the rhythm to miss it


def parse(text: str) -> FaultPlan:
    """`SEED:EVERY[:KIND,KIND…[:AFTER]]`, as the option --faults has it."""
    seed, _, rest = text.partition(":")
    every, _, rest = rest.partition(":")
    kinds, _, after = rest.partition(":")
    chosen = tuple(kinds.split(",")) if kinds else KINDS
    unknown = [kind for kind in chosen if kind not in KINDS]
    try:
        plan = FaultPlan(int(seed), float(every), chosen, int(after or 0))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not SEED:EVERY[:KINDS[:AFTER]]") from None
    if unknown or not plan.every >= FRAMES_MIN:
        raise argparse.ArgumentTypeError(f"faults are {', '.join(KINDS)}, one in {FRAMES_MIN} frames at most")
    return plan


class Faults:
    """Says before each frame of market data whether something happens to it; one for all lines of a simulator."""

    def __init__(self, plan: FaultPlan) -> None:
        self._plan = plan
        self._chance = Random(plan.seed)  # noqa: S311  # repeatable, not secret
        self._left = plan.after + self._pause()
        self.count = 0

    def _pause(self) -> int:
        return FRAMES_MIN + int(self._chance.expovariate(1 / (self._plan.every - FRAMES_MIN + 1)))

    def next(self) -> str | None:
        """The fault that befalls this frame."""
        self._left -= 1
        if self._left > 0:
            return None
        self._left = self._pause()
        self.count += 1
        return self._chance.choice(self._plan.kinds)

    def garbage(self) -> bytes:
        """Bytes that are no JSON: half a frame, noise, text, nothing that a client expects."""
        chance = self._chance
        made = (
            b'{"type":"orderbook_delta","sid":1,"seq":',
            bytes(chance.randrange(256) for _ in range(chance.randint(1, 60))) + b"\xff",
            b"upstream connect error or disconnect/reset before headers",
            b'{"type":"trade","sid":1,"seq":1,"msg":{"market_ticker":"X","price":NaN}}',
            b'{"a":1}\x00',
        )
        return chance.choice(made)


class Tongue:
    """What one line is given to send, faults included."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        # Of this channel and instrument, until the next of the same: venues number no more than that in common.
        self._held: tuple[tuple[str, str | None], Sequence[bytes], int] | None = None  # and since when
        self._silent_until_ns = 0

    def silent(self, now_ns: int) -> bool:
        """The venue has fallen silent, its socket has not."""
        return now_ns < self._silent_until_ns

    def speak(
        self, record: Record, wires: Sequence[bytes], now_ns: int, put: Put, note: Callable[[str, int], None]
    ) -> str | None:
        """Put what is sent for a record; the name of a fault that the line itself must carry out.

        `note` is told a fault and when it began: a swap, when the frame was held back.
        """
        if not wires:
            return None
        if self._held is not None and self._held[0] == (record.channel, record.symbol):
            note("swap", self._held[2])
            put([*wires, *self._held[1]])
            self._held = None
            return None
        kind = self.faults.next() if self._held is None else None
        if kind is None:
            put(wires)
        elif kind == "swap":
            self._held = ((record.channel, record.symbol), wires, now_ns)
        elif kind == "skip":
            note(kind, now_ns)
        elif kind == "duplicate":
            note(kind, now_ns)
            put([*wires, *wires])
        elif kind == "stale":
            put(wires)
            note(kind, now_ns)
            self._silent_until_ns = now_ns + STALE_NS
        elif kind == "garbage":
            put(wires)
        return kind
