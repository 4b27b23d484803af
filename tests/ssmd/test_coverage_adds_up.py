"""Covered, in a gap, uncovered: every moment of a day is exactly one of them, for every instrument."""

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ssmd import coverage as module
from ssmd.archive import Connection, ConnState, Cursor, DayState, Manifest, PartState, timed_session
from ssmd.clock import DAY_NS, SECOND_NS
from ssmd.coverage import Coverage, Day, Watch, coverage, midnight, of_archive, of_manifest, united, without
from ssmd.events import Gap, GapCause, Session

DATE = "2026-08-11"
START = midnight(DATE)
SYMBOLS = ("A", "B", "C")
END = 40
moments = st.integers(-10, END + 10)

watches = st.builds(
    lambda conn, a, b, symbols: Watch(conn, min(a, b), max(a, b), frozenset(symbols) or None),
    st.sampled_from(["one", "two"]),
    st.integers(0, END),
    st.integers(0, END),
    st.sets(st.sampled_from(SYMBOLS), max_size=2),
)
gaps = st.lists(
    st.builds(
        lambda conn, symbols, a, long, cause, repair: Gap(
            "", "f", conn, sorted(symbols), a, None if long is None else a + long, cause, "", repair
        ),
        st.sampled_from(["one", "two", "three"]),
        st.sets(st.sampled_from(SYMBOLS), max_size=2),
        moments,
        st.none() | st.integers(0, 20),
        st.sampled_from(["sequence", "restart", "lost"]),
        st.sampled_from(["", "backfill"]),
    ),
    max_size=6,
).map(lambda rows: [msgspec.structs.replace(gap, gap=f"g{i}") for i, gap in enumerate(rows)])
days = st.builds(
    lambda w, g, heard, end: Day(
        "f", DATE, 0, end, w, [x for x in g if x.start < end and (x.end is None or x.end >= 0)], frozenset(heard)
    ),
    st.lists(watches, max_size=4),
    gaps,
    st.sets(st.sampled_from([*SYMBOLS, "D"])),
    st.sampled_from([0, 1, 25, END]),
)


def by_symbol(found: Sequence[Coverage]) -> dict[str, Coverage]:
    assert len({s for c in found for s in c.symbols}) == sum(len(c.symbols) for c in found), "each instrument once"
    return {s: c for c in found for s in c.symbols}


def adds_up(day: Day) -> None:
    """Walk through the day moment by moment, with the definition alone."""
    named = {s for w in day.watches for s in w.symbols or ()}
    for symbol, c in by_symbol(coverage(day)).items():
        its = [w for w in day.watches if symbol not in named or w.symbols is None or symbol in w.symbols]
        covered = in_gap = 0
        for t in range(day.end):
            concerned = any(
                g.start <= t < (day.end if g.end is None else g.end) and concerns(g, symbol, its, day) for g in day.gaps
            )
            in_gap += concerned
            covered += not concerned and any(w.start <= t < w.end for w in its)
        assert (c.covered_ns, c.gap_ns) == (covered, in_gap), symbol
        assert c.covered_ns + c.gap_ns + c.uncovered_ns == day.end
        assert c.uncovered_ns >= 0
        assert sum(c.gap_ns_by_cause.values()) == c.gap_ns
        assert (c.condition == "missing") == (covered == 0)
        assert (c.condition == "available") == (covered > 0 and not c.gaps)


def concerns(gap: Gap, symbol: str, its: Sequence[Watch], day: Day) -> bool:
    if gap.symbols:
        return symbol in gap.symbols
    last = day.end if gap.end is None else gap.end
    own = [w for w in day.watches if w.conn == gap.conn]
    during = [w for w in own if w.start <= last and gap.start <= w.end] or own
    ended = [w for w in day.watches if gap.start <= w.end <= last and w.end < day.end]
    return any(w in its for w in [*during, *ended]) or not (own or ended)


A_GAP = Gap("g0", "f", "one", [], 5, 10, "restart")


@given(days)
@example(Day("f", DATE, 0, END, [Watch("one", 0, END, frozenset("A"))], [A_GAP], frozenset()))
def test_every_moment_is_covered_in_a_gap_or_uncovered(day: Day) -> None:
    adds_up(day)


