"""Does a channel keep its rhythm? Silence is suspicious only where frames used to come all the time.

Looked at every half second. A channel is known after it was heard between `KNOWN_LOOKS` of these; its longest
pause so far, slowly forgotten, says what is usual. A quiet market has long pauses and is never suspected soon.
"""

from collections.abc import Iterable
from dataclasses import dataclass

KNOWN_LOOKS = 60
SUSPECT_SECONDS = 2.5  # at least; then the venue is asked
SUSPECT_PAUSES = 4.0  # times the longest usual pause
ANSWER_SECONDS = 1.5  # the venue answers commands within milliseconds; so all is told within 5 s
FORGET = 0.999  # per second: half after 12 minutes


@dataclass
class _Channel:
    last: float
    longest: float = 1.0
    looks: int = 0
    asked: float = 0.0  # when the venue was asked in this silence; 0: it was not
    patience: float = 1.0  # doubled by each silence that the venue explained


class Rhythm:
    """The channels of a feed, over all its connections. Times are seconds of any steady clock."""

    def __init__(self) -> None:
        self._channels: dict[str, _Channel] = {}

    def connected(self, now: float) -> None:
        """A new connection: what is usual is still known, and every silence begins anew."""
        for channel in self._channels.values():
            channel.last, channel.asked, channel.patience = now, 0.0, 1.0

    def heard(self, channels: Iterable[str], now: float) -> None:
        """Frames of these channels came since the last look."""
        for name in channels:
            channel = self._channels.get(name)
            if channel is None:
                channel = self._channels[name] = _Channel(now)
            pause = now - channel.last
            channel.longest = max(channel.longest * FORGET**pause, pause)
            channel.last = now
            channel.looks += 1
            channel.asked = 0.0
            channel.patience = 1.0

    def suspects(self, now: float) -> list[str]:
        """Channels that fell silent and about which the venue is to be asked now."""
        found = []
        for name, channel in self._channels.items():
            limit = max(SUSPECT_SECONDS, SUSPECT_PAUSES * channel.longest) * channel.patience
            if channel.looks >= KNOWN_LOOKS and not channel.asked and now - channel.last > limit:
                channel.asked = now
                found.append(name)
        return found

    def answered(self) -> None:
        """The venue answered and nothing was missed: the silence is genuine."""
        for channel in self._channels.values():
            if channel.asked:
                channel.asked = 0.0
                channel.patience *= 2

    def stale(self, now: float) -> list[tuple[str, float]]:
        """Channels whose silence the venue did not explain in time, and for how long they have been silent."""
        late = {name for name, seconds in self.unexplained(now) if seconds > ANSWER_SECONDS}
        return [(name, now - channel.last) for name, channel in self._channels.items() if name in late]

    def unexplained(self, now: float) -> list[tuple[str, float]]:
        """Channels about which the venue was asked, and for how long it has not answered."""
        return [(name, now - channel.asked) for name, channel in self._channels.items() if channel.asked]
