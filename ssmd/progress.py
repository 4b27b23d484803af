"""How far a job is, for whoever waits for it: bars with the time left on a terminal, lines elsewhere."""

import sys
import threading
import time
from typing import TYPE_CHECKING, Protocol

from ssmd.jobs import Progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

TELL_SECONDS = 1.0  # between two lines about the same
COUNTED_MAX = 1000  # more than so many are told in percent


class Teller(Protocol):
    """Shows what a job and its steps say of themselves; any thread may call it."""

    def tell(self, progress: Progress) -> None: ...

    def over(self, doing: str) -> None:
        """What was told as `doing` has ended."""
        ...

    def say(self, sentence: str) -> None: ...

    def close(self) -> None: ...


def teller() -> Teller:
    """What suits standard error."""
    if not sys.stderr.isatty():
        return Lines()
    from rich.console import Console  # noqa: PLC0415

    console = Console(stderr=True)
    return Lines() if console.is_dumb_terminal else Bars(console)


class Lines:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: dict[str, tuple[float, str]] = {}

    def tell(self, progress: Progress) -> None:
        share = progress.done
        if progress.total > COUNTED_MAX:
            sentence = f"{progress.doing}: {100 * share // progress.total} %"
        else:
            sentence = f"{progress.doing}: {share} of {progress.total}" if progress.total else progress.doing
        with self._lock:
            now = time.monotonic()
            at, before = self._told.get(progress.doing, (-TELL_SECONDS, ""))
            if sentence == before or now - at < TELL_SECONDS:
                return
            self._told[progress.doing] = now, sentence
        self.say(sentence)

    def over(self, doing: str) -> None:
        pass

    def say(self, sentence: str) -> None:
        sys.stderr.write(sentence + "\n")
        sys.stderr.flush()

    def close(self) -> None:
        pass


class Bars:
    """A row for each thing that is being done; what waits for its turn has none."""

    def __init__(self, console: "Console") -> None:
        from rich import progress  # noqa: PLC0415

        self._lock = threading.Lock()
        self._rows: dict[str, TaskID] = {}
        self._bars = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.TimeElapsedColumn(),
            progress.TextColumn("left"),
            progress.TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._bars.start()

    def tell(self, progress: Progress) -> None:
        with self._lock:
            total = progress.total or None  # None: it moves, but nobody knows how far it is
            if progress.doing not in self._rows:
                if total is not None and not progress.done:
                    return
                self._rows[progress.doing] = self._bars.add_task(progress.doing, total=total)
            self._bars.update(self._rows[progress.doing], completed=progress.done, total=total)

    def over(self, doing: str) -> None:
        with self._lock:
            row = self._rows.pop(doing, None)
            if row is not None:
                self._bars.remove_task(row)

    def say(self, sentence: str) -> None:
        self._bars.console.print(sentence, highlight=False, markup=False)

    def close(self) -> None:
        self._bars.stop()
