"""Which processes a run consists of, how each is called, and which it needs before it."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ssmd import config
from ssmd.up import servers
from ssmd.up.ports import Chosen
from ssmd.up.wanted import SIMULATOR, Source, Wanted, starts_s3, telemetry_port


@dataclass(frozen=True)
class Part:
    """One process: started after all it `needs`, stopped before any of them. `kind` is the service's name."""

    name: str
    kind: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    feed: str | None = None
    status_port: int = 0  # 0: it answers nothing about itself that we read
    health: str = ""  # a server's own word on whether it can do its work, if it has one
    folder: Path | None = None  # where it writes


def addresses(wanted: Wanted, chosen: Mapping[str, Chosen], supervisor: int) -> config.Addresses:
    """Where everything of this run listens."""
    environment = wanted.environment
    local = wanted.local_servers
    host = servers.LOOPBACK
    return config.Addresses(
        environment=environment.name,
        nats=f"nats://{host}:{chosen['nats'].port}" if local else environment.nats.url,
        temporal=f"{host}:{chosen['temporal'].port}" if local else environment.temporal.address,
        temporal_ui=f"http://{host}:{chosen['ui'].port}" if local else "",
        feeds={s.name: s.simulated_at(venue_port(s, chosen)) for s in wanted.sources if s.simulated},
        telemetry={
            name.removesuffix("-status"): f"http://{host}:{c.port}"
            for name, c in chosen.items()
            if name.endswith("-status")
        },
        supervisor=supervisor,
        storage=f"http://{host}:{chosen['s3'].port}" if starts_s3(environment) else "",
    )


def venue_port(source: Source, chosen: Mapping[str, Chosen]) -> int:
    """Where a simulated venue listens for WebSockets and REST."""
    named = chosen.get(f"{SIMULATOR}-{source.name}") or chosen[SIMULATOR]
    return named.port


def parts(wanted: Wanted, chosen: Mapping[str, Chosen], keys: Mapping[str, tuple[str, Path]]) -> list[Part]:
    """Every process of this run, each after what it needs."""
    places = config.Places(wanted.data)
    found: list[Part] = []
    if wanted.local_servers:
        nats, temporal = servers.find_binary("nats-server"), servers.find_binary("temporal")
        nats_line = servers.nats_command(nats, places.nats, chosen["nats"].port, chosen["nats-monitor"].port)
        ports = chosen["temporal"].port, chosen["ui"].port
        temporal_line = servers.temporal_command(temporal, places.temporal, *ports, wanted.environment.temporal.space)
        health = f"http://{servers.LOOPBACK}:{chosen['nats-monitor'].port}/healthz"
        found = [
            Part("nats", "nats", tuple(nats_line), health=health, folder=places.nats),
            Part("temporal", "temporal", tuple(temporal_line)),
        ]
    storage = wanted.environment.storage
    if starts_s3(wanted.environment) and storage is not None and storage.key is not None:
        key_id, secret = storage.key.load(places.data)
        s3_ports = {name: chosen[name].port for name in servers.S3_PORTS}
        folder = places.data / "s3"
        line = servers.s3_command(servers.find_binary("weed"), folder, s3_ports, key_id, secret.decode().strip())
        found.append(Part("s3", "s3", tuple(line), folder=folder))
    started = {p.name for p in found}

    def service(
        kind: str, source: Source | None, needs: tuple[str, ...], *more: str, instance: str | None = None
    ) -> None:
        """`instance` is what tells it from others of its kind, if its feed has several."""
        feed = source.name if source else None
        instance = instance or feed
        name = f"{kind}-{instance}" if instance else kind
        port = chosen[telemetry_port(kind, instance)].port
        command = [sys.executable, "-m", f"services.{kind}", "--data", str(wanted.data), "--port", str(port)]
        if kind != SIMULATOR:
            command += ["--env", wanted.environment.name]
        if feed:
            command += ["--feed", feed]
        present = tuple(n for n in needs if n in started)
        found.append(Part(name, kind, (*command, *more), present, feed, port))
        started.add(name)

    for source in wanted.sources:
        if source.simulated:
            more = _simulator_options(wanted, source, venue_port(source, chosen), keys, places)
            service(SIMULATOR, source, (), *more)
        service("archiver", source, ("nats",))
        needs = ("nats", f"{SIMULATOR}-{source.name}", f"archiver-{source.name}")
        for shard, instance in enumerate(source.shards):
            more = ["--clock", wanted.clock, *(["--shard", str(shard)] if shard else [])]
            service("connector", source, needs, *more, instance=instance)
        service("normalizer", source, ("nats",))
    service("worker", None, ("nats", "temporal", "s3"))
    return found


def truth_path(places: config.Places, feed: str) -> Path:
    """Where the simulator of a run that ends says what it sent."""
    return places.logs / f"simulator-{feed}.truth.ndjson"


def _simulator_options(
    wanted: Wanted, source: Source, port: int, keys: Mapping[str, tuple[str, Path]], places: config.Places
) -> list[str]:
    options = ["--listen", str(port)]
    if source.name in keys:
        key_id, public = keys[source.name]
        options += ["--key-id", key_id, "--public-key", str(public)]
    if wanted.seed is not None:
        options += ["--seed", str(wanted.seed)]
    if wanted.bounded or wanted.replay:
        options += ["--truth", str(truth_path(places, source.name))]
    for recording in wanted.replay:
        options += ["--replay", str(recording)]
    if wanted.replay:
        options += ["--speed", wanted.speed, "--clock", wanted.clock]
    return options
