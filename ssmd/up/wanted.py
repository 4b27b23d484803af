"""What `ssmd up` was asked for, checked whole before anything is written or started."""

import gzip
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from math import isfinite
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from ssmd import config
from ssmd.errors import Permanent
from ssmd.up import ports, servers

SIMULATOR = config.SIMULATOR
_LINE_BYTES_MAX = 8 << 20
_GZIP = b"\x1f\x8b"

Clock = Literal["now", "recorded"]


@dataclass(frozen=True)
class Source:
    """One feed of this run: as we know it, as the environment runs it, and whether its venue is simulated."""

    feed: config.Feed
    plan: config.EnvironmentFeed

    @property
    def name(self) -> str:
        return self.feed.name

    @property
    def shards(self) -> list[str]:
        """Its connectors: the first one's name is the feed's, the others' have their number behind it."""
        return [f"{self.name}.{shard}" if shard else self.name for shard in range(self.plan.shards)]

    @property
    def simulated(self) -> bool:
        return self.plan.endpoint == SIMULATOR

    def simulated_at(self, port: int) -> config.FeedAddress:
        """The venue's own URL paths, on our port."""
        known = next(iter(self.feed.at(date.today()).endpoints.values()))
        return config.FeedAddress(
            ws=f"ws://{servers.LOOPBACK}:{port}{urlsplit(known.ws).path}",
            rest=f"http://{servers.LOOPBACK}:{port}{urlsplit(known.rest).path}",
        )


@dataclass(frozen=True)
class Wanted:
    """A run of the platform. `seconds` None: until told to stop. `speed` is a number or `max`."""

    data: Path
    environment: config.Environment
    sources: tuple[Source, ...]
    seconds: float | None
    replay: tuple[Path, ...]
    speed: str
    clock: Clock
    once: bool
    ports: dict[str, int]
    seed: int | None

    @property
    def local_servers(self) -> bool:
        return self.environment.servers == "local"

    @property
    def bounded(self) -> bool:
        """It ends by itself, so a log of every frame sent stays finite."""
        return self.once or self.seconds is not None


def check(
    *,
    data: Path,
    env: str,
    feeds: Sequence[str],
    seconds: float | None,
    replay: Sequence[Path],
    speed: str,
    clock: str,
    once: bool,
    port_options: Sequence[str],
    seed: int | None,
) -> Wanted:
    """The run that these options ask for. Raises Permanent with one sentence; writes nothing."""
    environment = config.load_environment(env)
    sources = tuple(_source(environment, name) for name in feeds or [f.feed for f in environment.feeds])
    if len({s.name for s in sources}) < len(sources):
        raise Permanent(f"--feed: a feed is named twice ({', '.join(feeds)}): name each once")
    if clock not in {"now", "recorded"}:
        raise Permanent(f"--clock {clock}: is neither `now` nor `recorded`: choose one of them")
    if seconds is not None and not (isfinite(seconds) and seconds > 0):
        raise Permanent(f"--for {seconds:g}: is not a positive number of seconds; leave it out to run until Ctrl-C")
    if once and not replay and seconds is None:
        raise Permanent("--once: needs an end: give a recording with --replay FILE, or a duration with --for SECONDS")
    _check_replay(replay, environment, sources, speed, clock)
    _check_folder(data)
    config.Places(data).check(environment.name)
    _check_keys(environment, sources, data)
    if environment.servers == "local":
        servers.find_binary("nats-server")
        servers.find_binary("temporal")
    if starts_s3(environment):
        servers.find_binary("weed")
    usual = usual_ports(environment, sources)
    wanted_ports = ports.asked(port_options, usual)
    ports.refuse_taken(wanted_ports)
    return Wanted(
        data=data.resolve(),
        environment=environment,
        sources=sources,
        seconds=seconds,
        replay=tuple(path.resolve() for path in replay),
        speed=speed,
        clock="recorded" if clock == "recorded" else "now",
        once=once,
        ports=wanted_ports,
        seed=seed,
    )


def usual_ports(environment: config.Environment, sources: Sequence[Source]) -> dict[str, int]:
    """Every port that a run listens on, by name, with its usual number."""
    usual: dict[str, int] = {}
    if environment.servers == "local":
        usual |= {"nats": _port_of(environment.nats.servers[0], 4222), "nats-monitor": 8222}
        usual |= {"temporal": _port_of(f"//{environment.temporal.address}", 7233), "ui": 8233}
    if starts_s3(environment):
        usual |= {name: 8333 + i for i, name in enumerate(servers.S3_PORTS)}
    simulated = [s for s in sources if s.simulated]
    for source in simulated:
        usual[SIMULATOR if len(simulated) == 1 else f"{SIMULATOR}-{source.name}"] = 8765
    # Where each service answers /health, /ready, /metrics and /status.
    usual |= {telemetry_port(SIMULATOR, s.name): 9101 for s in simulated}
    usual |= {telemetry_port("archiver", s.name): 9111 for s in sources}
    usual |= {telemetry_port("connector", name): 9121 for s in sources for name in s.shards}
    usual |= {telemetry_port("normalizer", s.name): 9141 for s in sources}
    return usual | {telemetry_port("worker"): 9131}


