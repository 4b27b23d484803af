"""The picture is well-formed, names what it shows, and no gap is too short to be seen."""

import re
from xml.etree import ElementTree

import pytest

from ssmd import timeline
from ssmd.clock import SECOND_NS
from ssmd.coverage import Day, Watch, coverage, midnight
from ssmd.events import Gap
from ssmd.timeline import COLOURS, COVERED, HOUR_NS, Window, svg

START = midnight("2026-08-11")
WHOLE = Window(START, START + 24 * HOUR_NS)
SVG = "{http://www.w3.org/2000/svg}"


def a_day(gaps: list[Gap], symbols: list[str], end: int = START + 24 * HOUR_NS) -> Day:
    return Day("kalshi", "2026-08-11", START, end, [Watch("c", START, end, frozenset(symbols))], gaps, frozenset())


def drawn(day: Day, window: Window = WHOLE) -> ElementTree.Element:
    return ElementTree.fromstring(svg(day, coverage(day), window))


def bars(picture: ElementTree.Element, fill: str) -> list[tuple[float, float, float]]:
    """x, width, height of rectangles that have this colour; the legend's own left out."""
    found = [e for e in picture.iter(f"{SVG}rect") if e.get("fill") == fill and e.get("rx") is None]
    return [tuple(float(e.get(k, "0")) for k in ("x", "width", "height")) for e in found]  # type: ignore[misc]


def test_a_gap_of_a_millisecond_is_seen_in_its_row_and_among_all() -> None:
    at = START + 6 * HOUR_NS
    for end in (at + 1_000_000, at):
        gap = Gap("g", "kalshi", "c", ["A"], at, end, "sequence", "seq 9 after 7 <&>")
        picture = drawn(a_day([gap], ["A", "B"]))
        rows = [bar for bar in bars(picture, COLOURS["sequence"]) if bar[2] == timeline.BAR]
        assert [width for _, width, _ in rows] == [timeline.GAP_WIDTH_MIN]
        assert rows[0][0] == pytest.approx(WHOLE.x(at), abs=0.01)
        assert "sequence" in "".join(picture.itertext())
        assert "seq 9 after 7 <&>" in "".join(picture.itertext())


def test_without_a_least_width_it_would_not_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control."""
    monkeypatch.setattr(timeline, "GAP_WIDTH_MIN", 0.0)
    gap = Gap("g", "kalshi", "c", ["A"], START, START + 1_000_000, "sequence")
    rows = [bar for bar in bars(drawn(a_day([gap], ["A"])), COLOURS["sequence"]) if bar[2] == timeline.BAR]
    assert [width for _, width, _ in rows] == [0.0]


def test_covered_time_is_drawn_to_scale() -> None:
    gap = Gap("g", "kalshi", "c", [], START + 6 * HOUR_NS, START + 12 * HOUR_NS, "restart")
    picture = drawn(a_day([gap], ["A"]))
    assert [width / timeline.PLOT for _, width, _ in bars(picture, COVERED)] == pytest.approx([0.25, 0.5], abs=1e-4)
    assert bars(picture, COLOURS["restart"])[0][1] / timeline.PLOT == pytest.approx(0.25, abs=1e-4)


def test_what_has_not_come_yet_is_neither_covered_nor_blank() -> None:
    picture = drawn(a_day([], ["A"], end=START + 18 * HOUR_NS))
    assert [w / timeline.PLOT for _, w, _ in bars(picture, "url(#later)")] == pytest.approx([0.25, 0.25], abs=1e-4)
    assert "not yet" in "".join(picture.itertext())


def test_many_instruments_are_the_worst_ones_and_a_line_for_all() -> None:
    names = [f"KX-{i:05d}" for i in range(5000)]
    gap = Gap("g", "kalshi", "c", ["KX-04999"], START, START + SECOND_NS, "stale")
    text = svg(day := a_day([gap], names), coverage(day), WHOLE)
    assert len(text) < 100_000
    shown = re.findall(r">(KX-[0-9]+)</text>", text)
    assert (len(shown), shown[0]) == (timeline.ROWS_MAX, "KX-04999")
    assert "the worst 40 of 5,000 instruments: 1 degraded, 4,999 available; 1 gap" in text


def test_a_name_cannot_break_the_picture() -> None:
    evil = "</text><script>&\"'" + "x" * 100
    assert evil in "".join(drawn(a_day([], [evil])).itertext())


def test_an_empty_day_is_a_picture_too() -> None:
    day = Day("kalshi", "2026-08-11", START, START, [], [], frozenset())
    assert "no instrument is known" in "".join(drawn(day).itertext())


@pytest.mark.parametrize(
    ("first", "last", "labels"),
    [
        (0, 24, ["00:00", "12:00", "24:00"]),
        (23, 24, ["23:00", "23:30", "24:00"]),
        (10, 10.01, ["10:00:00", "10:00:35"]),
    ],
)
def test_the_axis_is_the_time_of_day(first: float, last: float, labels: list[str]) -> None:
    window = Window(START + int(first * HOUR_NS), START + int(last * HOUR_NS))
    words = list(drawn(a_day([], ["A"]), window).itertext())
    assert set(labels) <= set(words)
    assert len([w for w in words if re.fullmatch(r"[0-9]{2}:[0-9]{2}(:[0-9]{2})?", w)]) <= 2 * 14
