"""What workflows and activities are asked (nouns) and answer (participles): small, plain JSON, references only."""

import re
from dataclasses import dataclass, field
from datetime import date as calendar_date
from datetime import timedelta

TASK_QUEUE = "ssmd"


@dataclass(frozen=True)
class Day:
    """A feed's UTC day (YYYY-MM-DD). With `seal` it is sealed now instead of waiting until it is over.

    With `if_any`, a day of which nothing is archived is no error, and nothing is done.
    """

    feed: str
    date: str
    seal: bool = False
    if_any: bool = False

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
    """One hour of a sealed day, to be rolled up; `store`: where it is published, if it is to be read there."""

    feed: str
    date: str
    hour: int
    revision: int
    store: str = ""


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
    """A feed's UTC day (YYYY-MM-DD), of which every byte is to be looked at; `if_any` as in `Day`.

    With `store` (s3://bucket/prefix) as it is published there, else in the data folder.
    """

    feed: str
    date: str
    if_any: bool = False
    store: str = ""

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
    """A scrubbed day: what was looked at (`segments`: finished ones and open parts), and every finding but `more`.

    `versions` are those of the feed's instruments and fees, whatever the day.
    """

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
    versions: int = 0

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


# ------------------------------------------------------------------------------------------ instruments and fees


@dataclass(frozen=True)
class Listing:
    """A feed's instruments, to be read from its venue; `full`: also those that are not open, not only what changed."""

    feed: str
    full: bool = False

    @property
    def sync_id(self) -> str:
        return f"secmaster/{self.feed}/full" if self.full else f"secmaster/{self.feed}"


@dataclass(frozen=True)
class FeeListing:
    """A feed's fees, to be read from its venue."""

    feed: str
    full: bool = True

    @property
    def sync_id(self) -> str:
        return f"fees/{self.feed}"


@dataclass(frozen=True)
class Unread:
    """A page that could not be read, and why; what would have followed it is missing, too."""

    request: str
    error: str


@dataclass(frozen=True)
class Cursor:
    """How far a listing was read: the chain of pages, the next page's query, and the bytes that are on disk of it."""

    chain: int = 0
    query: dict[str, str] | None = None
    pages: int = 0
    bytes: int = 0
    unread: list[Unread] = field(default_factory=list)


@dataclass(frozen=True)
class Synced:
    """What a listing told that was not known: `rows` of them are new versions. `whole`: every page was read.

    `odd` are records that make no sense, `odd_reason` says why the first does not. `announced` changes were published.
    """

    feed: str
    full: bool
    whole: bool
    revision: int
    pages: int
    read: int
    listed: int
    changed: int
    delisted: int
    odd: int = 0
    odd_reason: str = ""
    unread: list[Unread] = field(default_factory=list)
    announced: int = 0
    note: str = ""  # why there was nothing to read


@dataclass(frozen=True)
class Publication:
    """A feed's UTC day (YYYY-MM-DD), to go to object storage once it is rolled up; `if_any` as in `Day`."""

    feed: str
    date: str
    if_any: bool = False

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
class Restoration:
    """A feed's UTC day (YYYY-MM-DD) whose files retention removed here, to be brought back."""

    feed: str
    date: str

    @property
    def restore_id(self) -> str:
        return f"restore/{self.feed}/{self.date}"


@dataclass(frozen=True)
class Restored:
    """How many files came back, from where, and their bytes."""

    feed: str
    date: str
    store: str
    files: int
    bytes: int


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


# --------------------------------------------------------------------------------------------------- a trading day

DAY_STATES = ("pending", "starting", "active", "ending", "complete")


@dataclass(frozen=True)
class FeedSeen:
    """How a feed of a day is: what its services say of themselves (None: they tell nothing), and what is on disk.

    `revision` is of the archive's manifest (0: none yet), `rolled_up` the one that its tables were made from (0: none).
    `empty`: nothing came that day, and nothing will. `trouble`: why it could not be looked at.
    """

    feed: str
    connected: bool | None = None
    archiving: bool | None = None
    gaps_open: int | None = None
    frames: int = 0
    sealed: bool = False
    revision: int = 0
    rolled_up: int = 0
    empty: bool = False
    trouble: str = ""

    @property
    def waits_for(self) -> str:
        """What is missing until it can capture; empty: nothing."""
        if self.connected is False:
            return f"the connector of {self.feed}"
        return f"the archiver of {self.feed}" if self.archiving is False else ""

    @property
    def lacks(self) -> str:
        """What is missing until its day is complete; empty: nothing."""
        if self.trouble:
            return f"{self.feed}: {self.trouble}"
        if self.empty:
            return ""
        if not self.sealed:
            return f"the seal of {self.feed}"
        return "" if self.rolled_up >= self.revision else f"the rollup of {self.feed}"


@dataclass(frozen=True)
class Turn:
    """A day came into a state at a time (UTC, ISO 8601), and why."""

    at: str
    state: str
    why: str


@dataclass(frozen=True)
class DayLife:
    """What a run of TradingDay hands to its successor."""

    state: str
    turns: list[Turn]
    feeds: list[FeedSeen]


