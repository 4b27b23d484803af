"""Processes for CPU work: started when first needed, replaced when one dies, gone when their parent is.

A step that holds the interpreter for minutes would starve its worker's heartbeats, so it runs in a process of its
own. The two share a `Board` of a few bytes: the work says how far it is, the activity says when to stop.
"""

import contextlib
import ctypes
import mmap
import multiprocessing
import os
import signal
import struct
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import pyarrow as pa
from temporalio import activity
from temporalio.exceptions import CancelledError

from ssmd.errors import Transient
from ssmd.jobs import Progress

A = TypeVar("A")
R = TypeVar("R")
Step = TypeVar("Step", bound=Callable[..., object])

_LOOK_SECONDS = 0.25  # how soon a cancellation reaches the work
_BOARD = struct.Struct("<qq")  # done, stop


def in_a_process(step: Step) -> Step:
    """Marks an activity that needs a process of its worker's: it goes to a worker that has one free."""
    step.in_a_process = True  # type: ignore[attr-defined]
    return step


class Stopped(Exception):
    """The work was told to stop, and did."""


class Board:
    """How far the work is, and whether it shall stop: memory that two processes share."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _BOARD.size)

    @property
    def done(self) -> int:
        return int(_BOARD.unpack_from(self._memory)[0])

    def tell(self, done: int) -> None:
        """Called by the work every fraction of a second. Raises Stopped if it shall stop."""
        _, stop = _BOARD.unpack_from(self._memory)
        if stop:
            raise Stopped
        struct.pack_into("<q", self._memory, 0, done)

    def stop(self) -> None:
        struct.pack_into("<q", self._memory, 8, 1)

    def close(self) -> None:
        self._memory.close()


class Processes:
    """A pool of processes, and the way an activity waits for one."""

    def __init__(self, count: int | None = None) -> None:
        self.count = count or os.cpu_count() or 1
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Processes":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, doing: str, total: int, work: Callable[[A, Path], R], task: A) -> R:
        """Have `work(task, board path)` done, with heartbeats, from within an activity.

        Raises CancelledError once the activity is cancelled and the work has stopped, Transient if the process died.
        """
        with tempfile.NamedTemporaryFile(prefix="ssmd-board-") as file:
            file.write(bytes(_BOARD.size))
            file.flush()
            board = Board(Path(file.name))
            try:
                return self._watched(board, doing, total, work, task, Path(file.name))
            finally:
                board.close()

    def _watched(self, board: Board, doing: str, total: int, work: Callable[[A, Path], R], task: A, path: Path) -> R:
        pool = self._running()
        future = None
        try:
            future = pool.submit(work, task, path)
            while True:
                activity.heartbeat(Progress(doing, board.done, total))
                try:
                    return future.result(timeout=_LOOK_SECONDS)
                except NotYet:
                    if activity.is_cancelled():
                        raise CancelledError(f"{doing}: cancelled at {board.done} of {total}") from None
        except BrokenProcessPool as e:
            self._forget(pool)
            raise Transient(
                f"{doing}: a process that worked on it died (killed, or out of memory): trying again"
            ) from e
        finally:
            board.stop()  # whatever ended the wait: nobody wants the rest of the work
            if future is not None:
                future.cancel()

    def _running(self) -> ProcessPoolExecutor:
        with self._lock:
            if self._pool is None:
                # spawn, not fork: the parent's threads (Temporal's, Arrow's) hold locks that a fork would copy shut.
                self._pool = ProcessPoolExecutor(
                    self.count, mp_context=multiprocessing.get_context("spawn"), initializer=_begin
                )
            return self._pool

    def _forget(self, pool: ProcessPoolExecutor) -> None:
        with self._lock:
            if self._pool is pool:
                self._pool = None
        pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    """A pool process: deaf to Ctrl-C, which is for its parent, gone as soon as that is, and one thread's work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        sentinel = parent.sentinel
        threading.Thread(target=lambda: (wait([sentinel]), os._exit(1)), daemon=True).start()
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    pa.set_memory_pool(pa.system_memory_pool())  # so that its memory is kept too
    _keep_memory()


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
_KEPT_BYTES = 64 << 20
_KEPT_AT_ONCE_BYTES = 32 << 20  # the most that glibc takes


def _keep_memory() -> None:
    """Blocks of some MB come and go: having their pages from the kernel each time anew is a twentieth of a rollup."""
    with contextlib.suppress(OSError, AttributeError):  # other C libraries than glibc have no such knob
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        libc.mallopt(_M_MMAP_THRESHOLD, _KEPT_AT_ONCE_BYTES)
        libc.mallopt(_M_ARENA_MAX, 1)  # threads take turns: of memory for each of them none would be used again
