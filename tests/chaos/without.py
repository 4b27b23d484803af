"""python tests/chaos/without.py DEFENCE MODULE …: a service with one defence switched off, for the controls."""

import os
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def dedup() -> None:
    """The archiver takes what it has already."""
    from services.archiver.ranges import Numbers

    add = Numbers.add
    Numbers.add = lambda self, n: add(self, n) or True  # type: ignore[method-assign]


def numbering() -> None:
    """The adapter does not watch the venue's own numbers."""
    from exchanges.kalshi.adapter import KalshiAdapter

    def unexpected(self: KalshiAdapter, head, sid, route):  # type: ignore[no-untyped-def]
        sid.last = head.seq
        return route

    KalshiAdapter._unexpected = unexpected  # type: ignore[method-assign]


def fsync() -> None:
    """Nothing is forced to disk."""
    os.fsync = os.fdatasync = lambda fd: None


def syncs_noted() -> None:
    """No defence off, but each completed sync is noted in $SSMD_SYNCS: time, file, how much of it is on disk."""
    from ssmd import durable

    sync = durable.Appender.sync
    log = Path(os.environ["SSMD_SYNCS"]).open("a", buffering=1)  # noqa: SIM115  # for the life of the process

    def noted(self: durable.Appender) -> None:
        size = self.size
        sync(self)
        log.write(f"{time.time_ns()} {self.path} {size}\n")

    durable.Appender.sync = noted  # type: ignore[method-assign]


def fsync_and_syncs_noted() -> None:
    """The notes go on, the syncs are none."""
    fsync()
    syncs_noted()


def steady_clock() -> None:
    """The wall clock is off by what $SSMD_CLOCK says (ns), and steps when that changes."""
    told = Path(os.environ["SSMD_CLOCK"])
    now, monotonic = time.time_ns, time.monotonic
    state = [0.0, 0]

    def stepped() -> int:
        if monotonic() > state[0]:
            state[:] = [monotonic() + 0.1, int(told.read_text() or 0)]
        return now() + int(state[1])

    time.time_ns = stepped
    time.time = lambda: stepped() / 1e9


DEFENCES: dict[str, Callable[[], None]] = {
    made.__name__: made for made in (dedup, numbering, fsync, syncs_noted, fsync_and_syncs_noted, steady_clock)
}

if __name__ == "__main__":
    defence, module = sys.argv[1:3]
    sys.path.insert(0, str(ROOT))
    DEFENCES[defence]()
    sys.argv = [module, *sys.argv[3:]]
    runpy.run_module(f"{module}.__main__", run_name="__main__")
