"""Books that are doubtful until a new snapshot has come: which, since when, and when to ask for the snapshot again."""

from exchanges.port import Notice
from ssmd.events import GapCause

SNAPSHOT_NS = 10_000_000_000  # a snapshot comes within a second
CALM_NS = 10_000_000_000  # a book that was right for so long is asked for at once when it breaks again
PAUSE_SECONDS_MAX = 60


class _Break:
    __slots__ = ("asked", "attempts", "due_ns", "evidence", "open")

    def __init__(self, evidence: str) -> None:
        self.evidence = evidence
        self.open = True
        self.asked = True  # a snapshot is on its way; else we rest before we ask
        self.attempts = 1
        self.due_ns = 0  # set by the next tick


class Resyncs:
    """The broken books of one connection, each mended by itself."""

    def __init__(self, cause: GapCause) -> None:
        self._cause = cause
        self._breaks: dict[str, _Break] = {}

    def open(self, symbol: str) -> bool:
        found = self._breaks.get(symbol)
        return found is not None and found.open

    def broke(self, symbol: str, evidence: str, since_ns: int) -> tuple[bool, list[Notice]]:
        """Something is missing or wrong. Returns whether to ask for a snapshot at once, and what to tell."""
        notice = Notice("break", (symbol,), self._cause, evidence, since_ns)
        found = self._breaks.get(symbol)
        if found is None:
            self._breaks[symbol] = _Break(evidence)
            return True, [notice]
        was_open, found.open, found.evidence = found.open, True, evidence
        self._rest(found)
        return False, [Notice("warning", (symbol,), self._cause, evidence) if was_open else notice]

    def mended(self, symbol: str) -> list[Notice]:
        """A snapshot has come and is right."""
        found = self._breaks.get(symbol)
        if found is None or not found.open:
            return []
        found.open = False
        found.due_ns = 0
        return [Notice("mended", (symbol,), self._cause, found.evidence)]

    def forget(self, symbol: str) -> list[Notice]:
        """Nobody wants this book any more."""
        told = self.mended(symbol)
        self._breaks.pop(symbol, None)
        return told

    def tick(self, now_ns: int) -> list[str]:
        """The books to ask for now."""
        due = []
        for symbol, found in list(self._breaks.items()):
            if not found.due_ns:
                found.due_ns = now_ns + self._patience_ns(found)
            elif now_ns >= found.due_ns:
                if not found.open:
                    del self._breaks[symbol]
                elif found.asked:
                    self._rest(found)
                else:
                    found.asked = True
                    found.due_ns = 0
                    due.append(symbol)
        return due

    def _rest(self, found: _Break) -> None:
        found.attempts += 1
        found.asked = False
        found.due_ns = 0

    def _patience_ns(self, found: _Break) -> int:
        if not found.open:
            return CALM_NS
        if found.asked:
            return SNAPSHOT_NS
        return int(min(PAUSE_SECONDS_MAX, 2 ** (found.attempts - 2)) * 1e9)
