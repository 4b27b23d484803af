"""Long work from within an activity: with heartbeats, an end when it is cancelled, and a bounded number of threads."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import BinaryIO, TypeVar

from temporalio import activity
from temporalio.exceptions import CancelledError

from ssmd import durable, jobs
from ssmd.errors import Transient
from ssmd.published import Named
from ssmd.storage import READ_BYTES, Missing, Store

LOOK_SECONDS = 0.5
FETCHED_AT_ONCE = 8

R = TypeVar("R")
T = TypeVar("T")


class Together:
    """Work on many files at once, a bounded number, from within an activity: with heartbeats, stopped with it."""

    def __init__(self, parallel: int, doing: str, total: int) -> None:
        self._threads = ThreadPoolExecutor(parallel, "storage")
        self._doing = doing
        self._total = total
        self._lock = threading.Lock()
        self._done = 0
        self._stopped = False

    def __enter__(self) -> "Together":
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._threads.shutdown(wait=True, cancel_futures=True)

    def tell(self, more: int) -> None:
        """Called by the work every few MB. Raises Transient if it shall stop."""
        if self._stopped:
            raise Transient(f"{self._doing}: stopped")
        with self._lock:
            self._done += more

    def run(self, work: Callable[[Named], R], files: list[Named]) -> list[R]:
        """The results in order. The first failure ends all of it."""
        futures = [self._threads.submit(work, file) for file in files]
        waiting: set[Future[R]] = set(futures)
        while waiting:
            activity.heartbeat(jobs.Progress(self._doing, self._done, self._total))
            finished, waiting = wait(waiting, LOOK_SECONDS, FIRST_COMPLETED)
            for future in finished:
                future.result()
            go_on(self._doing)
        return [future.result() for future in futures]


def meanwhile(doing: str, read: Callable[[], R]) -> R:
    """What `read` gives, which may take long and says nothing of itself; if we are cancelled, it is left to itself."""
    threads = ThreadPoolExecutor(1, "reading")
    try:
        reading = threads.submit(read)
        while True:
            activity.heartbeat(jobs.Progress(doing))
            go_on(doing)
            finished, _ = wait([reading], LOOK_SECONDS)
            if finished:
                return reading.result()
    finally:
        threads.shutdown(wait=False)


def beating(doing: str, some: Iterable[T]) -> Iterator[T]:
    """Each of them, with a heartbeat in between, so often as one is due."""
    due = 0.0
    for one in some:
        if time.monotonic() >= due:
            activity.heartbeat(jobs.Progress(doing))
            go_on(doing)
            due = time.monotonic() + LOOK_SECONDS
        yield one


def go_on(doing: str) -> None:
    """Raise if the activity shall end."""
    if activity.is_cancelled():
        raise CancelledError(f"{doing}: cancelled")
    if activity.is_worker_shutdown():
        raise Transient(f"this worker stops; {doing} is gone on with by the next")


def fetch(store: Store, files: list[Named], root: Path, doing: str, *, lacking: bool = False) -> None:
    """Bring objects into a folder, each under its path. Raises Missing, or (`lacking`) leaves out what is not there."""

    def bring(file: Named) -> None:
        found = store.stat(file.path)
        if found is None:
            if lacking:
                return
            raise Missing(f"{store.url}/{file.path} is not there")
        size = found.bytes

        def write(out: BinaryIO) -> None:
            for start in range(0, size, READ_BYTES):
                piece = store.read(file.path, start, min(start + READ_BYTES, size))
                out.write(piece)
                together.tell(len(piece))

        durable.make_folder((root / file.path).parent)
        durable.replace_by(root / file.path, write)

    with Together(FETCHED_AT_ONCE, doing, sum(f.bytes for f in files)) as together:
        together.run(bring, files)
