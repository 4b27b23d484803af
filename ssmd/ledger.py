"""What is archived of a feed, as its ledger and its coverage need it: manifests, and the running archiver's cursor.

The cursor knows of days that are not finished into segments yet; reading it needs no archiver and disturbs none.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ssmd import archive, coverage
from ssmd.archive import Cursor, Manifest
from ssmd.coverage import Coverage, Day
from ssmd.errors import Permanent
from ssmd.events import Gap


@dataclass(frozen=True)
class Recorded:
    """A feed's days by date, in order; those that only the cursor knows have an empty manifest."""

    feed: str
    manifests: Mapping[str, Manifest]
    cursor: Cursor | None

    @cached_property
    def gaps(self) -> list[Gap]:
        """The gap ledger: one row per gap, its latest, by start."""
        cursor = self.cursor or Cursor(self.feed)
        return coverage.ledger(
            (m, cursor.days.get(date), coverage.holes_left(m, cursor)) for date, m in self.manifests.items()
        )

    def manifest(self, date: str) -> Manifest:
        """Raises Permanent if there is nothing of that day."""
        if date not in self.manifests:
            known = ", ".join(list(self.manifests)[-7:]) or "none"
            raise Permanent(f"{self.feed} has no archived day {date}: it has {known}")
        return self.manifests[date]

    def day(self, date: str, now_ns: int) -> Day:
        """What is known of a day. Raises Permanent if there is nothing of it."""
        return coverage.of_archive(self.manifest(date), self.cursor, self.gaps, now_ns)

    def coverage(self, date: str, now_ns: int) -> list[Coverage]:
        """Every instrument's coverage of a day, worst first."""
        return coverage.coverage(self.day(date, now_ns))


def recorded(root: Path, feed: str | None = None, days: int | None = None) -> list[Recorded]:
    """Every feed under the archive folder `root`, or the one. Raises Permanent if there is nothing of it.

    `days` are how many of its last ones are looked at (None: all); what is open stands in the last one.
    """
    found = feeds(root)
    if feed is not None and feed not in found:
        there_is = ", ".join(found) or "nothing yet"
        raise Permanent(f"nothing of {feed!r} is archived in {root}: there is {there_is}")
    return [_read(root, name, days) for name in (found if feed is None else [feed])]


def feeds(root: Path) -> list[str]:
    """The feeds of which anything is archived under `root`."""
    return sorted({path.parent.name for path in root.glob("*/cursor.json")} | {d.parent.name for d in _days(root, "*")})


def _days(root: Path, feed: str) -> list[Path]:
    return sorted(path.parent for path in root.glob(f"{feed}/????-??-??/manifest.json"))


def _read(root: Path, feed: str, days: int | None) -> Recorded:
    cursor = None
    with contextlib.suppress(FileNotFoundError):
        cursor = archive.load_cursor(archive.cursor_path(root, feed))
    since = min((day.name for day in _days(root, feed)[-(days or 0) :]), default="")
    manifests = {m.date: m for m in archive.manifests(root, feed, since)}
    for date in cursor.days if cursor is not None else ():
        manifests.setdefault(date, Manifest(feed, date))
    return Recorded(feed, dict(sorted(manifests.items())), cursor)
