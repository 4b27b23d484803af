"""Frames in quarantine come into the tables once the grammar knows them; until then nothing changes."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from temporalio.testing import ActivityEnvironment

import exchanges.kalshi
from activities import replay
from activities.processes import Processes
from activities.quarantine import Quarantine
from exchanges.port import Unparsable
from ssmd import config, jobs, tables
from ssmd.frames import Line
from tests.activities.test_rollup import DAY, board, files, roll_up, task
from tests.lake.archives import DATE, FEED, GOLD, ArchivedDay

TRADE = ArchivedDay().trade(GOLD, "0.5100", "7.00").wires[0][1]
NOT_JSON = b'{"type":"trade","sid":'
OLD = "trade not as documented"  # why an earlier grammar refused a frame that today's knows


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    with Processes(2) as pool:
        yield pool


def a_day() -> ArchivedDay:
    day = ArchivedDay().at(1).trade(GOLD, "0.5000", "1.00")
    day.frame("trade", TRADE, bad=OLD).frame("trade", NOT_JSON, bad="not JSON: cut off", json=False)
    day.frame("trade", b"\xff\xfe", bad="not UTF-8", json=False)
    day.frame("control", '{"id":1,"type":"ok","sid":1,"seq":1}', bad="ok not as documented")
    return day.frame("trade", TRADE.replace(b'"0.5100"', b'"NaN"'), bad=OLD)


def test_a_frame_that_parses_now_comes_into_the_tables(tmp_path: Path, processes: Processes) -> None:
    a_day().write(tmp_path / "archive")
    rolled = roll_up(tmp_path, processes)
    day = tables.load_day(tmp_path / "lake" / rolled.manifest)
    assert rolled.rows == {"trades": 2}
    assert (day.with_events, day.control) == (2, 1)
    assert day.quarantined == {"not JSON: cut off": 1, "not UTF-8": 1, OLD: 1}, "what still is bad keeps its reason"
    assert day.frames == day.with_events + day.control + sum(day.quarantined.values()) == 6


def test_without_a_second_chance_they_stay_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: as it was when every `_bad` line stayed bad."""

    def never(venue: object, grammar: object, line: Line) -> tuple[str, Sequence[object]]:
        raise Unparsable(line.reason or "")

    manifest = a_day().write(tmp_path / "archive")
    assert replay.replay_hour(task(tmp_path, 1, manifest), board(tmp_path)).events == {"trades": 2}
    monkeypatch.setattr(replay, "second_chance", never)
    hour = replay.replay_hour(task(tmp_path, 1, manifest), board(tmp_path))
    assert (hour.events, sum(hour.quarantined.values())) == ({"trades": 1}, 5)


def test_with_the_same_grammar_the_bytes_are_the_same(tmp_path: Path, processes: Processes) -> None:
    a_day().write(tmp_path / "archive", per_segment=2)
    roll_up(tmp_path, processes)
    before = files(tmp_path)
    roll_up(tmp_path, processes)
    assert files(tmp_path) == before


def test_the_day_can_be_asked_before_anything_is_changed(tmp_path: Path) -> None:
    a_day().write(tmp_path / "archive")
    quarantine = Quarantine(config.Places(tmp_path))
    before = files(tmp_path)
    told = ActivityEnvironment().run(quarantine.replay_quarantine, jobs.Quarantined(FEED, DATE))
    assert (told.frames, told.parse_now, told.more) == (5, 2, 0)
    assert told.reasons[0] == jobs.SecondChance(OLD, 2, {"trade": 1})
    assert {r.reason: r.parse_now for r in told.reasons[1:]} == {
        "not JSON: cut off": {},
        "not UTF-8": {},
        "ok not as documented": {"control": 1},
    }
    assert files(tmp_path) == before


def test_what_one_frame_is_does_not_depend_on_others() -> None:
    """A frame far ahead in the venue's numbering is no reason to look at the next one otherwise."""
    venue = exchanges.kalshi.venue
    grammar = venue.events(DAY.date)
    line = Line(1, "c", 1, text=TRADE.decode(), reason=OLD)
    first = replay.second_chance(venue, grammar, line)
    with pytest.raises(Unparsable, match="cut off"):
        replay.second_chance(venue, grammar, Line(1, "c", 2, text=NOT_JSON.decode(), reason="cut off"))
    assert replay.second_chance(venue, grammar, line) == first
    assert first[0] == "trade"
