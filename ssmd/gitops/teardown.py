"""What an environment has made, and how it goes away: its data folder, and its streams on a NATS server elsewhere."""

import asyncio
import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from ssmd import config, durable, service, subjects
from ssmd.errors import Permanent, Transient

_CONNECT_SECONDS = 3.0


@dataclass(frozen=True)
class Item:
    """Something that goes. `size` in bytes."""

    what: str
    where: str
    size: int
    detail: str = ""


def planned(environment: config.Environment, data: Path) -> list[Item]:
    """All that would go. Raises Permanent if the data folder is another's or in use, Transient if NATS is away."""
    return _folders(environment, data) + _streams(environment, remove=False)


def remove(environment: config.Environment, data: Path) -> list[Item]:
    """Remove what `planned` tells; it may be done again after an interruption. What was removed."""
    gone = _folders(environment, data)
    places = config.Places(data)
    with durable.Lock(data, "ssmd env teardown") if gone else contextlib.nullcontext():
        streams = _streams(environment, remove=True)
        for item in gone:
            shutil.rmtree(item.where)
    if gone:
        for last in (data / ".lock", data / "ssmd.json"):
            durable.remove(last)
        if not any(places.data.iterdir()):
            places.data.rmdir()
    return gone + streams


def _folders(environment: config.Environment, data: Path) -> list[Item]:
    if not (data / "ssmd.json").is_file():
        return []
    places = config.Places(data)
    places.check(environment.name)
    addresses = config.load_addresses(data)
    if addresses is not None and addresses.supervisor and service.alive(addresses.supervisor):
        raise Permanent(f"{data} is in use by `ssmd up` (process {addresses.supervisor}): stop it first, with Ctrl-C")
    found = []
    for folder in vars(places).values():
        if folder == data:
            continue
        if folder.is_dir():
            sizes = [p.lstat().st_size for p in folder.rglob("*") if p.is_file()]
            found.append(Item(folder.name, str(folder), sum(sizes), f"{len(sizes):,} files"))
    return found


def _streams(environment: config.Environment, *, remove: bool) -> list[Item]:
    """Those on a server that we do not start ourselves; a local one keeps them in the data folder."""
    if environment.servers == "local":
        return []
    return asyncio.run(_of_nats(environment, remove=remove))


async def _of_nats(environment: config.Environment, *, remove: bool) -> list[Item]:
    from nats.errors import Error  # noqa: PLC0415
    from nats.js.errors import NotFoundError  # noqa: PLC0415

    from ssmd import broker  # noqa: PLC0415 - 50 ms

    where = environment.nats.url
    try:
        client = await broker.connect_once(where, "ssmd env teardown", _CONNECT_SECONDS)
    except (Error, OSError, TimeoutError) as e:
        raise Transient(f"no NATS answers at {where} ({e or type(e).__name__}): start it first") from e
    found = []
    try:
        stream = client.jetstream(timeout=_CONNECT_SECONDS)
        for plan in environment.feeds:
            name = subjects.stream(environment.name, plan.feed)
            try:
                state = (await stream.stream_info(name)).state
            except NotFoundError:
                continue
            if remove:
                await stream.delete_stream(name)
            found.append(Item("stream", name, state.bytes, f"{state.messages:,} messages"))
    finally:
        await client.close()
    return found