@dataclass(frozen=True)
class TradingDay:
    """An environment's UTC day (YYYY-MM-DD). `life` is for runs that continue an earlier one."""

    environment: str
    date: str
    life: DayLife | None = None

    @property
    def day_id(self) -> str:
        return f"day/{self.environment}/{self.date}"


@dataclass(frozen=True)
class DayStatus:
    """A day's state, what it waits for, how its feeds were last seen, and its turns from one state to the next.

    `opened` names the workflow that lives the day, where this one only opened it.
    """

    environment: str
    date: str
    state: str
    waits_for: list[str] = field(default_factory=list)
    feeds: list[FeedSeen] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    opened: str | None = None


@dataclass(frozen=True)
class EndDay:
    """End a day before midnight. With `seal` its archives are sealed and rolled up now, as far as they have come."""

    reason: str = ""
    seal: bool = False


@dataclass(frozen=True)
class RollDay:
    """End a day and open the next."""

    reason: str = ""
    seal: bool = False


@dataclass(frozen=True)
class Remark:
    """Something worth finding in a day's history."""

    text: str


@dataclass(frozen=True)
class ForceDay:
    """Put a day into a later state, whatever it waits for."""

    state: str
    reason: str


# ------------------------------------------------------------------------------------------------------ the report


@dataclass(frozen=True)
class Report:
    """The report on a UTC day (YYYY-MM-DD) of a worker's environment; `deliver` sends it where the environment says."""

    date: str
    deliver: bool = True

    @property
    def report_id(self) -> str:
        return f"report/{self.date}" + ("" if self.deliver else "/look")


@dataclass(frozen=True)
class Reporting:
    """Whose report it is: the environment, its feeds, and where it goes (`webhook`, `ntfy`, `mail`)."""

    environment: str
    feeds: list[str]
    targets: list[str]


@dataclass(frozen=True)
class FeedHealth:
    """A feed's day in figures, each part's mark from 0 to 1 (those that could be had), and their score from 0 to 100.

    `covered` is the mean share of the day over all instruments, `affected` how many a gap concerns that is not
    repaired, `frames_usual` the median of the week before, lags are from the venue's time to ours.
    """

    feed: str
    date: str
    score: float
    marks: dict[str, float] = field(default_factory=dict)
    instruments: int = 0
    covered: float | None = None
    affected: int = 0
    gaps: int = 0
    gap_seconds: float = 0.0
    frames: int = 0
    frames_usual: int | None = None
    quarantined: int = 0
    lag_ms_p50: float | None = None
    lag_ms_p99: float | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Reported:
    """A report: its environment's day, feed by feed, worst first, and where it was delivered."""

    environment: str
    date: str
    feeds: list[FeedHealth]
    delivered: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        scores = ", ".join(f"{health.feed} {health.score:.1f}" for health in self.feeds) or "no feeds"
        return f"ssmd {self.environment} {self.date}: {scores}"


_RELATIVE = re.compile(r"yesterday|today(?:-([0-9]{1,5}))?")


def date_of(said: str, today: calendar_date) -> str:
    """The date that `yesterday`, `today` or `today-7` means on a day; anything else is the date itself."""
    relative = _RELATIVE.fullmatch(said)
    if relative is None:
        return said
    days = 1 if said == "yesterday" else int(relative[1] or 0)
    return (today - timedelta(days=days)).isoformat()


def summary(job: object = None) -> str:
    """A job's input in a few words, as lists show it: `kalshi 2026-11-20 04:00`; empty where there is none of that."""
    said = [str(getattr(job, name)) for name in ("environment", "feed", "date") if getattr(job, name, "")]
    hour = getattr(job, "hour", None)
    return " ".join(said if hour is None else [*said, f"{hour:02d}:00"])


# ----------------------------------------------------------------------------------------------------------- keys


@dataclass(frozen=True)
class Keys:
    """The keys of an environment, to be verified; empty: of the one that the worker runs in."""

    environment: str = ""

    @property
    def verify_keys_id(self) -> str:
        return f"verify-keys/{self.environment or 'all'}"


@dataclass(frozen=True)
class Key:
    """The key that an environment names for a feed."""

    environment: str
    feed: str


@dataclass(frozen=True)
class KeyChecked:
    """What is known of a feed's key; `said` is a sentence. Never the key itself: `reference` says where its secret is.

    `state`: accepted, wrong, expired, under-privileged, clock (this machine's is off), down (the venue did not say),
    missing (nothing is where it should be) or malformed (it is no key of this venue). Days are whole ones; None:
    not known.
    """

    feed: str
    state: str
    said: str
    reference: str = ""
    rights: list[str] = field(default_factory=list)
    age_days: int | None = None
    expires_in_days: int | None = None


@dataclass(frozen=True)
class VerifiedKeys:
    """Every key of an environment, those that were not accepted first."""

    environment: str
    keys: list[KeyChecked]

    @property
    def good(self) -> bool:
        return all(key.state == "accepted" for key in self.keys)
