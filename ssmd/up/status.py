"""The state of a run at one moment, and how it is told: one screen on a terminal, plain lines elsewhere.

Everything here is a function of a `Snapshot`, except the two displays at the end, which hold the terminal.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

LINE_SECONDS = 5.0  # between two plain lines when nothing happens
_FINE = frozenset({"ready", "running", "stopped"})
_STATE_STYLES = {"ready": "green", "running": "green", "starting": "yellow", "waiting": "dim", "stopped": "dim"}


@dataclass(frozen=True)
class FeedState:
    """What one feed's connector and archiver say of themselves; None where they did not answer."""

    name: str
    connected: bool | None = None
    frames: int = 0
    frames_per_second: float = 0.0
    archived: int = 0
    lag_ms: float | None = None
    gaps_open: int = 0
    gaps: int = 0
    journal_bytes: int = 0
    segments: int = 0
    tape_sent: int | None = None  # of a replay
    tape_frames: int | None = None


@dataclass(frozen=True)
class ProcessState:
    """A process as its keeper sees it; `problem` is what it says is wrong."""

    name: str
    state: str
    pid: int = 0
    memory_bytes: int = 0
    peak_bytes: int = 0
    restarts: int = 0
    problem: str = ""


@dataclass(frozen=True)
class Event:
    """Something the operator should know, when it happened (seconds since the epoch)."""

    at: float
    text: str


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment. `workflows` is running, completed, failed; None without an answer from Temporal."""

    seconds: float
    doing: str
    environment: str
    places: tuple[tuple[str, str], ...] = ()
    feeds: tuple[FeedState, ...] = ()
    processes: tuple[ProcessState, ...] = ()
    workflows: tuple[int, int, int] | None = None
    events: tuple[Event, ...] = ()


# -------------------------------------------------------------------------------------------------- plain lines


def opening(snapshot: Snapshot) -> str:
    """Where everything is, for the first lines of a log."""
    width = max((len(name) for name, _ in snapshot.places), default=0)
    return "\n".join(f"{name:<{width}}  {where}" for name, where in snapshot.places)


def line(snapshot: Snapshot) -> str:
    """The run in one line."""
    parts = [f"{duration(snapshot.seconds):>6}  {snapshot.doing}"]
    parts += [_feed_line(feed) for feed in snapshot.feeds]
    if snapshot.workflows is not None:
        running, completed, failed = snapshot.workflows
        parts.append(f"workflows {running} running, {completed} completed" + (f", {failed} failed" if failed else ""))
    down = [f"{p.name} {p.problem or p.state}" for p in snapshot.processes if p.problem or p.state not in _FINE]
    if down:
        parts.append(", ".join(down))
    return " | ".join(parts)


def _feed_line(feed: FeedState) -> str:
    told = [
        f"{feed.name} {_connected(feed)}",
        f"{feed.frames:,} frames in ({feed.frames_per_second:,.0f}/s)",
        f"{feed.archived:,} archived",
        f"lag {lag(feed.lag_ms)}",
        f"gaps {feed.gaps_open} open of {feed.gaps}",
        f"journal {size(feed.journal_bytes)}",
        f"{feed.segments} segments",
    ]
    if feed.tape_frames is not None and feed.tape_sent is not None:
        told.insert(1, f"replayed {feed.tape_sent:,} of {feed.tape_frames:,}")
    return ", ".join(told)


def _connected(feed: FeedState) -> str:
    return {True: "connected", False: "not connected", None: "-"}[feed.connected]


# --------------------------------------------------------------------------------------------------- one screen


def screen(snapshot: Snapshot, height: int) -> RenderableType:
    """The run on one screen of `height` lines; what does not fit is left off from the events first."""
    head = Text(no_wrap=True, overflow="ellipsis")
    head.append("ssmd", style="bold")
    head.append(f"  {snapshot.environment}  {duration(snapshot.seconds)}  ")
    head.append(snapshot.doing, style="bold green" if snapshot.doing == "ready" else "bold yellow")
    tables = (_places(snapshot), _feeds(snapshot), _processes(snapshot))
    body = [part for table in tables for part in (table, Text())]
    problems = [_problem(process) for process in snapshot.processes if process.problem]
    used = 6 + len(snapshot.places) + len(snapshot.feeds) + len(snapshot.processes) + len(problems)
    foot = Text(_workflows(snapshot), no_wrap=True, overflow="ellipsis")
    room = height - used - 1  # the last line is the foot
    events = [_event(e) for e in snapshot.events[-room:]] if room > 0 else []
    return Group(head, *body, *problems, *events, foot)


def _places(snapshot: Snapshot) -> Table:
    table = Table.grid(padding=(0, 2))
    longest = max((len(name) for name, _ in snapshot.places), default=0)
    table.add_column(style="dim", no_wrap=True, min_width=longest)
    table.add_column(no_wrap=True, overflow="ellipsis")
    for name, where in snapshot.places:
        table.add_row(name, Text(where))
    return table


def _feeds(snapshot: Snapshot) -> Table:
    table = _table("feed", "", "frames in", "per s", "archived", "lag", "gaps", "journal", "files")
    for feed in snapshot.feeds:
        state = _replayed(feed) or {True: "live", False: "away", None: "-"}[feed.connected]
        style = "green" if feed.connected else "yellow"
        table.add_row(
            Text(feed.name),
            Text(state, style=style),
            f"{feed.frames:,}",
            f"{feed.frames_per_second:,.0f}",
            f"{feed.archived:,}",
            lag(feed.lag_ms),
            Text(f"{feed.gaps_open}/{feed.gaps}", style="red" if feed.gaps_open else ""),
            size(feed.journal_bytes),
            f"{feed.segments:,}",
        )
    return table


def _replayed(feed: FeedState) -> str:
    if not feed.connected or feed.tape_sent is None or not feed.tape_frames:
        return ""
    return f"tape {100 * feed.tape_sent // feed.tape_frames} %"


def _processes(snapshot: Snapshot) -> Table:
    table = _table("process", "", "pid", "memory", "peak", "restarts")
    for process in snapshot.processes:
        style = "red" if process.problem else _STATE_STYLES.get(process.state, "red")
        table.add_row(
            Text(process.name),
            Text(process.state, style=style),
            str(process.pid or "-"),
            size(process.memory_bytes),
            size(process.peak_bytes),
            Text(str(process.restarts), style="yellow" if process.restarts else ""),
        )
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, expand=True, header_style="dim")
    for i, name in enumerate(columns):
        text = i < 2
        table.add_column(
            name, justify="left" if text else "right", no_wrap=True, overflow="ellipsis", ratio=1 if i == 1 else None
        )
    return table


def _problem(process: ProcessState) -> Text:
    return Text(f"{process.name}: {process.problem}", style="red", no_wrap=True, overflow="ellipsis")


def _event(event: Event) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(clock_time(event.at) + "  ", style="dim")
    text.append(event.text, style="yellow")
    return text


def _workflows(snapshot: Snapshot) -> str:
    if snapshot.workflows is None:
        told = "workflows: Temporal has not answered yet"
    else:
        running, completed, failed = snapshot.workflows
        told = f"workflows: {running} running, {completed} completed, {failed} failed"
    return f"{told}   (Ctrl-C stops everything)"


# ------------------------------------------------------------------------------------------------------- figures


def size(count: int) -> str:
    """Bytes, short: 812 kB, 14.5 MB."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            amount = count / scale
            return f"{amount:.1f} {unit}" if amount < 100 else f"{amount:.0f} {unit}"
    return f"{count} B"


