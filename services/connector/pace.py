"""How fast connections may be tried: venues count attempts, and shut out who makes too many."""

BURST = 5.0  # attempts at once, after a quiet time


class Pace:
    """Attempts of one process, over all its connections. Times are seconds of any steady clock."""

    def __init__(self, per_minute: float | None) -> None:
        self._per_second = None if per_minute is None else per_minute / 60
        self._allowed = BURST
        self._at = 0.0

    def wait(self, now: float) -> float:
        """Take the next turn: in how many seconds it is."""
        if self._per_second is None:
            return 0.0
        self._allowed = min(BURST, self._allowed + max(0.0, now - self._at) * self._per_second) - 1
        self._at = now
        return max(0.0, -self._allowed / self._per_second)
