"""What an adapter asks for by REST comes back as a frame: numbered, archived verbatim, and no sign of a live socket."""

import asyncio
import json

import pytest
from websockets.asyncio.server import ServerConnection

from services.connector import asking
from ssmd import frames

from .conftest import Rig, until

BOOK = b'{"id":7, "bids":[["1.10","3"]]}'
WANTED = b'{"type":"wanted","symbol":"S"}'


async def ask(rig: Rig, answers: list[tuple[int, dict[str, str], bytes]]) -> list[frames.Line]:
    """One request, answered so by the venue; the archived lines that came of it."""
    asked: list[str] = []

    def rest(target: str) -> tuple[int, dict[str, str], bytes]:
        asked.append(target)
        return answers[min(len(asked), len(answers)) - 1]

    async def script(connection: ServerConnection) -> None:
        await connection.send(WANTED)
        await until(lambda: len(asked) == len(answers), 20)
        await asyncio.sleep(0.3)
        await connection.send('{"type":"trade"}')

    rig.script, rig.rest = script, rest
    await rig.start("archiver")
    await rig.start("connector")
    await until(lambda: bool(rig.sent) and len(rig.sent[0]) == 2, 20)
    await asyncio.sleep(0.2)
    await rig.stop("connector")
    await rig.stop("archiver")
    assert set(asked) == {"/book?of=S"}
    lines = rig.lines()
    assert [line.n for line in lines] == list(range(1, len(lines) + 1))
    assert rig.venue_frames() == rig.sent
    return [line for line in lines if frames.is_rest(line.wire())]


async def test_an_answer_is_archived_verbatim_with_what_came_meanwhile(rig: Rig) -> None:
    (line,) = await ask(rig, [(200, {}, BOOK)])
    expected = b'{"rest":"GET /book?of=S","status":200,"body":%b,"meanwhile":[%b]}' % (BOOK, WANTED)
    assert line.wire() == expected
    assert rig.status("connector")["frames"] == 2  # of the WebSocket


async def test_a_busy_venue_is_asked_again_and_only_the_outcome_is_kept(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "WAITS_SECONDS", (0.01, 0.01, 0.01))
    (line,) = await ask(rig, [(503, {}, b"busy"), (429, {"Retry-After": "1"}, b"{}"), (200, {}, BOOK)])
    assert json.loads(line.wire())["body"] == json.loads(BOOK)


async def test_what_stays_refused_is_told_with_its_status_and_text(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "WAITS_SECONDS", (0.01,))
    (line,) = await ask(rig, [(502, {}, b"<html>\n\xff</html>")] * 2)
    told = json.loads(line.wire())
    assert (told["status"], told["body"]) == (502, "<html>\n\N{REPLACEMENT CHARACTER}</html>")


async def test_a_long_ban_is_not_waited_for(rig: Rig) -> None:
    (line,) = await ask(rig, [(418, {"Retry-After": "3600"}, b'{"code":-1003}')])
    assert json.loads(line.wire())["status"] == 418