def lag(ms: float | None) -> str:
    """How far the archive is behind the feed: 12 ms, 3.4 s."""
    if ms is None:
        return "-"
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"


def duration(seconds: float) -> str:
    """Time passed, short: 12 s, 3 min 05, 2 h 10."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d}"
    return f"{whole // 3600} h {whole % 3600 // 60:02d}"


def clock_time(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


# ------------------------------------------------------------------------------------------------------ displays


class Display(Protocol):
    """Who shows snapshots to the operator."""

    def show(self, snapshot: Snapshot) -> None: ...

    def close(self) -> None:
        """Give the terminal back."""
        ...


class Screen:
    """The whole terminal, redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, screen=True, auto_refresh=False)
        self._live.start()

    def show(self, snapshot: Snapshot) -> None:
        self._live.update(screen(snapshot, self._console.height), refresh=True)

    def close(self) -> None:
        self._live.stop()


class Lines:
    """Plain lines: where everything is, then the run every few seconds, and each event as it happens."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._shown: Sequence[Event] = ()
        self._doing = ""
        self._next = 0.0
        self._opened = False

    def show(self, snapshot: Snapshot) -> None:
        if not self._opened and snapshot.places:
            self._opened = True
            self._write(opening(snapshot))
        for event in snapshot.events:
            if event not in self._shown:
                self._write(f"{duration(snapshot.seconds):>6}  {event.text}")
        self._shown = snapshot.events
        if snapshot.doing != self._doing or snapshot.seconds >= self._next:
            self._doing = snapshot.doing
            self._next = snapshot.seconds + LINE_SECONDS
            self._write(line(snapshot))

    def close(self) -> None:
        """Nothing to give back."""

    def _write(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()
