"""Sets of frame numbers as sorted inclusive ranges; nearly always a single one that grows at its end."""

from bisect import bisect_right

from ssmd.archive import Ranges


class Numbers:
    """Which `n` of one connection are here."""

    __slots__ = ("ranges",)

    def __init__(self, ranges: Ranges | None = None) -> None:
        self.ranges: Ranges = [(a, b) for a, b in ranges or []]

    def add(self, n: int) -> bool:
        """Add a number; False if it was here already."""
        ranges = self.ranges
        if ranges and n == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], n)
            return True
        i = bisect_right(ranges, (n, n)) - 1
        if i >= 0 and ranges[i][0] <= n <= ranges[i][1]:
            return False
        if i + 1 < len(ranges) and ranges[i + 1][0] == n:
            return False
        low = high = n
        if i >= 0 and ranges[i][1] == n - 1:
            low = ranges[i][0]
            del ranges[i]
            i -= 1
        if i + 1 < len(ranges) and ranges[i + 1][0] == n + 1:
            high = ranges[i + 1][1]
            del ranges[i + 1]
        ranges.insert(i + 1, (low, high))
        return True

    def grow(self, last: int) -> None:
        """Add every number after the last one up to this."""
        self.ranges[-1] = (self.ranges[-1][0], last)

    def holes(self, first: int, last: int) -> Ranges:
        """What is missing of first..last."""
        missing: Ranges = []
        expected = first
        for a, b in self.ranges:
            if b < expected:
                continue
            if a > last:
                break
            if a > expected:
                missing.append((expected, a - 1))
            expected = b + 1
        if expected <= last:
            missing.append((expected, last))
        return missing

    def joined(self) -> "Numbers":
        """The same numbers, ranges that touch or overlap made one."""
        ranges: Ranges = []
        for a, b in sorted(self.ranges):
            if ranges and a <= ranges[-1][1] + 1:
                ranges[-1] = (ranges[-1][0], max(ranges[-1][1], b))
            else:
                ranges.append((a, b))
        return Numbers(ranges)

    def without(self, missing: Ranges) -> "Numbers":
        """These numbers but for the missing ones."""
        kept = self
        for first, last in missing:
            low = [(a, min(b, first - 1)) for a, b in kept.ranges if a < first]
            high = [(max(a, last + 1), b) for a, b in kept.ranges if b > last]
            kept = Numbers(low + high)
        return kept

    @property
    def last(self) -> int:
        return self.ranges[-1][1] if self.ranges else 0
