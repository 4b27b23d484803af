"""`ssmd gaps`, `ssmd coverage` and `ssmd quarantine`, as a person types them."""

import json
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from typer.testing import CliRunner

from ssmd import archive, checked_json, lake
from ssmd.archive import Connection, ConnState, Cursor, DayState, PartState
from ssmd.cli import build
from ssmd.errors import Permanent
from ssmd.events import Gap
from tests.lake.archives import DATE, FEED, GOLD, HOUR, SECOND, SILVER, ArchivedDay, midnight

NEXT = "2026-08-12"
CONN = "kalshi-0-0198964b3f2-7f3a"
TRADE = ArchivedDay().trade(GOLD, "0.5100", "7.00").wires[0][1]


def ssmd(*arguments: str) -> str:
    done = CliRunner().invoke(build(), [str(a) for a in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def rows(text: str) -> list[list[str]]:
    """Lines of a table as cells."""
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed day with two gaps and four quarantined frames; a hole; and a day that only the cursor knows."""
    folder = tmp_path_factory.mktemp("data")
    day = ArchivedDay(conn=CONN).at(1).session("open")
    day.session("connected", subscription={"channels": ["trade"], "symbols": [GOLD, SILVER]})
    for price in ("0.5100", "0.5200"):
        day.trade(GOLD, price, "7.00")
    day.frame("trade", TRADE, bad="trade not as documented").frame("trade", TRADE, bad="trade not as documented")
    day.frame("trade", b'{"type":"trade","sid":', bad="not JSON: cut off", json=False)
    day.at(5).gap(Gap("g1", FEED, CONN, [GOLD], day.now, day.now + HOUR, "sequence", "seq 9 after 7, 1 missing"))
    day.at(22).gap(Gap("g2", FEED, CONN, [], day.now, None, "restart", "the connector was not running"))
    manifest = day.write(folder / "archive")
    holed = msgspec.structs.replace(manifest.connections[0], holes=[(40, 44)])
    archive.save_manifest(
        archive.manifest_path(folder / "archive", FEED, DATE), msgspec.structs.replace(manifest, connections=[holed])
    )
    closed = Gap("g2", FEED, CONN, [], midnight() + 22 * HOUR, midnight(NEXT) + HOUR, "restart", "not running")
    still = Gap("g3", FEED, "kalshi-0-2", [SILVER], midnight(NEXT) + 2 * HOUR, None, "stale", "silent for 9 s")
    state = DayState(
        conns={"kalshi-0-2": (1, 9, 9)},
        gaps={gap.gap: msgspec.Raw(msgspec.json.encode(gap)) for gap in (closed, still)},
        quarantined={"nested too deeply": 2},
    )
    cursor = Cursor(
        FEED,
        conns={"kalshi-0-2": ConnState(last_ts_recv=midnight(NEXT) + 3 * HOUR)},
        parts=[PartState(NEXT, "trade", "trade_000.jsonl.gz", symbols={SILVER: 2})],
        days={NEXT: state},
    )
    archive.cursor_path(folder / "archive", FEED).write_bytes(checked_json.encode(cursor))
    return folder


def test_the_ledger_is_one_row_for_each_gap(data: Path) -> None:
    heading, *found = rows(ssmd("gaps", "--data", data))
    assert heading == ["feed", "start (UTC)", "duration", "cause", "symbols", "conn", "state", "evidence"]
    assert [(row[1], row[2], row[3], row[4], row[6]) for row in found] == [
        ("2026-08-11 01:00:00.002", "20 h 59 m", "lost", "all", "closed"),
        ("2026-08-11 05:00:00.000", "1 h 00 m", "sequence", GOLD, "closed"),
        ("2026-08-11 22:00:00.000", "3 h 00 m", "restart", "all", "closed"),
        ("2026-08-12 02:00:00.000", found[3][2], "stale", SILVER, "open"),
    ]
    assert found[0][5:] == [CONN, "closed", "frames 40 to 44 are not in the archive, and no row of the ledger says so"]


def test_the_ledger_of_a_day_and_what_is_open(data: Path) -> None:
    causes = [gap["cause"] for gap in json.loads(ssmd("gaps", FEED, "--date", NEXT, "--json", "--data", data))]
    assert causes == ["restart", "stale"]
    [still] = json.loads(ssmd("gaps", FEED, "--open", "--json", "--data", data))
    assert (still["gap"], still["end"], still["seconds"], still["state"]) == ("g3", None, None, "open")
    assert json.loads(ssmd("gaps", "--date", "2026-08-10", "--json", "--data", data)) == []
    assert len(rows(ssmd("gaps", "--date", "2026-08-10", "--data", data))) == 1


def test_an_outage_of_many_instruments_is_a_line(tmp_path: Path) -> None:
    day = ArchivedDay(conn=CONN).at(1).session("open").trade(GOLD, "0.5100", "7.00").at(6)
    six = midnight() + 6 * HOUR
    for k in range(40):
        start, end = six - k * SECOND, six + k * SECOND
        day.gap(Gap(f"s{k}", FEED, CONN, [f"SYMBOL-{k}"], start, end, "sequence", f"no. {k}"))
    apart = Gap("t", FEED, CONN, [GOLD], six + HOUR, six + HOUR + SECOND, "sequence", "later")
    other = Gap("u", FEED, CONN, [], six, six + SECOND, "disconnect", "reset by peer")
    day.gap(apart).gap(other).write(tmp_path / "archive")
    _, *found = rows(ssmd("gaps", "--data", tmp_path))
    assert [row[1:5] for row in found] == [
        ["2026-08-11 05:59:21.000", "1 m 18 s", "sequence", "40"],
        ["2026-08-11 06:00:00.000", "1.0 s", "disconnect", "all"],
        ["2026-08-11 07:00:00.000", "1.0 s", "sequence", GOLD],
    ]
    assert found[0][-1] == "40 rows, the first: no. 39"
    assert len(rows(ssmd("gaps", "--each", "--data", tmp_path))) == 1 + 42
    assert len(json.loads(ssmd("gaps", "--json", "--data", tmp_path))) == 42


def test_coverage_is_told_for_each_instrument(data: Path) -> None:
    text = ssmd("coverage", FEED, DATE, "--data", data)
    heading, gold, *_ = rows(text)
    assert heading[:3] == ["symbol", "condition", "covered"]
    assert gold[:2] == [GOLD, "missing"], "the hole may be anywhere"
    assert text.splitlines()[-1] == f"{FEED} {DATE} (1 d 00 h of it): 2 instruments, 2 missing"
    told = json.loads(ssmd("coverage", FEED, NEXT, "--json", "--data", data))
    assert {row["symbol"]: row["gaps"] for row in told} == {SILVER: ["g2", "g3"]}


def test_without_the_hole_only_the_gaps_are_missing(data: Path, tmp_path: Path) -> None:
    root = tmp_path / "archive"
    path = archive.manifest_path(root, FEED, DATE)
    path.parent.mkdir(parents=True)
    manifest = archive.load_manifest(archive.manifest_path(data / "archive", FEED, DATE))
    whole = Connection(CONN, 1, 9, 9, heard=midnight() + 23 * HOUR)
    archive.save_manifest(path, msgspec.structs.replace(manifest, connections=[whole]))
    found = {row["symbol"]: row for row in json.loads(ssmd("coverage", FEED, DATE, "--json", "--data", tmp_path))}
    assert found[GOLD]["gap_ns_by_cause"] == {"restart": 2 * HOUR, "sequence": HOUR}
    assert found[SILVER]["gap_ns_by_cause"] == {"restart": 2 * HOUR}
    assert found[SILVER]["covered_ns"] // SECOND == 21 * 3600 - 1


def test_the_picture_is_drawn(data: Path, tmp_path: Path) -> None:
    picture = tmp_path / "day.svg"
    ssmd("coverage", FEED, DATE, "--picture", picture, "--between", "04:00-08:00", "--data", data)
    words = "".join(ElementTree.parse(picture).getroot().itertext())
    assert all(word in words for word in (FEED, DATE, GOLD, SILVER, "04:00", "08:00", "restart", "lost"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["coverage", FEED, DATE, "--picture", "day.png"], "cannot draw day.png: pictures are SVG; name it day.svg"),
        (["coverage", FEED, DATE, "--picture", "no/day.svg"], "there is no folder no"),
        (["coverage", FEED, DATE, "--picture", "x.svg", "--between", "9-10"], "write it as 14:00-15:30"),
        (["coverage", FEED, DATE, "--picture", "x.svg", "--between", "10:00-09:00"], "write it as 14:00-15:30"),
        (["coverage", FEED, "2026-08-01"], "has no archived day 2026-08-01: it has 2026-08-11, 2026-08-12"),
        (["coverage", "nyse", DATE], "nothing of 'nyse' is archived in"),
        (["gaps", "nyse"], "nothing of 'nyse' is archived in"),
        (["gaps", "--date", "soon"], "'soon' is no date"),
        (["quarantine", "show", FEED, "2026-08-01"], "has no archived day 2026-08-01"),
        (
            ["quarantine", "replay", FEED, NEXT, "--rollup"],
            f"is not sealed, so it cannot be rolled up: `ssmd seal {FEED}",
        ),
    ],
)
def test_what_is_asked_wrongly_is_one_sentence(data: Path, arguments: list[str], said: str) -> None:
    with pytest.raises(Permanent) as refused:
        ssmd(*arguments, "--data", str(data))
    assert said in str(refused.value)


def test_quarantine_is_listed_by_reason_with_a_sample(data: Path) -> None:
    heading, *found = rows(ssmd("quarantine", "list", FEED, "--data", data))
    assert heading == ["feed", "date", "frames", "reason", "one of them"]
    assert [row[1:4] for row in found] == [
        [DATE, "1", "not JSON: cut off"],
        [DATE, "2", "trade not as documented"],
        [NEXT, "2", "nested too deeply"],
    ]
    assert found[0][4] == '{"type":"trade","sid":'
    assert found[1][4].startswith('{"type":"trade","sid":1') and found[1][4].endswith("…")
    assert found[2][4] == "(in no finished segment yet)"


def test_quarantined_frames_are_shown_as_they_were_received(data: Path) -> None:
    text = ssmd("quarantine", "show", FEED, DATE, "--reason", "cut off", "--data", data)
    heading, wire = text.splitlines()
    assert heading.endswith("quarantined: not JSON: cut off")
    assert wire == '{"type":"trade","sid":'
    assert len(ssmd("quarantine", "show", FEED, DATE, "-n", "2", "--data", data).splitlines()) == 4


def test_a_replay_says_what_would_parse_and_a_rollup_takes_it_in(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told = json.loads(ssmd("quarantine", "replay", FEED, DATE, "--json", "--data", data))
    assert (told["frames"], told["parse_now"]) == (3, 2)
    text = ssmd("quarantine", "replay", FEED, DATE, "--rollup", "--data", data)
    assert rows(text)[1] == ["2", "2", "trade 2", "trade not as documented"]
    assert text.splitlines()[-1].endswith("frames, 1 in quarantine")
    with lake.connect(data) as connection:
        assert connection.execute("select count(*) from trades").fetchall() == [(4,)]


def test_the_lake_says_what_it_covers(data: Path) -> None:
    ssmd("quarantine", "replay", FEED, DATE, "--rollup", "--data", data)
    with lake.connect(data) as connection:
        columns = [row[0] for row in connection.execute("describe coverage").fetchall()]
        assert columns == ["feed", "date", "symbol", "covered_seconds", "gap_seconds", "gaps", "condition"]
        sql = "select symbol, covered_seconds, round(gap_seconds), gaps, condition from coverage order by 1"
        found = connection.execute(sql).fetchall()
    assert found == [(GOLD, 0.0, 82_800.0, 3, "missing"), (SILVER, 0.0, 82_800.0, 2, "missing")]
