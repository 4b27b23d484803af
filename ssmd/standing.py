"""How a data folder stands: what runs on it now, and what is kept there. Looks, and changes nothing."""

import asyncio
import contextlib
import shutil
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from ssmd import archive, clock, config, ledger, service, tables
from ssmd.config import Addresses, Places
from ssmd.errors import Permanent, SsmdError

ASK_SECONDS = 2.0
RATE_SECONDS = 1.0  # between two looks at a connector: frames per second are counted over so long
DAYS = 2  # today and yesterday

Figures = dict[str, Any]


class Service(msgspec.Struct, frozen=True):
    """A process of the running platform: `healthy`, `red` with its problems, or `silent`."""

    name: str
    health: str
    problems: list[str] = []


class FeedNow(msgspec.Struct, frozen=True):
    """A feed as its services say it is; None where none runs or answers. Times in ns."""

    feed: str
    services: list[Service]
    connected: bool | None = None
    frames_per_second: float | None = None
    last_frame_at: int | None = None
    lag_ms: int | None = None
    journal_bytes: int | None = None
    gaps_open: int = 0

    @property
    def red(self) -> bool:
        """Whether somebody should look at it: only what runs can be."""
        return bool(self.services) and (
            self.connected is False or self.gaps_open > 0 or any(s.health != "healthy" for s in self.services)
        )


class DayKept(msgspec.Struct, frozen=True):
    """A day of a feed. `rolled_up` is yes, no or outdated; `published` the same, None if it is not known."""

    feed: str
    date: str
    frames: int
    sealed: bool
    rolled_up: str
    published: str | None


class Standing(msgspec.Struct, frozen=True):
    """All of it. `environment` is None where nothing runs and none has; `troubles` are sentences."""

    at: int
    data: str
    environment: str | None
    running: bool
    servers: list[Service]
    feeds: list[FeedNow]
    days: list[DayKept]
    free_bytes: int
    total_bytes: int
    free_bytes_min: int  # below that capture stops
    troubles: list[str]

    @property
    def red(self) -> bool:
        return (
            bool(self.troubles)
            or any(s.health != "healthy" for s in self.servers)
            or any(f.red for f in self.feeds)
            or self.free_bytes < self.free_bytes_min
        )


async def look(data: Path) -> Standing:
    """Raises Permanent if `data` is no data folder of ours."""
    places = Places(data)
    if not (data / "ssmd.json").exists() and not places.archive.is_dir():
        raise Permanent(f"{data} is no data folder yet: `ssmd up --data {data}` makes it one, --data names another")
    places.check()
    troubles: list[str] = []
    addresses = _running(data)
    name = places.environment() if addresses is None else addresses.environment
    environment = None
    if name is not None:
        try:
            environment = config.load_environment(name)
        except Permanent as e:
            troubles.append(str(e))
    services, figures, later, servers = await _ask(addresses)
    disk = shutil.disk_usage(data)
    names = sorted({_feed(s.name) for s in services} - {""} | set(ledger.feeds(places.archive)))
    feeds = [_now(places, feed, services, figures, later, troubles) for feed in names]
    days = await asyncio.to_thread(_kept, places, names, environment, addresses, troubles)
    return Standing(
        at=time.time_ns(),
        data=str(data),
        environment=name,
        running=addresses is not None,
        servers=[*servers, *(s for s in services if not _feed(s.name))],
        feeds=feeds,
        days=days,
        free_bytes=disk.free,
        total_bytes=disk.total,
        free_bytes_min=min(
            (environment.journalling if environment else config.Journalling()).free_bytes_min, disk.total // 20
        ),
        troubles=troubles,
    )


def _running(data: Path) -> Addresses | None:
    addresses = config.load_addresses(data)
    return addresses if addresses is not None and service.alive(addresses.supervisor) else None


def _feed(service_name: str) -> str:
    """Whose it is; a shard's number is left off."""
    return service_name.partition("-")[2].partition(".")[0]


# ------------------------------------------------------------------------------------------------------- what runs


async def _ask(
    addresses: Addresses | None,
) -> tuple[list[Service], dict[str, Figures], dict[str, Figures], list[Service]]:
    """Every service, what each says of itself, what connectors say a moment later, and the servers."""
    if addresses is None:
        return [], {}, {}, []
    named = addresses.telemetry
    async with httpx.AsyncClient(trust_env=False, timeout=ASK_SECONDS) as client:
        services = await asyncio.gather(*(_health(client, name, url) for name, url in named.items()))
        figures = await asyncio.gather(*(_figures(client, url) for url in named.values()))
        connectors = {name: url for name, url in named.items() if name.startswith("connector-")}
        await asyncio.sleep(RATE_SECONDS)
        later = await asyncio.gather(*(_figures(client, url) for url in connectors.values()))
    known = {"nats": addresses.nats, "temporal": addresses.temporal, "s3": addresses.storage}
    servers = await asyncio.gather(*(_server(name, where) for name, where in known.items() if where))
    return (
        list(services),
        dict(zip(named, figures, strict=True)),
        dict(zip(connectors, later, strict=True)),
        list(servers),
    )


