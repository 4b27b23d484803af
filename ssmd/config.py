"""Feeds and environments as YAML, and where a data folder keeps what: parsed once, at the door.

`exchanges/feeds/NAME.yaml` says what a venue offers; `exchanges/environments/NAME.yaml` says what we run and
where. A data folder holds `journal/ archive/ lake/ nats/ temporal/ logs/ keys/ run/` and a `ssmd.json` with its
format. While `ssmd up` runs, `run/addresses.json` says where everything listens.
"""

import os
import re
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, TypeVar

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


class Limits(_Model):
    """What a venue allows, or what we keep to where it does not say."""

    symbols_per_subscription: int = 256
    frame_bytes: int = 4 << 20
    connection_seconds: float | None = None  # when a connection is old: a second one takes over before it ends


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


class KeyReference(_Model):
    """Where a credential is (`env:NAME` or `file:PATH`, with {data}), never what it is."""

    id: str = Field(pattern=r"^(env|file):.+")
    secret: str = Field(pattern=r"^(env|file):.+")

    def load(self, data: Path) -> tuple[str, bytes]:
        """The key id and the secret. Raises Permanent naming the reference, never the value."""
        return _dereference(self.id, data).decode().strip(), _dereference(self.secret, data)


class EnvironmentFeed(_Model):
    """How this environment runs a feed."""

    feed: Name
    endpoint: str  # SIMULATOR, or a name in the feed's endpoints
    symbols: Symbols = Symbols()
    channels: list[str] = []  # empty: all of the feed's
    key: KeyReference | None = None


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


class Temporal(_Model):
    address: str = "127.0.0.1:7233"
    namespace: str = "default"
    task_queue: str = "ssmd"


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


class Environment(_Model):
    """What runs where: `local` runs everything here against simulators."""

    name: Name
    servers: Literal["local", "remote"] = "local"  # local: `ssmd up` starts NATS and Temporal itself
    nats: Nats = Nats()
    temporal: Temporal = Temporal()
    journalling: Journalling = Journalling()
    archiving: Archiving = Archiving()
    rolling_up: RollingUp = RollingUp()
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
        raise Permanent(f"{path}: {field}: {first['msg'].lower()}{more}") from e
    if loaded.name != name:
        raise Permanent(f"{path}: name: is {loaded.name!r}, but must be that of the file, {name!r}")
    return loaded


def _dereference(reference: str, data: Path) -> bytes:
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