def test_a_gap_that_is_not_taken_out_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: time in gaps counted as covered as well."""
    day = Day("f", DATE, 0, END, [Watch("one", 0, END, frozenset("A"))], [A_GAP], frozenset())
    adds_up(day)
    monkeypatch.setattr(module, "without", lambda spans, others: list(spans))
    with pytest.raises(AssertionError):
        adds_up(day)


spans = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=6)


@given(spans, spans)
def test_spans_are_sets_of_moments(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> None:
    def moments_of(spans: Sequence[tuple[int, int]]) -> set[int]:
        return {t for a, b in spans for t in range(a, b)}

    assert moments_of(united(some)) == moments_of(some)
    assert moments_of(without(united(some), united(others))) == moments_of(some) - moments_of(others)
    assert all(b < c for (_, b), (c, _) in zip(united(some), united(some)[1:], strict=False))


# ------------------------------------------------------------------------------------- from what an archive says

HOUR = 3600 * SECOND_NS


def session(kind: str, conn: str, hour: float, symbols: Sequence[str] = ()) -> msgspec.Raw:
    row = msgspec.convert(
        {"type": kind, "feed": "f", "conn": conn, "subscription": {"symbols": list(symbols)}}, Session
    )
    return timed_session(START + int(hour * HOUR), msgspec.json.encode(row))


def raw(gap: Gap) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(gap))


def a_gap(name: str, conn: str, start: float, end: float | None, cause: GapCause, symbols: Sequence[str] = ()) -> Gap:
    until = None if end is None else START + int(end * HOUR)
    return Gap(name, "f", conn, list(symbols), START + int(start * HOUR), until, cause)


# The first connection dies at 8:00 (its successor says so, at 9:00); the second is subscribed to C from 12:00 on.
MANIFEST = Manifest(
    "f",
    DATE,
    sealed=True,
    sessions=[
        session("open", "one", 1),
        session("connected", "one", 2, ["A", "B"]),
        session("close", "one", 9),
        session("open", "two", 9),
        session("connected", "two", 10, ["A", "B"]),
        session("connected", "two", 12, ["A", "C"]),
    ],
    connections=[
        Connection("one", 1, 9, 9, heard=START + 8 * HOUR),
        Connection("two", 1, 9, 9, heard=START + 30 * HOUR),
    ],
    gaps=[raw(a_gap("g1", "two", 8, 10, "restart")), raw(a_gap("g2", "two", 13, None, "sequence", ["C"]))],
    symbols={"A": 5, "B": 5, "all": 3, "HEARD": 1},
)


def hours(c: Coverage) -> tuple[float, float, float]:
    return c.covered_ns / HOUR, c.gap_ns / HOUR, c.uncovered_ns / HOUR


def test_a_day_is_told_by_its_manifest() -> None:
    found = by_symbol(coverage(of_manifest(MANIFEST)))
    assert {s: (*hours(c), c.condition) for s, c in found.items()} == {
        "A": (20, 2, 2, "degraded"),
        "B": (8, 2, 14, "degraded"),
        "C": (1, 11, 12, "degraded"),
        "HEARD": (20, 2, 2, "degraded"),
    }
    assert found["A"].gap_ns_by_cause == {"restart": 2 * HOUR}
    assert next(iter(found)) == "C", "the worst comes first"


def test_a_day_that_is_not_over_ends_now() -> None:
    now = START + 11 * HOUR
    unsealed = msgspec.structs.replace(MANIFEST, sealed=False, connections=[])
    found = by_symbol(coverage(of_manifest(unsealed, now)))
    assert sum(hours(found["A"])) == 11
    sealed = msgspec.structs.replace(MANIFEST, sealed_at=now, connections=[])
    assert by_symbol(coverage(of_manifest(sealed, now + HOUR)))["A"].day_ns == 11 * HOUR


def test_repaired_gaps_say_so() -> None:
    day = of_manifest(MANIFEST)
    mended = [msgspec.structs.replace(gap, repair="backfill:trades") for gap in day.gaps]
    assert by_symbol(coverage(replace(day, gaps=mended)))["A"].condition == "repaired"
    assert by_symbol(coverage(replace(day, gaps=[*mended[:1], *day.gaps[1:]])))["C"].condition == "degraded"


def test_a_hole_that_no_row_names_is_a_gap_all_the_same() -> None:
    """And the control: with its row in the ledger it is not there twice."""
    holed = [msgspec.structs.replace(c, holes=[(4, 6)]) for c in MANIFEST.connections[:1]] + MANIFEST.connections[1:]
    manifest = msgspec.structs.replace(MANIFEST, connections=holed)
    [lost] = [g for g in of_manifest(manifest).gaps if g.cause == "lost"]
    assert (lost.gap, lost.start, lost.end) == ("one-lost-4-6", START + 2 * HOUR, START + 8 * HOUR)
    assert by_symbol(coverage(of_manifest(manifest)))["A"].covered_ns == 14 * HOUR

    row = a_gap("one-lost-4-6", "one", 3, 3.5, "lost")
    named = msgspec.structs.replace(manifest, gaps=[*manifest.gaps, raw(row)])
    assert [g for g in of_manifest(named).gaps if g.cause == "lost"] == [row]
    assert by_symbol(coverage(of_manifest(named)))["A"].covered_ns == 19.5 * HOUR


def test_what_is_not_in_segments_yet_is_known_from_the_cursor() -> None:
    late = a_gap("g3", "two", 21, None, "stale", ["B"])
    state = DayState(
        conns={"one": (1, 9, 9), "two": (1, 20, 20)},
        sessions=[*MANIFEST.sessions],
        gaps={"g1": MANIFEST.gaps[0], "g2": MANIFEST.gaps[1], "g3": raw(late)},
    )
    cursor = Cursor(
        "f",
        conns={"one": ConnState(last_ts_recv=START + 8 * HOUR), "two": ConnState(last_ts_recv=START + 22 * HOUR)},
        parts=[PartState(DATE, "trade", "trade_000.jsonl.gz", symbols={"NEW": 1})],
        days={DATE: state},
    )
    empty = Manifest("f", DATE)
    ledger = module.ledger([(empty, state, {})])
    found = by_symbol(coverage(of_archive(empty, cursor, ledger, START + 23 * HOUR)))
    assert hours(found["A"]) == (18, 2, 3)
    assert found["B"].gap_ns_by_cause == {"restart": 2 * HOUR, "stale": 2 * HOUR}
    assert "NEW" in found


def test_a_gap_over_midnight_is_one_gap_on_two_days() -> None:
    opened, closed = a_gap("g9", "x", 23, None, "restart"), a_gap("g9", "x", 23, 26, "restart")
    first = Manifest("f", DATE, gaps=[raw(opened)])
    second = Manifest("f", "2026-08-12", gaps=[raw(opened), raw(closed)])
    assert module.ledger([(first, None, {}), (second, None, {})]) == [closed]
    assert module.ledger([(first, None, {})]) == [opened]


def test_an_empty_day_has_nothing_to_say() -> None:
    assert coverage(of_manifest(Manifest("f", DATE))) == []
    assert of_manifest(Manifest("f", DATE)).end - START == DAY_NS
