"""Whatever makes data go missing becomes a row with its extent: silence, a full journal, frames lost on the way."""

import asyncio
import contextlib
from pathlib import Path

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from services.archiver import archiver as archiver_module
from services.connector import carrier as carrier_module
from services.connector import connector as connector_module
from services.connector import rhythm
from ssmd import config, journal
from ssmd.events import Gap

from .conftest import Rig, until


async def chatter(connection: ServerConnection, seconds: float) -> None:
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        await connection.send('{"type":"trade","symbol":"S"}')
        await asyncio.sleep(0.05)


def causes(rig: Rig) -> list[tuple[str, bool]]:
    """The ledger: each row's cause, and whether it closes the gap."""
    return [(str(row["cause"]), row.get("end") is not None) for row in rig.rows("cause")]


async def test_silence_that_the_venue_does_not_explain_is_stale(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rhythm, "KNOWN_LOOKS", 4)
    monkeypatch.setattr(rhythm, "SUSPECT_SECONDS", 1.0)
    monkeypatch.setattr(rhythm, "SUSPECT_PAUSES", 1.0)
    monkeypatch.setattr(rhythm, "ANSWER_SECONDS", 0.5)

    async def script(connection: ServerConnection) -> None:
        await chatter(connection, 3.5)
        await asyncio.sleep(5)  # pings are answered, our question is not
        await connection.send('{"type":"trade","symbol":"S"}')

    rig.script = script
    await rig.start("archiver")
    await rig.start("connector")
    await until(lambda: b'{"cmd":"probe"}' in rig.received, 12)
    await until(lambda: rig.status("connector")["gaps_open"] == 1, 6)
    await until(lambda: rig.status("connector")["gaps_open"] == 0, 12)
    await rig.stop("connector")
    await rig.stop("archiver")
    assert causes(rig) == [("stale", False), ("stale", True)]
    start, end = rig.rows("cause")[1]["start"], rig.rows("cause")[1]["end"]
    assert 4e9 < end - start < 8e9  # type: ignore[operator]


async def test_silence_that_the_venue_explains_is_no_gap(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rhythm, "KNOWN_LOOKS", 4)
    monkeypatch.setattr(rhythm, "SUSPECT_SECONDS", 1.0)
    monkeypatch.setattr(rhythm, "SUSPECT_PAUSES", 1.0)
    monkeypatch.setattr(rhythm, "ANSWER_SECONDS", 0.5)

    async def script(connection: ServerConnection) -> None:
        await chatter(connection, 3.5)
        while connection.close_code is None:
            await asyncio.sleep(0.1)
            if rig.received.count(b'{"cmd":"probe"}') > len([f for f in rig.sent[0] if b"answer" in f]):
                await connection.send('{"type":"control","answer":1}')

    rig.script = script
    await rig.start("archiver")
    await rig.start("connector")
    await until(lambda: b'{"cmd":"probe"}' in rig.received, 12)
    await asyncio.sleep(2)
    await rig.stop("connector")
    await rig.stop("archiver")
    assert causes(rig) == []


async def test_a_dead_link_is_stale_and_connected_anew(rig: Rig) -> None:
    """Nothing at all is heard, not even answers to pings: seen after the feed's silence_seconds."""
    version = rig.feed.versions[0].model_copy(update={"silence_seconds": 2.0})
    rig.feed = rig.feed.model_copy(update={"versions": [version]})

    async def script(connection: ServerConnection) -> None:
        await connection.send('{"type":"trade","symbol":"S"}')
        if len(rig.sent) == 1:
            connection.transport.pause_reading()  # type: ignore[attr-defined]

    rig.script = script
    await rig.start("archiver")
    await rig.start("connector")
    await until(lambda: len(rig.sent) == 2 and len(rig.sent[1]) == 1)
    await rig.stop("connector")
    await rig.stop("archiver")
    assert causes(rig) == [("stale", False), ("stale", True)]
    assert "not even answers to pings" in str(rig.rows("cause")[0]["evidence"])


