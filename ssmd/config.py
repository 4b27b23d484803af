"""Feeds and environments as YAML, and where a data folder keeps what: parsed once, at the door.

`exchanges/feeds/NAME.yaml` says what a venue offers; `exchanges/environments/NAME.yaml` says what we run and
where. A data folder holds `journal/ archive/ lake/ nats/ temporal/ s3/ logs/ keys/ run/` and a `ssmd.json` with its
format. While `ssmd up` runs, `run/addresses.json` says where everything listens.
"""

import importlib
import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from zoneinfo import ZoneInfo

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from ssmd import __version__, durable
from ssmd.errors import Permanent
from ssmd.gitops import reading

DATA_FORMAT = 1
CONFIG_FOLDERS = ("feeds", "environments")
SIMULATOR = "simulator"  # the endpoint that every feed has: its venue, played on this machine
SCHEMA = r"^[a-z][a-z0-9-]*@[1-9][0-9]*$"
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# ---------------------------------------------------------------------------------------------------------- feed


class Endpoint(_Model):
    """Where a venue listens."""

    ws: str = Field(pattern=r"^wss?://.+")  # its WebSocket
    rest: str = Field(pattern=r"^https?://.+")  # its REST service, up to where paths differ
    trades_days: float | None = Field(None, gt=0)  # how long its REST remembers trades; none: for ever


