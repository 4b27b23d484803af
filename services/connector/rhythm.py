"""Does a channel keep its rhythm? Silence is suspicious only where frames used to come all the time.

Looked at four times a second. A channel is known after it was heard between `KNOWN_LOOKS` of these; its longest pause
so far, slowly forgotten, says what is usual. A quiet market has long pauses and is never suspected soon. About one that
is, the venue is asked; only what comes on the channel itself, or an answer that is about it, settles the matter.

Times are seconds of `felt` time: whoever was kept from looking, on a busy machine, has not heard silence meanwhile.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

LOOK_SECONDS = 0.25
KNOWN_LOOKS = 100
SUSPECT_SECONDS = 1.5  # at least; then the venue is asked
SUSPECT_PAUSES = 4.0  # times the longest usual pause
ANSWER_SECONDS = 2.25  # the venue answers commands within milliseconds; with looks all is told after 4.25 s of 6
FORGET = 0.999  # per second: half after 12 minutes


@dataclass
class _Channel:
    last: float
    last_ns: int = 0  # ts_recv of its latest frame
    longest: float = LOOK_SECONDS
    looks: int = 0
    asked: float = 0.0  # when the venue was asked in this silence; 0: it was not
    again: float = 0.0  # when to ask once more
    patience: float = 1.0  # doubled by each silence that the venue explained


class Rhythm:
    """The channels of one place among a feed's connections."""

    def __init__(self) -> None:
        self._channels: dict[str, _Channel] = {}
        self._felt = 1.0
        self._looked: float | None = None

    def felt(self, now: float) -> float:
        """The time by which all else here goes; `now` is that of any steady clock."""
        if self._looked is not None:
            self._felt += min(max(0.0, now - self._looked), 2 * LOOK_SECONDS)
        self._looked = now
        return self._felt

    def connected(self, now: float, now_ns: int) -> None:
        """A new connection: what is usual is still known, and every silence begins anew."""
        for channel in self._channels.values():
            channel.last, channel.last_ns, channel.asked, channel.patience = now, now_ns, 0.0, 1.0

    def heard(self, channels: Mapping[str, int], now: float) -> None:
        """Frames of these channels came since the last look, their latest at so many ns."""
        for name, last_ns in channels.items():
            channel = self._channels.get(name)
            if channel is None:
                channel = self._channels[name] = _Channel(now)
            pause = now - channel.last
            channel.longest = max(channel.longest * FORGET**pause, pause)
            channel.last, channel.last_ns = now, last_ns
            channel.looks += 1
            channel.asked = 0.0
            channel.patience = 1.0

    def suspects(self, now: float) -> list[str]:
        """Channels that fell silent and about which the venue is to be asked now, perhaps once more."""
        found = []
        for name, channel in self._channels.items():
            if channel.looks < KNOWN_LOOKS:
                continue
            limit = max(SUSPECT_SECONDS, SUSPECT_PAUSES * channel.longest) * channel.patience
            if not channel.asked:
                if now - channel.last <= limit:
                    continue
                channel.asked = now
            elif now < channel.again:
                continue
            channel.again = now + ANSWER_SECONDS
            found.append(name)
        return found

    def answered(self, channels: Iterable[str]) -> None:
        """The venue answered about these, and nothing was missed: their silence is genuine."""
        for name in channels:
            channel = self._channels.get(name)
            if channel is not None and channel.asked:
                channel.asked = 0.0
                channel.patience *= 2

    def stale(self, now: float) -> list[tuple[str, float, int]]:
        """Channels whose silence the venue did not explain in time, for how long they have been silent, and when
        their latest frame came."""
        late = {name for name, seconds in self.unexplained(now) if seconds > ANSWER_SECONDS}
        return [(name, now - c.last, c.last_ns) for name, c in self._channels.items() if name in late]

    def unexplained(self, now: float) -> list[tuple[str, float]]:
        """Channels about which the venue was asked, and for how long it has not answered."""
        return [(name, now - channel.asked) for name, channel in self._channels.items() if channel.asked]