async def test_a_full_journal_pauses_capture_and_says_so(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an archiver the journal cannot shrink; once there is one, capture goes on."""
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 10_000)
    monkeypatch.setattr(journal.Journal.__init__, "__defaults__", (10_000,))
    rig.environment = rig.environment.model_copy(update={"journalling": config.Journalling(bytes_max=60_000)})

    async def chatter_fast(connection: ServerConnection) -> None:
        for i in range(2_000):
            await connection.send(f'{{"type":"trade","symbol":"S","i":{i}}}')
            await asyncio.sleep(0.002)

    rig.script = chatter_fast
    await rig.start("connector")
    await until(lambda: not rig.status("connector")["connected"] and bool(rig.sent))
    await rig.start("archiver")
    await until(lambda: len(rig.sent) >= 2, 20)
    await until(lambda: rig.status("connector")["gaps_open"] == 0)
    await rig.stop("connector")
    await rig.stop("archiver")
    rows = list(dict.fromkeys(causes(rig)))  # an open gap is repeated at the start of a journal segment
    assert rows[:2] == [("overflow", False), ("overflow", True)]
    archived = rig.venue_frames()
    assert archived[0] == rig.sent[0][: len(archived[0])]


async def test_frames_that_are_nowhere_are_lost_by_name(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames vanish between the connector and the stream, and the journal has forgotten them."""
    monkeypatch.setattr(archiver_module, "HOLE_SECONDS", 0.2)
    monkeypatch.setattr(archiver_module, "HOUSEKEEPING_SECONDS", 0.1)
    put = connector_module.Publisher.put

    def forgetful(self, position, records):  # type: ignore[no-untyped-def]
        put(self, position, [r for r in records if b'"i":7}' not in r.message])

    monkeypatch.setattr(connector_module.Publisher, "put", forgetful)
    monkeypatch.setattr(journal.Journal, "find", lambda self, conn, first, last: iter(()))

    async def script(connection: ServerConnection) -> None:
        for i in range(20):
            await connection.send(f'{{"type":"trade","symbol":"S","i":{i}}}')

    rig.script = script
    await rig.start("archiver")
    await rig.start("connector")
    await until(lambda: bool(rig.status("archiver")["holes"]))
    await until(lambda: any(b"-lost-" in s for s in seen_gaps(rig)))
    await rig.stop("connector")
    await rig.stop("archiver")
    (row,) = [msgspec.convert(row, Gap) for row in rig.rows("cause")]
    missing = next(line for line in rig.lines() if b'"i":6}' in bytes(line.frame)).n + 1
    assert (row.cause, row.gap) == ("lost", f"{row.conn}-lost-{missing}-{missing}")
    assert row.end is not None


def seen_gaps(rig: Rig) -> list[bytes]:
    store = rig.parts["archiver"]._store  # type: ignore[attr-defined]
    return [name.encode() for day in store.cursor.days.values() for name in day.gaps]


async def test_frames_the_journal_still_has_are_asked_for_and_come(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the test above: with the journal whole, nothing is lost."""
    monkeypatch.setattr(archiver_module, "HOLE_SECONDS", 0.2)
    monkeypatch.setattr(archiver_module, "HOUSEKEEPING_SECONDS", 0.1)
    put = connector_module.Publisher.put

    def forgetful(self, position, records):  # type: ignore[no-untyped-def]
        put(self, position, [r for r in records if b'"i":7}' not in r.message])

    monkeypatch.setattr(connector_module.Publisher, "put", forgetful)

    async def script(connection: ServerConnection) -> None:
        for i in range(20):
            await connection.send(f'{{"type":"trade","symbol":"S","i":{i}}}')

    rig.script = script
    await rig.start("archiver")
    await rig.start("connector")
    await until(lambda: bool(rig.status("archiver")["holes"]))
    await until(lambda: not rig.status("archiver")["holes"])
    await rig.stop("connector")
    await rig.stop("archiver")
    assert rig.venue_frames() == rig.sent
    assert causes(rig) == []


async def test_a_gap_that_was_open_at_a_crash_is_closed_by_the_next_run(rig: Rig) -> None:
    async def script(connection: ServerConnection) -> None:
        kinds = ["trade", "break", "trade"] if len(rig.sent) == 1 else ["trade"]
        for kind in kinds:
            await connection.send(f'{{"type":"{kind}","symbol":"X"}}')

    rig.script = script
    await rig.start("archiver")
    await rig.start("connector")
    await until(lambda: rig.status("connector")["gaps_open"] == 1)
    await asyncio.sleep(0.2)
    await rig.kill("connector")
    await rig.start("connector")
    await until(lambda: len(rig.sent) == 2 and len(rig.sent[1]) == 1)
    await rig.stop("connector")
    await rig.stop("archiver")
    rows = rig.rows("cause")
    opened = {row["gap"] for row in rows if row.get("end") is None}
    closed = {row["gap"] for row in rows if row.get("end") is not None}
    assert opened == closed and len(opened) == 2
    assert {row["cause"] for row in rows} == {"sequence", "restart"}


async def test_what_cannot_be_parsed_is_a_row_too(rig: Rig) -> None:
    async def script(connection: ServerConnection) -> None:
        for _ in range(5):
            await connection.send("garbage")
        await asyncio.sleep(2.5)

    rig.script = script
    await rig.start("archiver")
    await rig.start("connector")
    await until(lambda: rig.status("connector")["gaps"] == 1)
    await rig.stop("connector")
    await rig.stop("archiver")
    (row,) = rig.rows("cause")
    assert (row["cause"], "5 frames in quarantine" in str(row["evidence"])) == ("parse", True)


@pytest.mark.parametrize("told_by", ["the venue", "the feed's calendar"])
async def test_a_planned_closure_is_maintenance_and_no_failure(told_by: str, rig: Rig) -> None:
    async def script(connection: ServerConnection) -> None:
        await connection.send('{"type":"trade","symbol":"S"}')
        if len(rig.sent) == 1:
            connection.transport.abort()

    rig.script = script
    await rig.start("archiver")
    await rig.start("connector")
    connector = rig.parts["connector"]
    if told_by == "the venue":
        connector._instruments.schedule = b"{}"  # type: ignore[attr-defined]
        connector._venue.planned = "maintenance from 3 to 5"  # type: ignore[attr-defined]
    else:
        always = config.Closure(start="00:00", end="00:00", reason="maintenance from 3 to 5")
        connector._instruments._calendar = config.Calendar(closures=[always])  # type: ignore[attr-defined]
    await until(lambda: len(rig.sent) == 2 and len(rig.sent[1]) == 1)
    await rig.stop("connector")
    await rig.stop("archiver")
    assert causes(rig) == [("maintenance", False), ("maintenance", True)]
    assert str(rig.rows("cause")[0]["evidence"]).endswith("planned: maintenance from 3 to 5")


async def test_what_the_venue_refuses_is_missing_until_the_next_connection(rig: Rig) -> None:
    async def script(connection: ServerConnection) -> None:
        if len(rig.sent) == 1:
            for kind in ("trade", "refuse", "trade", "refuse"):
                await connection.send(f'{{"type":"{kind}","symbol":"S"}}')
            await until(lambda: rig.status("connector")["gaps_open"] == 1)
            connection.transport.abort()
        await connection.send('{"type":"trade","symbol":"S"}')

    rig.script = script
    await rig.start("archiver")
    await rig.start("connector")
    refused: list[object] = []
    await until(lambda: bool(refused.append(rig.status("connector")["refused"]) or refused[-1]))  # type: ignore[func-returns-value]
    assert refused[-1] == [{"symbols": 1, "first": ["S"], "evidence": "no such market"}]
    await until(lambda: len(rig.sent) == 2 and rig.status("connector")["gaps_open"] == 0)
    await rig.stop("connector")
    await rig.stop("archiver")
    rows = rig.rows("cause")
    assert [(r["cause"], r.get("end") is None) for r in rows if r["cause"] == "refused"] == [
        ("refused", True),
        ("refused", False),
    ]
    connected = next(line for line in rig.lines() if b'"type":"connected"' in bytes(line.frame))
    assert 0 <= connected.ts_recv - int(str(rows[0]["start"])) < 1e9


async def test_one_channel_that_falls_silent_among_others_is_stale(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the socket lives, and another channel does."""
    monkeypatch.setattr(rhythm, "KNOWN_LOOKS", 8)

    async def script(connection: ServerConnection) -> None:
        await chatter(connection, 3.5)
        while connection.close_code is None:
            await connection.send('{"type":"ticker","symbol":"S"}')
            await asyncio.sleep(0.05)
            if rig.status("connector")["gaps_open"]:
                await connection.send('{"type":"trade","symbol":"S"}')

    rig.script = script
    await rig.start("archiver")
    await rig.start("connector")
    await until(lambda: rig.status("connector")["gaps_open"] == 1, 12)
    await until(lambda: rig.status("connector")["gaps_open"] == 0, 6)
    await rig.stop("connector")
    await rig.stop("archiver")
    assert causes(rig) == [("stale", False), ("stale", True)]
    assert str(rig.rows("cause")[0]["evidence"]).startswith("trade: no frame for ")


async def test_a_channel_that_stays_silent_gets_another_connection(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes over while the other channels go on: for these nothing is missing."""
    monkeypatch.setattr(rhythm, "KNOWN_LOOKS", 8)
    monkeypatch.setattr(carrier_module, "STALE_SECONDS", 3.0)
    monkeypatch.setattr(carrier_module, "SETTLED_SECONDS", 0.5)

    async def script(connection: ServerConnection) -> None:
        first = len(rig.sent) == 1
        if first:
            await chatter(connection, 3.5)
        with contextlib.suppress(ConnectionClosed):
            while True:
                await connection.send('{"type":"ticker","symbol":"S"}')
                if not first:
                    await connection.send('{"type":"trade","symbol":"S"}')
                await asyncio.sleep(0.05)

    rig.script = script
    await rig.start("archiver")
    await rig.start("connector")
    await until(lambda: len(rig.sent) == 2 and len(rig.sent[1]) > 100, 20)
    await until(lambda: rig.status("connector")["gaps_open"] == 0)
    assert rig.status("connector")["reconnects"] == 0
    await rig.stop("connector")
    await rig.stop("archiver")
    assert causes(rig) == [("stale", False), ("stale", True)]


async def test_an_outage_lasts_until_the_subscriptions_stand(rig: Rig) -> None:
    """What the venue sends before it has answered all of them may be missed."""

    async def script(connection: ServerConnection) -> None:
        await connection.send('{"type":"trade","symbol":"S"}')
        if len(rig.sent) == 3:  # the second one has no answer at all: the outage goes on
            await asyncio.sleep(1.0)
            await connection.send('{"type":"subscribed","symbol":"S"}')
        else:
            await connection.close()

    rig.script = script
    rig.venue.standing = False
    await rig.start("archiver")
    await rig.start("connector")
    await until(lambda: len(rig.sent) == 3 and rig.status("connector")["gaps_open"] == 0)
    await rig.stop("connector")
    await rig.stop("archiver")
    assert causes(rig) == [("disconnect", False), ("disconnect", True)]
    stood = next(line for line in rig.lines() if b'"subscribed"' in bytes(line.frame))
    assert rig.rows("cause")[1]["end"] == stood.ts_recv


async def test_the_next_connection_knows_how_far_the_venues_numbers_were(rig: Rig) -> None:
    """Also when one between them heard nothing."""

    async def script(connection: ServerConnection) -> None:
        for _ in range((2, 0, 3)[len(rig.sent) - 1]):
            await connection.send('{"type":"numbered","symbol":"A"}')
        if len(rig.sent) < 3:
            await connection.close()

    rig.script = script
    await rig.start("archiver")
    await rig.start("connector")
    await until(lambda: len(rig.sent) == 3 and len(rig.sent[2]) == 3 and rig.status("connector")["frames"] == 5)
    await rig.stop("connector")
    await rig.stop("archiver")
    known = [a.subscription.numbers for a in rig.venue.adapters]
    assert [{symbol: number.last for symbol, number in numbers.items()} for numbers in known] == [
        {},
        {"A": 2},
        {"A": 2},
    ]
