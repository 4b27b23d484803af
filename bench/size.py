"""How much is measured: enough for figures that can be trusted, or just enough to see that it works."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """`frames` at full rate, `seconds` at a given rate, `minutes` of memory, `rows` of a day that is queried.

    Each comparison is made `rounds` times.
    """

    rounds: int = 3
    frames: int = 100_000
    seconds: float = 2.0
    minutes: float = 2.5
    rows: int = 50_000_000
    markets: tuple[int, ...] = (10, 100, 1_000, 10_000)
    rates: tuple[int, ...] = (5_000, 10_000, 20_000, 40_000)

    @property
    def long(self) -> bool:
        """Whether memory is watched for so long that it is to be kept beside the usual few minutes."""
        return self.minutes >= 10


QUICK = Size(rounds=1, frames=6_000, seconds=0.5, minutes=0.1, rows=100_000, markets=(10, 100), rates=(1_000, 2_000))
