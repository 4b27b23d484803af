"""What a scrub found, and what it was asked to look at."""

import time
from dataclasses import dataclass
from pathlib import Path

from ssmd import archive, config, jobs
from ssmd.errors import Permanent

FINDINGS_MAX = 50  # of one step: its answer travels through Temporal and must stay small
NAMED_MAX = 5  # places that a finding names
SETTLE_SECONDS = 0.5  # what a running platform is writing just now looks whole after so long
ASIDE_SECONDS = 60.0  # a file written aside is renamed within a second; an older one was left by a crash


@dataclass(frozen=True)
class DayTask:
    """Which day of which data folder; `damaged` are the paths already known to be so."""

    places: config.Places
    feed: str
    date: str
    damaged: list[str]


class Findings:
    """Findings of one step, the first ones kept, all of them counted."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self.kept: list[jobs.Finding] = []
        self.count = 0

    def add(self, kind: str, path: Path, what: str, where: str, mend: str, advice: str) -> None:
        self.count += 1
        if len(self.kept) < FINDINGS_MAX:
            self.kept.append(jobs.Finding(kind, self.relative(path), what, where, mend, advice))

    def relative(self, path: Path) -> str:
        return str(path.relative_to(self._data)) if path.is_relative_to(self._data) else str(path)

    @property
    def more(self) -> int:
        return self.count - len(self.kept)


def manifest_at(path: Path) -> archive.Manifest | None:
    """A manifest, if it is there and whole."""
    try:
        return archive.load_manifest(path)
    except (OSError, Permanent):
        return None


def cursor_at(path: Path) -> archive.Cursor | None:
    """The cursor, if it is there and whole."""
    try:
        return archive.load_cursor(path)
    except (OSError, Permanent):
        return None


def age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
