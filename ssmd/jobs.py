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
class Publication:
    """A feed's UTC day (YYYY-MM-DD), to go to object storage once it is rolled up."""

    feed: str
    date: str

    @property
    def publish_id(self) -> str:
        return f"publish/{self.feed}/{self.date}"


@dataclass(frozen=True)
class Published:
    """A published day: where, of which revision, how many objects (`new`: not there before) and their bytes."""

    feed: str
    date: str
    store: str
    revision: int
    objects: int
    new: int
    bytes: int


@dataclass(frozen=True)
class Retention:
    """What an environment keeps here too, applied; `dry_run`: looked at, and nothing removed."""

    environment: str
    dry_run: bool = False

    @property
    def retention_id(self) -> str:
        return f"retention/{self.environment}"


@dataclass(frozen=True)
class Expired:
    """A day's files that may go: `kind` is archive, lake or journal (whose files up to that date are meant)."""

    feed: str
    date: str
    kind: str
    dry_run: bool = False


@dataclass(frozen=True)
class Retired:
    """What went of a day, or (`kept`) why it stays."""

    feed: str
    date: str
    kind: str
    files: int = 0
    bytes: int = 0
    kept: str = ""


@dataclass(frozen=True)
class Retained:
    """A retention's end: how much went here (with `dry_run`: would), and what stays although it is old, and why."""

    environment: str
    dry_run: bool
    store: str
    days: int
    files: int
    bytes: int
    kept: list[Retired] = field(default_factory=list)
    more: int = 0  # that stay, beyond the listed


@dataclass(frozen=True)
class Progress:
    """How far a job or a step is: `done` of `total` (0: not countable) while `doing` it."""

    doing: str
    done: int = 0
    total: int = 0
