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
from datetime import date
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ssmd import __version__, durable
from ssmd.errors import Permanent

DATA_FORMAT = 1
SIMULATOR = "simulator"  # the endpoint that every feed has: its venue, played on this machine
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# ---------------------------------------------------------------------------------------------------------- feed


class Endpoint(_Model):
    """Where a venue listens."""

    ws: str
    rest: str
    trades_days: float | None = Field(None, gt=0)  # how long its REST remembers trades; none: for ever


class Limits(_Model):
    """What a venue allows, or what we keep to where it does not say."""

    symbols_per_subscription: int = 256
    symbols_per_connection: int | None = Field(None, ge=1)
    subscriptions_per_connection: int | None = Field(None, ge=1)  # one for each symbol and channel
    connections: int = Field(100, ge=1)  # at once; what they have no room for is a row of the gap ledger
    connects_per_minute: float | None = Field(None, gt=0)  # attempts of one process
    frame_bytes: int = 4 << 20
    connection_seconds: float | None = None  # when a connection is old: a second one takes over before it ends
    rest_per_second: float = Field(5.0, gt=0)  # requests of the batch side to its REST services, from one machine

    def symbols_max(self, channels: int) -> int | None:
        """How many symbols one connection carries on so many channels, each of which may be one of no list, too."""
        if self.subscriptions_per_connection is None:
            return self.symbols_per_connection
        room = max(1, (self.subscriptions_per_connection - channels) // max(1, channels))
        return min(room, self.symbols_per_connection or room)


class FeedVersion(_Model):
    """What holds from a date on."""

    effective_from: date
    endpoints: dict[str, Endpoint]
    channels: list[str]
    limits: Limits = Limits()
    silence_seconds: float = 30.0  # no frame of any kind for so long: the connection is dead
    compression: bool = False
    signed: bool = False  # the handshake needs a key


class Precision(_Model):
    """Digits after the decimal point that the lake keeps; a value that does not fit is quarantined, never rounded.

    `digits` is how many a value has in all. Feeds are read together: the most before the point of any and the most
    after it must stay within 38, or DuckDB rounds. More than 18 take twice the memory.
    """

    price: int
    size: int
    digits: int = Field(18, ge=18, le=38)


class Feed(_Model):
    """One venue's data as we subscribe to it. `venue` is the folder under exchanges/."""

    name: Name
    venue: str
    title: str
    precision: Precision
    versions: list[FeedVersion] = Field(min_length=1)

    def at(self, day: date) -> FeedVersion:
        """The version in force on a day."""
        versions = sorted(self.versions, key=lambda v: v.effective_from)
        return next((v for v in reversed(versions) if v.effective_from <= day), versions[0])


# --------------------------------------------------------------------------------------------------- environment


class Symbols(_Model):
    """Which instruments: the named ones, those of the named series, or (both empty) all open ones."""

    names: list[str] = []
    series: list[str] = []
    refresh_seconds: float = 60.0


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

    feed: Name
    endpoint: str  # SIMULATOR, or a name in the feed's endpoints
    symbols: Symbols = Symbols()
    channels: list[str] = []  # empty: all of the feed's
    key: KeyReference | None = None
    shards: int = Field(1, ge=1, le=100)  # connector processes, each with its part of the instruments

    def shard_of(self, symbol: str) -> int:
        """Which of them has an instrument, by its name alone. Of another number of shards few move."""
        return max(range(self.shards), key=lambda n: blake2b(f"{n} {symbol}".encode(), digest_size=8).digest())


class Nats(_Model):
    """The servers of NATS, any of which may be down, and on how many of them each stream is kept."""

    servers: list[str] = Field(["nats://127.0.0.1:4222"], min_length=1)
    replicas: Literal[1, 3, 5] = 1

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

    name: Name
    servers: Literal["local", "remote"] = "local"  # local: `ssmd up` starts NATS and Temporal itself
    nats: Nats = Nats()
    temporal: Temporal = Temporal()
    journalling: Journalling = Journalling()
    archiving: Archiving = Archiving()
    rolling_up: RollingUp = RollingUp()
    storage: Storage | None = None
    retention: Retention = Retention()
    reports: Reports = Reports()
    schedules: dict[Name, Schedule | None] = {}  # by name, over the defaults; null leaves a default out
    feeds: list[EnvironmentFeed] = Field(min_length=1)

    @field_validator("nats", mode="before")
    @classmethod
    def _one_server(cls, nats: object) -> object:
        return {"servers": nats.split(",")} if isinstance(nats, str) else nats

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
    """The folder with feeds/ and environments/: $SSMD_CONFIG, or the application's own exchanges/."""
    named = os.environ.get("SSMD_CONFIG")
    return Path(named) if named else application_folder() / "exchanges"


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
        text = path.read_text()
    except FileNotFoundError:
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml"))) or "none"
        raise Permanent(f"there is no {kind} {name!r} in {folder}; there is: {known}") from None
    except (OSError, UnicodeDecodeError) as e:
        raise Permanent(f"cannot read {path}: {e}") from e
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise Permanent(f"{where} is not valid YAML ({getattr(e, 'problem', e)}): mend that line") from e
    try:
        loaded = model.model_validate(content)
    except ValidationError as e:
        first = e.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        more = f" (and {e.error_count() - 1} more)" if e.error_count() > 1 else ""
        raise Permanent(f"{path}:{_line(text, first['loc'])}: {field}: {first['msg'].lower()}{more}") from e
    if loaded.name != name:
        raise Permanent(f"{path}: name: is {loaded.name!r}, but must be that of the file, {name!r}")
    return loaded


def line_of(folder: str, name: str, loc: Sequence[str | int]) -> str:
    """`file:line` of what a configuration file says at `loc`, or of the nearest thing around it."""
    path = config_folder() / folder / f"{name}.yaml"
    try:
        return f"{path}:{_line(path.read_text(), loc)}"
    except OSError:
        return str(path)


def _line(text: str, loc: Sequence[str | int]) -> int:
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    line = 1
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == part), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return int(line)


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


def feeds_run(environment: Environment, addresses: Addresses) -> list[str]:
    """The feeds that run: with servers of its own those that `ssmd up` has started, else all of the environment's.

    Shared servers may have several machines, each with some of the feeds.
    """
    started = [name.removeprefix("connector-") for name in addresses.telemetry if name.startswith("connector-")]
    alone = environment.servers == "local" and started
    return sorted(started) if alone else [plan.feed for plan in environment.feeds]


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
