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
class Progress:
    """How far a job or a step is: `done` of `total` (0: not countable) while `doing` it."""

    doing: str
    done: int = 0
    total: int = 0