def starts_s3(environment: config.Environment) -> bool:
    """Whether a run has an S3 server of its own."""
    return environment.storage is not None and environment.storage.server == "local"


def telemetry_port(service: str, feed: str | None = None) -> str:
    """The name of the port where a service answers about itself."""
    return f"{service}-{feed}-status" if feed else f"{service}-status"


def _port_of(url: str, otherwise: int) -> int:
    try:
        return urlsplit(url).port or otherwise
    except ValueError:
        return otherwise


def _source(environment: config.Environment, name: str) -> Source:
    plan = environment.feed(name)
    feed = config.load_feed(name)
    known = feed.at(date.today()).endpoints
    if plan.endpoint != SIMULATOR and plan.endpoint not in known:
        raise Permanent(
            f"environment {environment.name}: feed {name}: there is no endpoint {plan.endpoint!r}; "
            f"the feed has {', '.join(known)} (and {SIMULATOR})"
        )
    return Source(feed, plan)


def _check_keys(environment: config.Environment, sources: Sequence[Source], data: Path) -> None:
    for source in sources:
        if source.plan.key is not None and not source.simulated:
            _check_key(source, source.plan.key, data)
        elif source.plan.key is None and source.feed.at(date.today()).signed:
            raise Permanent(
                f"environment {environment.name}: feed {source.name} needs a key: give its `key: {{id: …, secret: …}}`"
            )


def _check_key(source: Source, reference: config.KeyReference, data: Path) -> None:
    """Let the venue look at it, so that a wrong key is refused before anything is started."""
    key_id, secret = reference.load(data)
    try:
        config.application(f"exchanges.{source.feed.venue}").venue.key(key_id, secret)
    except Permanent as e:
        raise Permanent(f"key reference {reference.secret}: {e}") from None


def _check_replay(
    replay: Sequence[Path], environment: config.Environment, sources: Sequence[Source], speed: str, clock: str
) -> None:
    if not replay:
        if speed != "1":
            raise Permanent(f"--speed {speed}: is the speed of a replay: give the recording too, with --replay FILE")
        if clock != "now":
            raise Permanent(f"--clock {clock}: there is no recording to take the time from: give it with --replay FILE")
        return
    simulated = [s for s in sources if s.simulated]
    if not simulated:
        raise Permanent(
            f"--replay {replay[0]}: environment {environment.name} has no simulated feed to replay it through; "
            f"use --env local"
        )
    if len(simulated) > 1:
        names = ", ".join(s.name for s in simulated)
        raise Permanent(f"--replay {replay[0]}: of which feed? name one with --feed: {names}")
    if speed != "max" and not _is_positive(speed):
        raise Permanent(f"--speed {speed}: is neither a positive number (1 is as recorded) nor `max`")
    for path in replay:
        _check_recording(path, simulated[0].feed.venue)


def _is_positive(text: str) -> bool:
    try:
        return isfinite(float(text)) and float(text) > 0
    except ValueError:
        return False


def _check_recording(path: Path, venue: str) -> None:
    """Its first line is JSON, or the venue reads it, so that a wrong file is refused here and not by a simulator that
    keeps dying."""
    if not path.exists():
        raise Permanent(f"--replay {path}: there is no such file; name a recording (NDJSON, plain or gzip)")
    if not path.is_file():
        raise Permanent(f"--replay {path}: is not a file; name a recording (NDJSON, plain or gzip)")
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            first = file.readline(_LINE_BYTES_MAX)
    except (OSError, EOFError, zlib.error) as e:
        raise Permanent(f"--replay {path}: cannot be read ({e}); name a recording (NDJSON, plain or gzip)") from e
    if not first.strip():
        raise Permanent(f"--replay {path}: is empty; name a recording (NDJSON, plain or gzip)")
    try:
        record = msgspec.json.decode(first)
    except (msgspec.DecodeError, UnicodeDecodeError):
        record = None
    if not isinstance(record, dict) and not _reads(venue, first):
        raise Permanent(f"--replay {path}: is no recording: its first line is no JSON object (NDJSON, plain or gzip)")


def _reads(venue: str, line: bytes) -> bool:
    """Whether a venue's simulator can replay a line: recorders write what they like."""
    port = config.application("exchanges.port")
    try:
        config.application(f"exchanges.{venue}").venue.simulator(port.Simulation()).record(line)
    except port.Unparsable:
        return False
    return True


def _check_folder(data: Path) -> None:
    """The data folder is one we may write to, or could be made."""
    if data.exists() and not data.is_dir():
        raise Permanent(f"--data {data}: is a file, not a folder; name another folder")
    standing = data.absolute()
    while not standing.exists():
        standing = standing.parent
    if not standing.is_dir():
        raise Permanent(f"--data {data}: {standing} is a file, not a folder; name another folder")
    if not os.access(standing, os.W_OK | os.X_OK):
        raise Permanent(f"--data {data}: you may not write to {standing}; name another folder, or change its owner")
