"""What a process that serves a past day again says of itself: JSON lines on standard output, for `ssmd replay`."""

import asyncio
import sys
from collections.abc import Callable

import msgspec

from ssmd.clock import SECOND_NS
from ssmd.errors import SsmdError
from ssmd.past_day import PastDay

TELL_SECONDS = 0.25


class Interrupted(SsmdError):
    """The operator has had enough while the day was still being read."""


class Told(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """What it is doing now, how much of it is done, of how much; `at_ns` is where in the day it stands.

    `seconds` are left, as far as that is known.
    """

    doing: str
    done: int = 0
    total: int = 0
    at_ns: int = 0
    seconds: float | None = None


class Replayed(msgspec.Struct, frozen=True, tag=True):
    """What was served: `frames` of the day, `sent` to all clients together, and what was `left_out`, by reason."""

    feed: str
    date: str
    to: str
    frames: int
    sent: int
    left_out: dict[str, int]
    seconds: float
    recorded_seconds: float
    complete: bool

    @property
    def speed(self) -> float:
        """How many times as fast as it was recorded."""
        return self.recorded_seconds / self.seconds if self.seconds else 0.0


def tell(what: Told | Replayed) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(what) + b"\n")
    sys.stdout.buffer.flush()


def tell_unsealed(day: PastDay) -> None:
    """Where a day is not sealed yet."""
    if not day.manifest.sealed:
        tell(Told(f"{day.manifest.feed} {day.manifest.date} is not sealed yet: what finished segments hold is served"))


def teller(stop: asyncio.Event) -> Callable[[str, int, int], None]:
    """Tells how far some work in a thread is; raises Interrupted once `stop` is set."""

    def look(doing: str, done: int, total: int) -> None:
        if stop.is_set():
            raise Interrupted(f"interrupted while {doing}")
        tell(Told(doing, done, total))

    return look


def seconds_left(at_ns: int, end_ns: int, speed: float | None, done: int, total: int, seconds: float) -> float | None:
    """By the day's clock, or (as fast as it goes) by how long it took so far."""
    if speed is not None:
        return max(0, end_ns - at_ns) / SECOND_NS / speed
    return seconds * (total - done) / done if done and seconds else None
