"""What workflows and activities are asked (nouns) and answer (participles): small, plain JSON, references only."""

from dataclasses import dataclass, field

TASK_QUEUE = "ssmd"


@dataclass(frozen=True)
class Day:
    """A feed's UTC day (YYYY-MM-DD). With `seal` it is sealed now instead of waiting until it is over."""

    feed: str
    date: str
    seal: bool = False

    @property
    def rollup_id(self) -> str:
        return f"rollup/{self.feed}/{self.date}"


@dataclass(frozen=True)
class Sealed:
    """A day whose archive is whole: the hours (UTC, 0-23) that hold frames."""

    feed: str
    date: str
    revision: int
    segments: int
    frames: int
    hours: list[int]


@dataclass(frozen=True)
class Hour:
    """One hour of a sealed day, to be rolled up."""

    feed: str
    date: str
    hour: int
    revision: int


@dataclass(frozen=True)
class Part:
    """A lake file: its path under the lake's root, rows, bytes, SHA-256."""

    table: str
    path: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class RolledHour:
    """What an hour gave: frames read and what became of each, and the files written."""

    hour: int
    frames: int
    with_events: int
    control: int
    quarantined: dict[str, int]
    events: dict[str, int]
    parts: list[Part] = field(default_factory=list)


@dataclass(frozen=True)
class RolledUp:
    """A rolled-up day: the manifest's path under the lake's root and rows per table."""

    feed: str
    date: str
    revision: int
    manifest: str
    frames: int
    rows: dict[str, int]
    quarantined: dict[str, int]


@dataclass(frozen=True)
class Scrub:
    """A feed's UTC day (YYYY-MM-DD), of which every byte is to be looked at."""

    feed: str
    date: str

    @property
    def verify_id(self) -> str:
        return f"verify/{self.feed}/{self.date}"


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was written: what, and where in which file (relative to the data folder).

    `mend` is what can make it whole again: `journal`, `lake-rebuild` (from the archive), `second-copy` or `none`.
    """

    kind: str
    path: str
    what: str
    where: str
    mend: str
    advice: str


@dataclass(frozen=True)
class Scrubbed:
    """What one part of a day's scrub looked at, and found; `more` findings were left out.

    `hours` (UTC) are those whose tables can be made again from whole segments, to be compared.
    """

    revision: int = 0
    sealed: bool = False
    files: int = 0
    bytes: int = 0
    frames: int = 0
    hours: list[int] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    more: int = 0


@dataclass(frozen=True)
class Verified:
    """A scrubbed day: what was looked at (`segments`: finished ones and open parts), and every finding but `more`."""

    feed: str
    date: str
    revision: int
    sealed: bool
    frames: int
    segments: int
    archive_bytes: int
    lake_files: int
    lake_bytes: int
    hours_made_again: int
    journal_records: int
    findings: list[Finding]
    more: int = 0

    @property
    def whole(self) -> bool:
        return not self.findings


@dataclass(frozen=True)
class Quarantined:
    """A feed's UTC day, whose quarantined frames are to be looked at again."""

    feed: str
    date: str

    @property
    def replay_id(self) -> str:
        return f"replay-quarantine/{self.feed}/{self.date}"


@dataclass(frozen=True)
class SecondChance:
    """Of the frames quarantined for a reason: how many there are, and how many would parse now, by channel."""

    reason: str
    frames: int
    parse_now: dict[str, int]


@dataclass(frozen=True)
class Replayed:
    """What today's grammar makes of a day's quarantined frames; `more` are frames of reasons beyond the listed ones."""

    feed: str
    date: str
    frames: int
    parse_now: int
    reasons: list[SecondChance] = field(default_factory=list)
    more: int = 0


@dataclass(frozen=True)
class Progress:
    """How far a job or a step is: `done` of `total` (0: not countable) while `doing` it."""

    doing: str
    done: int = 0
    total: int = 0


# ------------------------------------------------------------------------------------------------------- backfill


@dataclass(frozen=True)
class Missing:
    """What is missing of a feed and is to be asked of its venue.

    A gap by its name; or a time, from `start` to `end` (RFC 3339 as in 2026-11-20T14:00:00Z, or ns since the epoch);
    or, with neither, every gap that is over and has not been tried. `symbols` narrows it down to some instruments.
    """

    feed: str
    symbols: list[str] = field(default_factory=list)
    start: str = ""
    end: str = ""
    gap: str = ""

    @property
    def backfill_id(self) -> str:
        return f"backfill/{self.feed}/{self.gap or (f'{self.start}..{self.end}' if self.start else 'gaps')}"


@dataclass(frozen=True)
class Window:
    """A time (ns, both ends included) whose trades are to be fetched, and the gaps that are repaired by it.

    No symbols: all that the gap (or else the feed's day) concerns.
    """

    feed: str
    start: int
    end: int
    gaps: list[str] = field(default_factory=list)
    symbols: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Planned:
    """The windows to fill, oldest first; `more` were left for another run."""

    windows: list[Window]
    more: int = 0


@dataclass(frozen=True)
class Filled:
    """What became of a window: trades that were missing and are archived now, or why it failed.

    `dates` are days that are to be sealed and rolled up anew; `repair` is what the ledger says of the gaps.
    """

    trades: int = 0
    dates: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    repair: str = ""
    failed: str = ""


@dataclass(frozen=True)
class Backfilled:
    """What a backfill did: gaps by what the ledger says of them now, new trades, days rolled up anew."""

    feed: str
    trades: int
    repaired: int
    unrepairable: int
    rolled_up: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    more: int = 0


@dataclass(frozen=True)
class Sweep:
    """An environment, all of whose gaps are to be tried; empty: the one that the worker runs in."""

    environment: str = ""


@dataclass(frozen=True)
class Swept:
    """Of a sweep: feeds that had gaps to be tried, the trades that were missing, and the gaps."""

    feeds: list[str]
    trades: int
    repaired: int
    unrepairable: int
    failed: list[str] = field(default_factory=list)
