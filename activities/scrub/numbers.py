"""Sets of frame numbers, as ranges: which are here, which are missing."""

import re

from activities.scrub.findings import NAMED_MAX
from ssmd import archive

Ranges = archive.Ranges


class Numbers:
    """Which `n` of a connection are here, as ranges; they nearly always come in ascending order."""

    def __init__(self) -> None:
        self._ranges: Ranges = []
        self._sorted = True

    def add(self, n: int) -> None:
        ranges = self._ranges
        if ranges and n == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], n)
        elif not (ranges and ranges[-1][0] <= n <= ranges[-1][1]):
            self._sorted = self._sorted and (not ranges or n > ranges[-1][1])
            ranges.append((n, n))

    def add_ranges(self, more: Ranges) -> None:
        self._ranges += more
        self._sorted = False

    @property
    def ranges(self) -> Ranges:
        """Inclusive, ascending, not touching."""
        if not self._sorted:
            merged: Ranges = []
            for a, b in sorted(self._ranges):
                if merged and a <= merged[-1][1] + 1:
                    merged[-1] = (merged[-1][0], max(b, merged[-1][1]))
                else:
                    merged.append((a, b))
            self._ranges, self._sorted = merged, True
        return self._ranges

    def holds(self, first: int, last: int) -> bool:
        return any(a <= first and last <= b for a, b in self.ranges)


class Marks:
    """Which of the frames `first`..`last` of a connection were met: a byte for each, because channels interleave."""

    def __init__(self, first: int, last: int) -> None:
        self.first = first
        self._met = bytearray(last - first + 1)
        self.doubled = Numbers()
        self.outside = Numbers()

    def meet(self, n: int) -> None:
        i = n - self.first
        if not 0 <= i < len(self._met):
            self.outside.add(n)
        elif self._met[i]:
            self.doubled.add(n)
        else:
            self._met[i] = 1

    @property
    def count(self) -> int:
        return self._met.count(1)

    def missing(self) -> Ranges:
        """What was not met, as ranges."""
        return [
            (self.first + run.start(), self.first + run.end() - 1) for run in re.finditer(rb"\x00+", bytes(self._met))
        ]

    def met(self, first: int, last: int) -> bool:
        """Whether any of these frames was met."""
        return any(self._met[max(0, first - self.first) : max(0, last - self.first + 1)])


def in_words(conn: str, ranges: Ranges) -> str:
    """Frame numbers for a reader."""
    named = ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in ranges[:NAMED_MAX])
    more = f" and {len(ranges) - NAMED_MAX} more ranges" if len(ranges) > NAMED_MAX else ""
    return f"{conn} n {named}{more}"


def how_many(ranges: Ranges) -> int:
    return sum(b - a + 1 for a, b in ranges)


def holes(ranges: Ranges, first: int, last: int) -> Ranges:
    """What is missing of first..last."""
    return minus([(first, last)], ranges)


def minus(ranges: Ranges, less: Ranges) -> Ranges:
    """`ranges` without `less`; both ascending."""
    left: Ranges = []
    i = 0
    for first, last in ranges:
        at = first
        while i < len(less) and less[i][1] < at:
            i += 1
        j = i
        while j < len(less) and less[j][0] <= last:
            if less[j][0] > at:
                left.append((at, less[j][0] - 1))
            at = max(at, less[j][1] + 1)
            j += 1
        if at <= last:
            left.append((at, last))
    return left


def common(ranges: Ranges, others: Ranges) -> Ranges:
    """What is in both."""
    return minus(ranges, minus(ranges, others))