class Limits(_Model):
    """What a venue allows, or what we keep to where it does not say."""

    symbols_per_subscription: int = Field(256, ge=1)  # in one command
    symbols_per_connection: int | None = Field(None, ge=1)
    subscriptions_per_connection: int | None = Field(None, ge=1)  # one for each symbol and channel
    connections: int = Field(100, ge=1)  # at once; what they have no room for is a row of the gap ledger
    connects_per_minute: float | None = Field(None, gt=0)  # attempts of one process
    frame_bytes: int = Field(4 << 20, ge=1024)  # a longer frame ends the connection
    connection_seconds: float | None = None  # when a connection is old: a second one takes over before it ends
    rest_per_second: float = Field(5.0, gt=0)  # requests of the batch side to its REST services, from one machine

    def symbols_max(self, channels: int) -> int | None:
        """How many symbols one connection carries on so many channels, each of which may be one of no list, too."""
        if self.subscriptions_per_connection is None:
            return self.symbols_per_connection
        room = max(1, (self.subscriptions_per_connection - channels) // max(1, channels))
        return min(room, self.symbols_per_connection or room)


Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_TIME = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"


class Closure(_Model):
    """A time of the week in which the venue is closed. An end that is not after its start is on the next day."""

    days: list[Weekday] = []  # on which it starts; none named: every day
    start: str = Field(pattern=_TIME)  # local time, in quotes: "03:00"
    end: str = Field(pattern=_TIME)  # the same
    reason: str = "planned maintenance"  # as the gap ledger tells it


class Calendar(_Model):
    """When the venue is closed by plan: what is missing then is a gap, but of cause `maintenance`.

    For what the venue does not tell itself: a calendar that it serves is asked for and needs no entry here.
    """

    timezone: str = "UTC"  # of the tz database: America/New_York
    closures: list[Closure] = []  # of each week
    closed_dates: list[date] = []  # whole days

    @model_validator(mode="after")
    def _known_zone(self) -> "Calendar":
        try:
            ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError):
            raise ValueError(
                f"timezone {self.timezone!r} is unknown: write a name of the tz database, such as America/New_York"
            ) from None
        return self

    def closed(self, at_ns: int) -> str | None:
        """Why the venue is closed at a time (ns since the epoch); None if it should be open."""
        at = datetime.fromtimestamp(at_ns // 1_000_000_000, UTC).astimezone(ZoneInfo(self.timezone))
        if at.date() in self.closed_dates:
            return f"closed on {at.date()}"
        now = f"{at:%H:%M}"
        today, yesterday = (_WEEKDAYS[(at - timedelta(days=back)).weekday()] for back in (0, 1))
        for c in self.closures:
            begun_today = (not c.days or today in c.days) and c.start <= now
            begun_yesterday = (not c.days or yesterday in c.days) and c.end <= c.start
            if (begun_today and (now < c.end or c.end <= c.start)) or (begun_yesterday and now < c.end):
                return c.reason
        return None


class Auth(_Model):
    """How requests that need a key are signed."""

    method: Literal["rsa-pss-sha256", "ed25519", "hmac-sha256", "hmac-sha512"]  # of the signature
    rotate_days: int | None = Field(None, ge=1)  # a key older than this is told of


class FeedVersion(_Model):
    """What holds from a date on."""

    effective_from: date  # YYYY-MM-DD, UTC
    endpoints: dict[str, Endpoint]  # by the names that environments choose from
    channels: list[str]  # subscribed to, in the venue's own words
    limits: Limits = Limits()
    silence_seconds: float = 30.0  # no frame of any kind for so long: the connection is dead
    compression: bool = False  # permessage-deflate: costs more time than it saves, where the line is fast
    signed: bool = False  # the handshake needs a key
    auth: Auth | None = None  # none: the venue's own grammar decides, and no age is told of
    calendar: Calendar | None = None  # planned closures that the venue does not tell itself


class Precision(_Model):
    """Digits after the decimal point that the lake keeps; a value that does not fit is quarantined, never rounded.

    `digits` is how many a value has in all. Feeds are read together: the most before the point of any and the most
    after it must stay within 38, or DuckDB rounds. More than 18 take twice the memory.
    """

    price: int = Field(ge=0, le=38)  # digits after the point of a price
    size: int = Field(ge=0, le=38)  # and of a size
    digits: int = Field(18, ge=18, le=38)  # before and after the point together


class Feed(_Model):
    """One venue's data as we subscribe to it. `venue` is the folder under exchanges/."""

    name: Name  # of the file as well, and part of every subject, path and table
    venue: str  # a folder of exchanges/
    title: str  # for readers
    precision: Precision
    versions: list[FeedVersion] = Field(min_length=1)  # the one in force on a day is the last one begun by then

    @model_validator(mode="after")
    def _each_date_once(self) -> "Feed":
        dates = [v.effective_from for v in self.versions]
        twice = next((d for i, d in enumerate(dates) if d in dates[:i]), None)
        if twice is not None:
            raise ValueError(f"two versions are effective from {twice}: give each a date of its own")
        return self

    def at(self, day: date) -> FeedVersion:
        """The version in force on a day."""
        versions = sorted(self.versions, key=lambda v: v.effective_from)
        return next((v for v in reversed(versions) if v.effective_from <= day), versions[0])


# --------------------------------------------------------------------------------------------------- environment


class Symbols(_Model):
    """Which instruments: the named ones, those of the named series, or (both empty) all open ones."""

    names: list[str] = []  # instruments, as the venue writes them
    series: list[str] = []  # groups of instruments, as the venue's listing knows them
    refresh_seconds: float = 60.0  # how often new instruments of the series are looked for


Reference = Annotated[str, Field(pattern=r"^(env|file):.+")]  # where a secret is, never what it is


class KeyReference(_Model):
    """Where a credential is (`env:NAME` or `file:PATH`, with {data}), never what it is."""

    id: Reference
    secret: Reference
    created: date | None = None  # else the time of its file
    expires: date | None = None  # where its owner or the venue has set an end to it

    def load(self, data: Path) -> tuple[str, bytes]:
        """The key id and the secret. Raises Permanent naming the reference, never the value."""
        return dereference(self.id, data).decode().strip(), dereference(self.secret, data)


class EnvironmentFeed(_Model):
    """How this environment runs a feed."""

    feed: Name  # a file of feeds/
    endpoint: str  # `simulator`, or a name in the feed's endpoints
    symbols: Symbols = Symbols()  # which instruments
    channels: list[str] = []  # empty: all of the feed's
    key: KeyReference | None = None  # to sign in with
    shards: int = Field(1, ge=1, le=100)  # connector processes, each with its part of the instruments

    def shard_of(self, symbol: str) -> int:
        """Which of them has an instrument, by its name alone. Of another number of shards few move."""
        return max(range(self.shards), key=lambda n: blake2b(f"{n} {symbol}".encode(), digest_size=8).digest())


class Nats(_Model):
    """The servers of NATS, any of which may be down, and on how many of them each stream is kept."""

    servers: list[str] = Field(["nats://127.0.0.1:4222"], min_length=1)  # nats://HOST:PORT each
    replicas: Literal[1, 3, 5] = 1  # of each stream; more than one wants a cluster of so many servers

    @field_validator("servers")
    @classmethod
    def _are_urls(cls, servers: list[str]) -> list[str]:
        for server in servers:
            if not re.fullmatch(r"(nats|tls)://[^\s,/]+", server):
                raise ValueError(f"{server!r} is no address of a NATS server: write it as nats://host:port")
        return servers

    @property
    def url(self) -> str:
        """All of them, as the NATS tools take them: with commas in between."""
        return ",".join(self.servers)


def _one_server(nats: object) -> object:
    """An address alone, or several with commas in between, stands for a server without replicas."""
    return {"servers": nats.split(",")} if isinstance(nats, str) else nats


class Tls(_Model):
    """How a server is trusted (`ca`: PEM; none: the system's), and who we are to it (client certificate and key)."""

    ca: Reference | None = None
    certificate: Reference | None = None
    key: Reference | None = None
    server_name: str | None = None  # in the server's certificate, if the address is not

    @model_validator(mode="after")
    def _both(self) -> "Tls":
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a client certificate needs its key, and a key its certificate: give both or neither")
        return self


class Temporal(_Model):
    """Where Temporal is and who we are there. With an API key, TLS is on."""

    address: str = "127.0.0.1:7233"
    namespace: str = "default"  # a name, or a reference (env: or file:)
    task_queue: str = "ssmd"
    tls: Tls | None = None
    api_key: Reference | None = None
    deployment: Name | None = None  # worker versioning under this name; none: any worker takes any job

    @property
    def space(self) -> str:
        """The namespace's name. Raises Permanent if its reference leads nowhere."""
        named = self.namespace
        if not named.startswith(("env:", "file:")):
            return named
        return dereference(named, ELSEWHERE).decode().strip()


class Archiving(_Model):
    """How often the archiver commits and rotates."""

    commit_seconds: float = 1.0
    commit_bytes: int = 8 << 20
    rotate_seconds: float = 900.0
    rotate_bytes: int = 256 << 20  # of raw lines


class Journalling(_Model):
    """How much disk the journal may take before capture is broken off (a gap, cause `overflow`)."""

    bytes_max: int = 20 << 30
    free_bytes_min: int = 256 << 20  # to be left on its disk; a twentieth of the disk, if that is less


class RollingUp(_Model):
    """What a worker may use for rollups: processes (none named: one for each core), and memory for rows in each."""

    processes: int | None = Field(None, ge=1)
    memory_bytes: int = Field(512 << 20, ge=32 << 20)


class Storage(_Model):
    """Where finished days are published: a folder, or `s3://bucket/prefix`.

    `server: local` has `ssmd up` start an S3 server of its own; another one that is not AWS's is at `endpoint_url`.
    Without a `key` the credentials are found as the AWS tools find theirs.
    """

    url: str
    server: Literal["local", "remote"] = "remote"
    endpoint_url: str | None = Field(None, pattern=r"^https?://[^/]+$")
    region: str | None = None
    key: KeyReference | None = None
    parallel: int = Field(8, ge=1, le=64)  # requests at once; a file is read as it is sent, so little memory each
    read_back: Literal["download", "checksum"] = "download"  # how a new object is compared with what was sent

    @model_validator(mode="after")
    def _check(self) -> "Storage":
        if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]+[a-z0-9](/[^?#]*)?|[^:?#]+", self.url):
            raise ValueError(f"{self.url!r} is neither s3://bucket/prefix nor a folder")
        if self.server == "local" and not (self.is_s3 and self.key is not None and self.endpoint_url is None):
            raise ValueError("server local needs a url s3://… and a key, and no endpoint_url")
        return self

    @property
    def is_s3(self) -> bool:
        return self.url.startswith("s3://")

    def covers(self, url: str) -> bool:
        """Whether an address is this storage."""
        return self.url.rstrip("/") == url.rstrip("/")


class Retention(_Model):
    """For how many days what is published and verified stays here too; nothing named: for ever.

    The archiver may still need a day's files two days after its end.
    """

    journal_days: int | None = Field(None, ge=3)
    archive_days: int | None = Field(None, ge=3)
    lake_days: int | None = Field(None, ge=1)


class Webhook(_Model):
    """Takes a report as JSON by POST; its address is often a secret, so it is a reference."""

    url: Reference


class Ntfy(_Model):
    """An ntfy server; whoever knows the topic may read it, so it is a reference."""

    server: str = Field("https://ntfy.sh", pattern=r"^https?://.+")
    topic: Reference
    token: Reference | None = None


class Mail(_Model):
    """An SMTP server, and who writes to whom."""

    server: str
    port: int = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    ca: Reference | None = None  # PEM, where the system does not trust the server's certificate
    user: Reference | None = None
    password: Reference | None = None
    sender: str = Field(pattern=r".+@.+")
    to: list[Annotated[str, Field(pattern=r".+@.+")]] = Field(min_length=1)

    @model_validator(mode="after")
    def _no_password_in_the_clear(self) -> "Mail":
        if (self.user is None) != (self.password is None):
            raise ValueError("a user needs a password, and a password its user: give both or neither")
        if self.password is not None and self.security == "none":
            raise ValueError("a password does not go over an open connection: set security to starttls or tls")
        return self


class Reports(_Model):
    """Where the daily report goes; nowhere, unless named."""

    webhook: Webhook | None = None
    ntfy: Ntfy | None = None
    mail: Mail | None = None


Overlap = Literal["skip", "buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow_all"]


class Schedule(_Model):
    """When a job runs by itself (UTC), and what then: see `ssmd.schedules`, which has the defaults.

    `overlap`: what if the one before still runs. `catch_up_seconds`: how late a missed run is still made up for.
    `jitter_seconds`: a run begins up to so much later, so that not all begin together. `paused` unset: as it is.
    """

    workflow: str | None = None
    cron: str | None = None
    every_seconds: int | None = Field(None, ge=60)
    feeds: list[Name] = []  # none: each feed of the environment
    input: dict[str, str | int | bool] = {}
    overlap: Overlap = "skip"
    catch_up_seconds: int = Field(86_400, ge=10)  # Temporal allows no less
    jitter_seconds: int = Field(0, ge=0)
    paused: bool | None = None


class Environment(_Model):
    """What runs where: `local` runs everything here against simulators."""

    name: Name  # of the file as well, and part of every subject
    servers: Literal["local", "remote"] = "local"  # local: `ssmd up` starts NATS and Temporal itself
    nats: Annotated[Nats, BeforeValidator(_one_server, json_schema_input_type=Nats | str)] = Nats()  # or one address
    temporal: Temporal = Temporal()
    journalling: Journalling = Journalling()
    archiving: Archiving = Archiving()
    rolling_up: RollingUp = RollingUp()
    storage: Storage | None = None
    retention: Retention = Retention()
    reports: Reports = Reports()
    schedules: dict[Name, Schedule | None] = {}  # by name, over the defaults; null leaves a default out
    schema_: str = Field("events@1", alias="schema", pattern=SCHEMA)  # messages that subscribers can read: name@version
    feeds: list[EnvironmentFeed] = Field(min_length=1)  # each once

    @model_validator(mode="after")
    def _each_feed_once(self) -> "Environment":
        names = [f.feed for f in self.feeds]
        twice = next((n for i, n in enumerate(names) if n in names[:i]), None)
        if twice is not None:
            raise ValueError(f"feed {twice} is named twice: keep one of them")
        return self

    @model_validator(mode="after")
    def _own_nats_is_one_server(self) -> "Environment":
        if self.servers == "local" and (len(self.nats.servers) > 1 or self.nats.replicas > 1):
            raise ValueError("the NATS that `ssmd up` starts is one server without replicas: set servers: remote")
        return self

    @model_validator(mode="after")
    def _own_temporal_is_open(self) -> "Environment":
        if self.servers == "local" and (self.temporal.tls or self.temporal.api_key):
            raise ValueError("the Temporal that `ssmd up` starts has no TLS and no API keys: set servers: remote")
        return self

    def feed(self, name: str) -> EnvironmentFeed:
        """How this environment runs a feed. Where all feeds are simulated, any other is as well, if asked for."""
        for f in self.feeds:
            if f.feed == name:
                return f
        if all(f.endpoint == SIMULATOR for f in self.feeds):
            return _simulated(load_feed(name))
        raise Permanent(f"environment {self.name} has no feed {name!r}: it has {', '.join(f.feed for f in self.feeds)}")


def _simulated(feed: Feed) -> EnvironmentFeed:
    """A feed against its simulator; a key is made by the first `ssmd up` that needs it."""
    key = None
    if feed.at(date.today()).signed:
        files = f"file:{{data}}/keys/{feed.name}"
        key = KeyReference(id=f"{files}.id", secret=f"{files}.pem")
    return EnvironmentFeed(feed=feed.name, endpoint=SIMULATOR, key=key)


# ------------------------------------------------------------------------------------------------------- loading

_M = TypeVar("_M", Feed, Environment)


def config_folder() -> Path:
    """The folder with feeds/ and environments/: $SSMD_CONFIG, this folder if it has both, or the application's own."""
    named = os.environ.get("SSMD_CONFIG")
    if named:
        return Path(named)
    here = Path.cwd()
    return here if all((here / kind).is_dir() for kind in CONFIG_FOLDERS) else application_folder() / "exchanges"


def application_folder() -> Path:
    """The tree with services/ and exchanges/; only `ssmd` is in the wheel, the rest runs from its tree."""
    named = os.environ.get("SSMD_HOME")
    folder = Path(named) if named else Path(__file__).resolve().parent.parent
    if not (folder / "services").is_dir():
        raise Permanent(f"{folder} holds no ssmd application tree (no services/): set SSMD_HOME to a checkout of ssmd")
    return folder


def application(module: str) -> Any:
    """A module of the application, which is not in our wheel."""
    folder = str(application_folder())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(module)


def load_feed(name: str, folder: Path | None = None) -> Feed:
    return _load(Feed, "feed", name, (folder or config_folder()) / "feeds")


def load_environment(name: str, folder: Path | None = None) -> Environment:
    return _load(Environment, "environment", name, (folder or config_folder()) / "environments")


def _load(model: type[_M], kind: str, name: str, folder: Path) -> _M:
    path = folder / f"{name}.yaml"
    try:
        document = reading.read(model, path)
    except FileNotFoundError:
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml"))) or "none"
        raise Permanent(f"there is no {kind} {name!r} in {folder}; there is: {known}") from None
    except OSError as e:
        raise Permanent(f"cannot read {path}: {e}") from e
    if document.value is None:
        first, *others = document.findings
        more = f" (and {len(others)} more: `ssmd validate` tells them)" if others else ""
        raise Permanent(f"{path}:{first.line}: {first.told}{more}")
    return document.value


def line_of(folder: str, name: str, loc: Sequence[str | int]) -> str:
    """`file:line` of what an environment's or a feed's file says at `loc`, or of the nearest thing around it."""
    path = config_folder() / folder / f"{name}.yaml"
    try:
        line, _ = reading.read(Environment if folder == "environments" else Feed, path).position(tuple(loc))
    except OSError:
        return str(path)
    return f"{path}:{line}"


ELSEWHERE = Path("{data}")  # for what does not lie in a data folder: `{data}` in a reference then stays as it is


def dereference(reference: str, data: Path) -> bytes:
    """What `env:NAME` or `file:PATH` (with {data}) leads to. Raises Permanent naming the reference, never the value."""
    kind, _, where = reference.partition(":")
    if kind == "env":
        value = os.environ.get(where)
        if not value:
            raise Permanent(f"key reference {reference}: the variable {where} is not set; export it and start again")
        return value.encode()
    path = Path(where.replace("{data}", str(data))).expanduser()
    try:
        return path.read_bytes()
    except OSError as e:
        raise Permanent(
            f"key reference {reference}: cannot read {path} ({e.strerror}); put the key there, readable for you alone"
        ) from e


# --------------------------------------------------------------------------------------------------- data folder


class Places:
    """Where a data folder keeps what."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.journal = data / "journal"
        self.archive = data / "archive"
        self.lake = data / "lake"
        self.nats = data / "nats"
        self.temporal = data / "temporal"
        self.logs = data / "logs"
        self.keys = data / "keys"
        self.run = data / "run"

    def check(self, environment: str | None = None) -> None:
        """Raise Permanent if a newer ssmd wrote this folder, if it is no ssmd data folder, or if it is another
        environment's: what that journalled goes to its own subjects, and simulated frames must never stand beside
        real ones."""
        mark = self.data / "ssmd.json"
        if not mark.exists():
            return
        try:
            found = msgspec.json.decode(mark.read_bytes())
            written = int(found["format"])
        except (OSError, msgspec.DecodeError, KeyError, TypeError, ValueError) as e:
            raise Permanent(f'{mark} is damaged: it should hold {{"format": {DATA_FORMAT}}}; restore it') from e
        if written > DATA_FORMAT:
            raise Permanent(
                f"{self.data} was written by ssmd {found.get('software', '?')} (format {written}); "
                f"this is ssmd {__version__} (format {DATA_FORMAT}): upgrade ssmd or name another folder with --data"
            )
        if environment is not None and found.get("environment", environment) != environment:
            raise Permanent(
                f"{self.data} is the data folder of environment {found['environment']}: "
                f"name another folder for {environment} with --data"
            )

    def environment(self) -> str | None:
        """The environment to which the folder belongs, if that is known."""
        try:
            said = msgspec.json.decode((self.data / "ssmd.json").read_bytes(), type=dict[str, object]).get(
                "environment"
            )
        except (OSError, msgspec.DecodeError):
            return None
        return said if isinstance(said, str) else None

    def create(self, environment: str | None = None) -> None:
        """Check, then make the folders and the mark that says whose they are."""
        self.check(environment)
        for folder in (
            self.journal,
            self.archive,
            self.lake,
            self.nats,
            self.temporal,
            self.logs,
            self.keys,
            self.run,
        ):
            durable.make_folder(folder)
        mark = self.data / "ssmd.json"
        if not mark.exists():
            says = {"format": DATA_FORMAT, "software": __version__}
            if environment is not None:
                says["environment"] = environment
            durable.replace(mark, msgspec.json.encode(says) + b"\n")


class FeedAddress(msgspec.Struct, frozen=True):
    """Where the connector finds a feed's venue (or its simulator)."""

    ws: str
    rest: str


class Addresses(msgspec.Struct, frozen=True):
    """Where everything of a running `ssmd up` listens."""

    environment: str
    nats: str  # a cluster's servers: with commas in between
    temporal: str
    temporal_ui: str
    feeds: dict[str, FeedAddress]  # simulated ones only; others come from the feed's endpoints
    telemetry: dict[str, str]  # service -> http://host:port
    supervisor: int = 0  # its process id
    storage: str = ""  # the endpoint of the S3 server that it started


def addresses_path(data: Path) -> Path:
    return data / "run" / "addresses.json"


def load_addresses(data: Path) -> Addresses | None:
    """None where no `ssmd up` has run in this data folder."""
    try:
        return msgspec.json.decode(addresses_path(data).read_bytes(), type=Addresses)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as e:
        raise Permanent(f"{addresses_path(data)} is damaged: remove it and start `ssmd up` again") from e


def environment_of(addresses: Addresses) -> Environment:
    """The environment of a run, with the feeds that it runs beside those that are listed."""
    environment = load_environment(addresses.environment)
    running = [name.removeprefix("archiver-") for name in addresses.telemetry if name.startswith("archiver-")]
    listed = {plan.feed for plan in environment.feeds}
    more = [environment.feed(name) for name in running if name not in listed]
    return environment.model_copy(update={"feeds": [*environment.feeds, *more]}) if more else environment
