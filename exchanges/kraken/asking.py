"""What was asked of Kraken and is not answered yet: asked again in time, given up in the end, never too fast.

Spot answers each symbol of a request by itself, futures each product, and neither says anything of a request that it
did not like the look of. So an instrument is waited for until its own answer has come. Used by both adapters.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from exchanges.port import Notice, Received

ANSWER_NS = 10_000_000_000  # the venue answers in milliseconds; a time limit is not published
ATTEMPTS_MAX = 5
SUBSCRIBE, UNSUBSCRIBE = "subscribe", "unsubscribe"

Subscribed = dict[str, dict[str, None]]  # channel -> its symbols, in order
Write = Callable[[str, str, Sequence[str], int], bytes]  # method, channel, symbols, number -> a text frame


class Asked:
    """One request. `waiting` are the symbols without an answer; a channel that takes none waits for ''."""

    __slots__ = ("attempts", "channel", "deadline_ns", "frame", "method", "number", "once", "resting", "waiting")

    def __init__(self, number: int, method: str, channel: str, symbols: Sequence[str], attempts: int) -> None:
        self.number = number
        self.method = method
        self.channel = channel
        self.waiting = dict.fromkeys(symbols or ("",))
        self.attempts = attempts
        self.once = False  # somebody else looks after it if it fails
        self.resting = False  # refused for asking too fast: to be asked again at the deadline
        self.deadline_ns = 0  # set by the first tick after it was sent
        self.frame = b""  # until it is sent

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(s for s in self.waiting if s)

    def __str__(self) -> str:
        what = ", ".join(self.symbols[:3]) + (f" and {len(self.waiting) - 3} more" if len(self.waiting) > 3 else "")
        return f"{self.method} to {self.channel}" + (f" of {what}" if what else "")


class Asking:
    """All requests of one connection."""

    def __init__(self, write: Write, *, symbols_max: int, per_second: int, then_alone: bool) -> None:
        """`symbols_max` in one request; `per_second` frames; with `then_alone` a second attempt names one at a time."""
        self._write = write
        self._symbols_max = symbols_max
        self._per_second = per_second
        self._then_alone = then_alone
        self._number = 0
        self._asked: dict[int, Asked] = {}
        self._queue: deque[Asked] = deque()
        self._allowed = float(per_second)
        self._ticked_ns = 0

    def ask(
        self, method: str, channel: str, symbols: Sequence[str], *, attempts: int = 1, once: bool = False
    ) -> list[bytes]:
        """Queue requests; returns the frames that may leave now."""
        self._queue_up(method, channel, symbols, attempts, once)
        return self.release()

    def add(self, subscribed: Subscribed, symbols: Iterable[str]) -> list[bytes]:
        """Subscribe every channel to those of `symbols` that it does not have."""
        wanted = list(dict.fromkeys(symbols))
        owed: list[bytes] = []
        for channel, have in subscribed.items():
            new = [s for s in wanted if s not in have]
            have.update(dict.fromkeys(new))
            owed += self.ask(SUBSCRIBE, channel, new) if new else []
        return owed

    def drop(self, subscribed: Subscribed, symbols: Sequence[str]) -> list[bytes]:
        """Unsubscribe every channel from those of `symbols` that it has."""
        owed: list[bytes] = []
        for channel, have in subscribed.items():
            gone = [s for s in symbols if s in have]
            for symbol in gone:
                del have[symbol]
            owed += self.ask(UNSUBSCRIBE, channel, gone) if gone else []
        return owed

    def _queue_up(self, method: str, channel: str, symbols: Sequence[str], attempts: int, once: bool) -> None:
        size = 1 if self._then_alone and attempts > 1 else self._symbols_max
        for some in [symbols[i : i + size] for i in range(0, len(symbols), size)] or [()]:
            asked = Asked(self.next_number(), method, channel, some, attempts)
            asked.frame = self._write(method, channel, some, asked.number)
            asked.once = once
            self._asked[asked.number] = asked
            self._queue.append(asked)

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def release(self) -> list[bytes]:
        frames = []
        while self._queue and self._allowed >= 1:
            asked = self._queue.popleft()
            frames.append(asked.frame)
            asked.frame = b""
            self._allowed -= 1
        return frames

    def numbered(self, number: int) -> Asked | None:
        return self._asked.get(number)

    def find(self, method: str, channel: str, symbol: str) -> Asked | None:
        """The request that an answer without a number is for: the oldest one."""
        return next(
            (a for a in self._asked.values() if a.method == method and a.channel == channel and symbol in a.waiting),
            None,
        )

    def only(self) -> Asked | None:
        """The request that an error without any name must be for, if there is but one."""
        sent = [a for a in self._asked.values() if not a.frame and not a.resting]
        return sent[0] if len(sent) == 1 else None

    def waiting(self, method: str, channel: str) -> set[str]:
        """The symbols asked for and not answered."""
        return {s for a in self._asked.values() if a.method == method and a.channel == channel for s in a.waiting}

    @property
    def subscribing(self) -> bool:
        """Whether a subscription is not answered yet, but for those that somebody else looks after."""
        return any(a.method == SUBSCRIBE and not a.once for a in self._asked.values())

    def answered(self, asked: Asked, symbol: str) -> None:
        asked.waiting.pop(symbol, None)
        if not asked.waiting:
            self._asked.pop(asked.number, None)

    def done(self, asked: Asked) -> None:
        self._asked.pop(asked.number, None)

    def rest(self, asked: Asked) -> bool:
        """Asked too fast: again after a pause. False: it was tried often enough, and is given up."""
        if asked.attempts >= ATTEMPTS_MAX:
            self.done(asked)
            return False
        asked.resting = True
        asked.deadline_ns = 0
        return True

    def tick(self, now_ns: int) -> tuple[list[bytes], list[Notice]]:
        """Frames whose turn has come; answers that have not."""
        if self._ticked_ns:
            passed = max(0, now_ns - self._ticked_ns) / 1e9
            self._allowed = min(self._per_second, self._allowed + passed * self._per_second)
        self._ticked_ns = now_ns
        notices: list[Notice] = []
        for asked in list(self._asked.values()):
            if asked.frame:
                continue
            if not asked.deadline_ns:
                pause_ns = int(1e9 * 2 ** (asked.attempts - 1)) if asked.resting else ANSWER_NS
                asked.deadline_ns = now_ns + pause_ns
            elif now_ns >= asked.deadline_ns:
                self.done(asked)
                if not asked.once:
                    notices += self._again(asked)
        return self.release(), notices

    def _again(self, asked: Asked) -> list[Notice]:
        if asked.attempts >= ATTEMPTS_MAX:
            return [given_up(asked, f"no answer, asked {asked.attempts} times")]
        self._queue_up(asked.method, asked.channel, asked.symbols, asked.attempts + 1, once=False)
        return [] if asked.resting else [Notice("warning", asked.symbols, evidence=f"{asked}: no answer, asking again")]


def given_up(asked: Asked, why: str, symbols: tuple[str, ...] | None = None) -> Notice:
    """The operator is told what will not come."""
    kind = "refused" if asked.method == SUBSCRIBE else "warning"
    return Notice(kind, asked.symbols if symbols is None else symbols, evidence=f"{asked}: {why}")


def with_more(route: Received, owed: Sequence[bytes], notices: Sequence[Notice]) -> Received:
    """A frame's route, and what it makes us send and tell."""
    if not owed and not notices:
        return route
    return route._replace(owed=(*route.owed, *owed), notices=(*route.notices, *notices))
