"""A child process: kept alive, its output in a log, and gone when we are gone."""

import asyncio
import contextlib
import ctypes
import os
import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ssmd.errors import Permanent
from ssmd.service import EXIT_DISK, EXIT_INPUT

BACKOFF_MIN_SECONDS = 0.1
BACKOFF_MAX_SECONDS = 30.0
DISK_BACKOFF_SECONDS = 5.0  # a full disk needs space, not luck
STEADY_SECONDS = 30.0  # having run so long, a process starts from the shortest back-off again
TRIES_MAX = 3  # of a process that was never ready: its trouble is not a passing one
LOG_BYTES_MAX = 16 << 20  # of the log that is carried over a start
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


class Process:
    """One part of the platform as a child in its own session, started again when it dies.

    Its own session, because Ctrl-C in a terminal reaches every process of the foreground group and only the
    supervisor may decide the order of stopping. PR_SET_PDEATHSIG, so that nothing is left running if the
    supervisor itself is killed; it fires when the *thread* that started the child ends: start from the main one.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        tell: Callable[[str], None],
        folder: Path | None = None,
        variables: Mapping[str, str] | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        self.state = "waiting"
        self.pid = 0
        self.restarts = 0
        self.last_exit: int | None = None
        self.last_line = ""
        self.peak_bytes = 0
        self.was_ready = False
        self.started_at = 0.0
        self._tell = tell
        self._folder = folder
        self._variables = dict(os.environ) | dict(variables or {})
        self._chance = chance or random.Random()  # noqa: S311 - spreads restarts, guards nothing
        self._child: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._log_start = 0

    # ------------------------------------------------------------------------------------------------ life

    def start(self) -> "asyncio.Task[None]":
        """Start it and keep it running. The task ends on `stop`, or with Permanent when starting again is no use."""
        self._stopping.clear()
        self.state = "starting"
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.name}")
        return self._keeper

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.returncode is None

    async def stop(self, seconds: float) -> int | None:
        """SIGTERM, and SIGKILL after `seconds`. The exit code; None if it was not running when asked."""
        self._stopping.set()
        child = self._child if self.running else None
        if child is not None:
            self.state = "stopping"
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(seconds):
                    await child.wait()
            except TimeoutError:
                self._tell(f"{self.name} did not stop within {seconds:.1f} s and was killed")
                self.kill()
                await child.wait()
        if self._keeper is not None:
            await asyncio.gather(self._keeper, return_exceptions=True)
        self.state = "stopped"
        return None if child is None else self.last_exit

    def again(self) -> None:
        """SIGTERM without stopping to keep it: it starts anew."""
        if self.running:
            assert self._child is not None
            with contextlib.suppress(ProcessLookupError):
                self._child.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to it and to all it started."""
        self._stopping.set()
        if self.pid:
            _kill_group(self.pid)

    async def _keep(self) -> None:
        attempt = 0
        while not self._stopping.is_set():
            await self._spawn()
            assert self._child is not None
            code = await self._child.wait()
            _kill_group(self.pid)  # what it started must not outlive it
            ran = time.monotonic() - self.started_at
            self.pid = 0
            self.last_exit = code
            self.last_line = last_sentence(self.log, self._log_start)
            if self._stopping.is_set():
                return
            attempt = 0 if ran >= STEADY_SECONDS else attempt + 1
            self._give_up_if_useless(code, attempt)
            pause = self.pause(attempt, code)
            self.state = "restarting"
            self.restarts += 1
            because = f" ({self.last_line})" if self.last_line and code >= 0 else ""
            self._tell(f"{self.name} {ending(code)} after {ran:.1f} s{because}; again in {pause:.1f} s")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()

    def _give_up_if_useless(self, code: int, attempt: int) -> None:
        why = self.last_line or f"it {ending(code)} without a word"
        if code == EXIT_INPUT:
            self.state = "failed"
            raise Permanent(why)
        if not self.was_ready and attempt >= TRIES_MAX:
            self.state = "failed"
            raise Permanent(f"{self.name} does not start, {TRIES_MAX} times in a row: {why}; see {self.log}")

    def pause(self, attempt: int, code: int) -> float:
        """Seconds before the next start: full jitter under a cap that doubles each time."""
        least = DISK_BACKOFF_SECONDS if code == EXIT_DISK else BACKOFF_MIN_SECONDS
        cap = min(BACKOFF_MAX_SECONDS, BACKOFF_MIN_SECONDS * 2 ** min(attempt, 20))
        return self._chance.uniform(least, max(least, cap))

    async def _spawn(self) -> None:
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES_MAX:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            try:
                self._child = await asyncio.create_subprocess_exec(
                    *self.command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self._folder,
                    env=self._variables,
                    start_new_session=True,
                    preexec_fn=_die_with(os.getpid()),
                )
            except OSError as e:
                self.state = "failed"
                raise Permanent(f"cannot start {self.name} ({self.command[0]}): {e.strerror}; install it anew") from e
        self.pid = self._child.pid
        self.started_at = time.monotonic()
        self.state = "running"

    # -------------------------------------------------------------------------------------------- its memory

    def sample(self) -> int:
        """Bytes in memory now, of it and of all it started; the highest sum of their own peaks is kept."""
        now = peak = 0
        for pid in family(self.pid) if self.pid else ():
            rss, high = _memory(pid)
            now += rss
            peak += high
        self.peak_bytes = max(self.peak_bytes, peak)
        return now


def ending(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def last_sentence(log: Path, start: int = 0) -> str:
    """The last line a process left in its log since `start`, without its `error: `."""
    try:
        with log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(start, end - 8192))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    told = [line.strip() for line in lines if line.strip()]
    return told[-1].removeprefix("error: ").removeprefix("Error: ") if told else ""


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for parent in found:
        for task in _children_files(parent):
            with contextlib.suppress(OSError, ValueError):
                found.extend(int(child) for child in task.read_text().split())
    return found


def _children_files(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").glob("*/children"))
    except OSError:
        return []


def _memory(pid: int) -> tuple[int, int]:
    rss = high = 0
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                rss = int(line.split()[1]) << 10
            elif line.startswith("VmHWM:"):
                high = int(line.split()[1]) << 10
    except (OSError, ValueError):
        pass  # it has just ended
    return rss, high


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _die_with(parent: int) -> Callable[[], None]:
    """To run in the child before exec: take SIGTERM when the parent ends."""

    def arrange() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it ended before we could ask
            os._exit(1)

    return arrange
