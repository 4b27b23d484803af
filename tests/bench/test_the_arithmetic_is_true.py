"""docs/scaling.md says what the figures kept beside it say, and what a frame takes is what it takes."""

import pytest

from bench import figures, scale, venue_day
from bench.figures import Figures, Measured, Row
from bench.venue_day import Bytes

MADE_UP = Figures(
    "a machine",
    {
        "ingest": Measured([Row("socket → acked in JetStream", "frames per core-second", [1.0, 100_000.0, 3e9])]),
        "archive": Measured([Row("JetStream → synced archive", "frames per core-second", [200_000.0])]),
        "rollup": Measured([Row("rollup, 1 thread", "rows/s", [500_000.0])]),
    },
)
VENUE = Bytes(frames=10, rows=20, wire=1_000, lines=2_000, archive=300, lake=100)


def test_the_page_says_what_the_figures_say() -> None:
    section = scale.tables(figures.load(scale.KEPT / "results.json"), scale.load(scale.KEPT / "bytes.json"))
    text = scale.PAGE.read_text()
    assert scale.page(text, section) == text, "run `python -m bench.scale`"


def test_a_million_frames_cost_what_each_part_takes() -> None:
    million = scale.cost(1_000_000, VENUE, scale.speeds(MADE_UP))
    assert million == scale.Cost(connector=10.0, archiver=5.0, rollup=4.0, stream=2e8, archive=3e7, lake=1e7)
    assert (million.cpu, million.kept) == (19.0, 4e7)


def test_a_day_and_a_year_are_told_in_their_units() -> None:
    # 200 frames/s: 17.28 M a day; 328 core-seconds; 0.69 GB kept a day, 252 GB after a year, half of that on average.
    lines = scale.tables(MADE_UP, {"made-up": VENUE}).splitlines()
    assert "| made-up | 100 B | 200 B | 30.0 B | 10.0 B | 2.00 | 10.0 s | 5.0 s | 4.0 s | 40 MB |" in lines
    assert "| 200 | 17.3 M | 0.09 core-h | 3.5 GB | 0.69 GB | 0.25 TB | 1 $ | 35 $ |" in lines


def test_what_was_not_measured_is_named() -> None:
    with pytest.raises(KeyError, match="run `python -m bench rollup`"):
        scale.speeds(Figures("a machine", MADE_UP.subjects | {"rollup": Measured([])}))


@pytest.mark.parametrize("feed", ["kalshi", "binance"])
def test_bytes_are_those_of_archive_and_lake(feed: str) -> None:
    found = venue_day.measure(feed, 2_000, 200.0)
    assert found.frames >= 2_000
    assert found.wire < found.lines
    assert found.lake < found.archive < found.wire
    assert found.rows > found.frames / 2
