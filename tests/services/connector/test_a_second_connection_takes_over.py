"""Before a connection's time is over a second one stands beside it: no frame is missed and no gap is told."""

import asyncio
import contextlib
import itertools

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from services.connector import carrier as carrier_module
from ssmd import config

from .conftest import Rig, until


@pytest.fixture(autouse=True)
def short_lives(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrier_module, "SETTLED_SECONDS", 0.6)
    monkeypatch.setattr(carrier_module, "AGAIN_SECONDS", 0.2)
    version = rig.feed.versions[0].model_copy(update={"limits": config.Limits(connection_seconds=1.0)})
    rig.feed = rig.feed.model_copy(update={"versions": [version]})


async def chatter(connection: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        while True:
            await connection.send('{"type":"trade","symbol":"S"}')
            await asyncio.sleep(0.01)


async def finish(rig: Rig) -> None:
    await rig.stop("connector")
    await rig.stop("archiver")


def overlaps(rig: Rig) -> list[bool]:
    """Of each connection but the first: whether it was up, and heard, before its predecessor closed."""
    lines = rig.lines()
    first = {}
    for line in lines:
        if b'"feed":"fake"' not in bytes(line.frame):
            first.setdefault(line.conn, line.ts_recv)
    closed = {str(row["conn"]): row for row in rig.rows("type") if row["type"] == "close"}
    ends = {line.conn: line.ts_recv for line in lines if b'"type":"close"' in bytes(line.frame)}
    conns = sorted(first, key=lambda conn: first[conn])
    assert set(closed) == set(first)
    return [first[after] < ends[before] for before, after in itertools.pairwise(conns)]


async def test_lives_overlap_and_every_frame_of_both_is_archived(rig: Rig) -> None:
    rig.script = chatter
    await rig.start("archiver")
    await rig.start("connector")
    await until(lambda: len(rig.sent) >= 4, 20)
    assert rig.status("connector")["connected"] and rig.status("connector")["reconnects"] == 0
    await finish(rig)
    assert rig.rows("cause") == []
    assert len(overlaps(rig)) >= 3 and all(overlaps(rig))
    for archived, sent in zip(rig.venue_frames(), rig.sent, strict=True):
        assert archived == sent[: len(archived)] and len(sent) - len(archived) <= 1  # the send that failed


async def test_a_second_connection_that_fails_harms_nobody(rig: Rig) -> None:
    async def script(connection: ServerConnection) -> None:
        if len(rig.sent) in {2, 3}:
            connection.transport.abort()
        await chatter(connection)

    rig.script = script
    await rig.start("archiver")
    await rig.start("connector")
    await until(lambda: len(rig.sent) >= 5, 20)
    await finish(rig)
    assert rig.rows("cause") == []
    reasons = [str(row["reason"]) for row in rig.rows("type") if row["type"] == "close"]
    assert sum("did not take over" in reason for reason in reasons) >= 2


async def test_a_second_connection_that_was_not_whole_yet_takes_over_with_a_gap(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The venue ends the first one while the second has just been opened: no third one is needed."""
    monkeypatch.setattr(carrier_module, "SETTLED_SECONDS", 2.0)

    async def script(connection: ServerConnection) -> None:
        talking = asyncio.create_task(chatter(connection))
        if len(rig.sent) == 1:
            await until(lambda: len(rig.sent) == 2, 20)
            await asyncio.sleep(0.6)
            await connection.close(1001)
        await talking

    rig.script = script
    await rig.start("archiver")
    await rig.start("connector")
    await until(lambda: len(rig.sent) == 2 and len(rig.sent[1]) > 20, 20)
    await until(lambda: rig.status("connector")["gaps"] == 1)
    await until(lambda: rig.status("connector")["gaps_open"] == 0)
    await finish(rig)
    rows = rig.rows("cause")
    assert [(row["cause"], row.get("end") is None) for row in rows] == [("disconnect", True), ("disconnect", False)]
    opened = [row["conn"] for row in rig.rows("type") if row["type"] == "open"]
    closed = {row["conn"]: str(row["reason"]) for row in rig.rows("type") if row["type"] == "close"}
    assert {row["conn"] for row in rows} == {opened[1]}
    assert "1001" in closed[opened[0]] and "did not take over" not in closed[opened[1]]


async def test_a_stop_ends_both(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrier_module, "SETTLED_SECONDS", 60.0)
    rig.script = chatter
    await rig.start("archiver")
    await rig.start("connector")
    await until(lambda: len(rig.sent) == 2 and len(rig.sent[1]) > 20, 20)
    await finish(rig)
    kinds = [row["type"] for row in rig.rows("type")]
    assert kinds.count("close") == kinds.count("open") == 2
    assert rig.rows("cause") == []