async def _health(client: httpx.AsyncClient, name: str, url: str) -> Service:
    try:
        answer = await client.get(f"{url}/health")
        problems = msgspec.json.decode(answer.content)["problems"]
    except (httpx.HTTPError, msgspec.DecodeError, KeyError, TypeError):
        return Service(name, "silent", [f"{name} does not answer at {url}"])
    return Service(name, "red" if problems else "healthy", [f"{name}: {problem}" for problem in problems])


async def _figures(client: httpx.AsyncClient, url: str) -> Figures:
    """What it says at /status, and when (`at`, by our clock); empty if it is silent."""
    try:
        answer = await client.get(f"{url}/status")
        return msgspec.json.decode(answer.content, type=Figures) | {"at": time.monotonic()}
    except (httpx.HTTPError, msgspec.DecodeError):
        return {}


async def _server(name: str, where: str) -> Service:
    """Whether anybody listens there; of a cluster's servers the first that does is enough."""
    for one in where.split(","):
        parts = urlsplit(one if "//" in one else f"//{one}")
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(ASK_SECONDS):
                _, writer = await asyncio.open_connection(parts.hostname, parts.port)
            writer.close()
            return Service(name, "healthy")
    return Service(name, "silent", [f"{name} does not answer at {where}"])


def _now(
    places: Places,
    feed: str,
    services: list[Service],
    figures: dict[str, Figures],
    later: dict[str, Figures],
    troubles: list[str],
) -> FeedNow:
    own = [s for s in services if _feed(s.name) == feed]
    connectors = [s.name for s in own if s.name.startswith("connector-") and figures[s.name]]
    told = [figures[name] for name in connectors]
    archiver = figures.get(f"archiver-{feed}") or {}
    gaps = sum(int(f.get("gaps_open", 0)) for f in told)
    if not told and feed in ledger.feeds(places.archive):
        try:
            gaps = sum(g.end is None for one in ledger.recorded(places.archive, feed, DAYS) for g in one.gaps)
        except Permanent as e:
            troubles.append(str(e))
    last = max((int((later.get(name) or figures[name]).get("last_ts_recv", 0)) for name in connectors), default=0)
    rates = [_rate(figures[name], later.get(name) or {}) for name in connectors]
    return FeedNow(
        feed=feed,
        services=own,
        connected=all(bool(f.get("connected")) for f in told) if told else None,
        frames_per_second=sum(rates) if rates else None,
        last_frame_at=last or None,
        lag_ms=archiver.get("lag_ms"),
        journal_bytes=sum(int(f.get("journal_bytes", 0)) for f in told) if told else None,
        gaps_open=gaps,
    )


def _rate(before: Figures, after: Figures) -> float:
    if "frames" not in before or "frames" not in after or after["frames"] < before["frames"]:
        return 0.0
    return round(float(after["frames"] - before["frames"]) / float(after["at"] - before["at"]), 1)


# ---------------------------------------------------------------------------------------------------- what is kept


def _kept(
    places: Places,
    feeds: list[str],
    environment: config.Environment | None,
    addresses: Addresses | None,
    troubles: list[str],
) -> list[DayKept]:
    """Yesterday and today of each feed."""
    now_ns = time.time_ns()
    dates = [clock.date_of(now_ns - clock.DAY_NS * back) for back in reversed(range(DAYS))]
    published = _published(places, environment, addresses, troubles)
    found = []
    for feed in feeds:
        try:
            (known,) = ledger.recorded(places.archive, feed, DAYS) if feed in ledger.feeds(places.archive) else [None]
        except Permanent:
            continue  # told with its gaps
        for date in dates:
            manifest = known.manifests.get(date) if known is not None else None
            if known is None or manifest is None:
                continue
            state = known.cursor.days.get(date) if known.cursor is not None else None
            archived = sum(count for _, _, count in state.conns.values()) if state is not None else 0
            rolled = "no"
            try:
                with contextlib.suppress(FileNotFoundError):
                    rolled_up = tables.load_day(places.lake / tables.manifest_path(feed, date)).revision
                    rolled = "yes" if rolled_up == manifest.revision else "outdated"
            except Permanent as e:
                troubles.append(str(e))
            known_there = published.get((feed, date), 0) if published is not None else None
            said = None if known_there is None else _as_published(known_there, manifest)
            found.append(DayKept(feed, date, max(manifest.frames, archived), manifest.sealed, rolled, said))
    return found


def _as_published(revision: int, manifest: archive.Manifest) -> str:
    return "no" if not revision else "yes" if revision == manifest.revision else "outdated"


def _published(
    places: Places, environment: config.Environment | None, addresses: Addresses | None, troubles: list[str]
) -> dict[tuple[str, str], int] | None:
    """The revision that the environment's store has of each day; None without a store, or if it is away."""
    if environment is None or environment.storage is None:
        return None
    if environment.storage.server == "local" and addresses is None:
        return None  # it runs with the platform alone
    from ssmd import published, storage  # noqa: PLC0415 - half a second that most need not pay

    now_ns = time.time_ns()
    dates = {clock.date_of(now_ns - clock.DAY_NS * back) for back in range(DAYS)}
    try:
        store = storage.open_store(environment.storage, places.data, addresses.storage if addresses else "")
        days = [(feed, date) for feed, date, _ in published.records(store) if date in dates]
        records = {day: published.load(store, *day) for day in days}
    except SsmdError as e:
        troubles.append(str(e))
        return None
    return {day: record.revision for day, record in records.items() if record is not None}
