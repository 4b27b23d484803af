"""From the socket through journal and NATS to the archive, byte for byte, with our own rows between."""

import asyncio
import contextlib

from websockets.asyncio.server import ServerConnection

from .conftest import Rig, until


def numbered(count: int, first: int = 0) -> list[str]:
    return [f'{{"type":"trade","symbol":"S{i % 7}","i":{i}}}' for i in range(first, first + count)]


async def test_frames_are_archived_byte_for_byte(rig: Rig) -> None:
    strange = ["not json", '{"type":"trade"}\n', '{"type":\n"trade"}', "[1,2]", '{"type":"trade","s":"é"}', b"\xff\x00"]

    async def script(connection: ServerConnection) -> None:
        for frame in [*numbered(3000), *strange]:
            await connection.send(frame)

    rig.script = script
    await rig.start("archiver")
    await rig.start("connector")
    await until(lambda: len(rig.sent) == 1 and len(rig.sent[0]) == 3000 + len(strange))
    await rig.stop("connector")
    await rig.stop("archiver")
    assert rig.venue_frames() == rig.sent
    lines = rig.lines()
    assert [line.n for line in lines] == list(range(1, len(lines) + 1))
    assert [row["type"] for row in rig.rows("type")] == ["open", "connected", "close"]
    assert rig.rows("type")[-1]["frames"] == len(lines)
    (row,) = rig.rows("cause")
    assert (row["cause"], str(row["evidence"])[:22]) == ("parse", "3 frames in quarantine")
    assert rig.received == [b'{"cmd":"subscribe"}']


async def test_frames_in_flight_when_we_stop_are_kept(rig: Rig) -> None:
    """A stop in the middle of a stream: what the venue sent until it saw our close is archived."""

    async def script(connection: ServerConnection) -> None:
        with contextlib.suppress(Exception):
            for i, frame in enumerate(numbered(200_000)):
                await connection.send(frame)
                if i % 20 == 0:
                    await asyncio.sleep(0)  # lets it see our close
        rig.sent[0].pop()  # the send that failed

    rig.script = script
    await rig.start("archiver")
    await rig.start("connector")
    await until(lambda: bool(rig.sent) and len(rig.sent[0]) > 2000)
    await rig.stop("connector")
    await rig.stop("archiver")
    archived = rig.venue_frames()[0]
    assert archived == rig.sent[0][: len(archived)]
    assert len(archived) >= len(rig.sent[0]) - 1


async def test_a_lost_connection_is_a_gap_with_its_extent(rig: Rig) -> None:
    async def script(connection: ServerConnection) -> None:
        for frame in numbered(10):
            await connection.send(frame)
        if len(rig.sent) == 1:
            connection.transport.abort()

    rig.script = script
    await rig.start("archiver")
    await rig.start("connector")
    await until(lambda: len(rig.sent) == 2 and len(rig.sent[1]) == 10)
    await rig.stop("connector")
    await rig.stop("archiver")
    gaps = rig.rows("cause")
    assert [gap["cause"] for gap in gaps] == ["disconnect", "disconnect"]
    assert gaps[0]["gap"] == gaps[1]["gap"]
    assert (gaps[0]["end"] is None, gaps[1]["end"] > gaps[1]["start"]) == (True, True)  # type: ignore[operator]
    assert rig.venue_frames()[-1] == rig.sent[1]


async def test_what_the_adapter_notices_becomes_rows_and_answers(rig: Rig) -> None:
    async def script(connection: ServerConnection) -> None:
        for kind in ("trade", "break", "ask", "mended", "trade"):
            await connection.send(f'{{"type":"{kind}","symbol":"X"}}')

    rig.script = script
    await rig.start("archiver")
    await rig.start("connector")
    await until(lambda: len(rig.received) == 2)
    await rig.stop("connector")
    await rig.stop("archiver")
    assert rig.received[1] == b'{"answer":1}'
    opened, closed = rig.rows("cause")
    assert (opened["symbols"], opened["cause"], opened["evidence"]) == (["X"], "sequence", "seq 3 after 1")
    assert closed["end"] is not None


async def test_a_killed_connector_goes_on_and_says_what_is_missing(rig: Rig) -> None:
    async def script(connection: ServerConnection) -> None:
        for frame in numbered(500):
            await connection.send(frame)

    rig.script = script
    await rig.start("archiver")
    await rig.start("connector")
    await until(lambda: bool(rig.sent) and len(rig.sent[0]) == 500)
    await asyncio.sleep(0.2)
    await rig.kill("connector")
    await rig.start("connector")
    await until(lambda: len(rig.sent) == 2 and len(rig.sent[1]) == 500)
    await rig.stop("connector")
    await rig.stop("archiver")
    assert rig.venue_frames() == rig.sent
    numbers = [(line.conn, line.n) for line in rig.lines()]
    assert len(numbers) == len(set(numbers))
    assert [(row["type"], row.get("reason", "")) for row in rig.rows("type")] == [
        ("open", ""),
        ("connected", ""),
        ("open", ""),
        ("close", "the connector died"),
        ("connected", ""),
        ("close", "stopped"),
    ]
    assert [gap["cause"] for gap in rig.rows("cause")] == ["restart", "restart"]


async def test_a_killed_archiver_goes_on_where_it_was(rig: Rig) -> None:
    async def script(connection: ServerConnection) -> None:
        for i in range(0, 4000, 50):
            for frame in numbered(50, i):
                await connection.send(frame)
            await asyncio.sleep(0.01)

    rig.script = script
    await rig.start("archiver")
    await rig.start("connector")
    for _ in range(4):
        await asyncio.sleep(0.25)
        await rig.kill("archiver")
        await rig.start("archiver")
    await until(lambda: bool(rig.sent) and len(rig.sent[0]) == 4000)
    await rig.stop("connector")
    await rig.stop("archiver")
    assert rig.venue_frames() == rig.sent
    numbers = [(line.conn, line.n) for line in rig.lines()]
    assert len(numbers) == len(set(numbers))
