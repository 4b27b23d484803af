"""Many frames at once or one by one: the same files to the byte, the same counts, the same refusals."""

import dataclasses
import json
import sys
import tempfile
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from activities.replay import HourTask, replay_hour
from exchanges.port import Bulk, Columns
from ssmd import archive, jobs
from ssmd.errors import Permanent
from ssmd.events import BookDelta
from tests.activities.test_rollup import board, task
from tests.lake.archives import GOLD, SILVER, ArchivedDay

CHANNELS = ("orderbook_delta", "ticker", "trade")
KALSHI = Path(__file__).parents[2] / "exchanges" / "kalshi" / "fixtures" / "ws"


def rolled(hour: HourTask, lake: Path) -> jobs.RolledHour | str:
    """What became of it, the files' hashes with it; or why it was refused."""
    try:
        return replay_hour(dataclasses.replace(hour, lake=lake), board(lake.parent))
    except Permanent as e:
        return str(e)


def same(root: Path, day: ArchivedDay, manifest: archive.Manifest | None = None, **more: Any) -> jobs.RolledHour | str:
    """Roll hour 1 up in both ways; they must agree."""
    hour = task(root, 1, manifest or day.write(root / "archive"))
    one_by_one = rolled(dataclasses.replace(hour, frame_by_frame=True), root / "reference")
    assert rolled(dataclasses.replace(hour, **more), root / "bulk") == one_by_one
    return one_by_one


# ------------------------------------------------------------------------------------------------------- any frame

plain = st.from_regex(r"\A-?(0|[1-9][0-9]{0,2})\.[0-9]{1,2}\Z")
usual_numbers = ("0.0100", "0.5000", "0.9990", "0.0000", "1.0000", "0", "1", "00.5", "-0.00", "0.5000000000")
no_numbers = (
    "",
    "+1",
    "1e2",
    "1E-2",
    ".5",
    "-.5",
    "5.",
    ".",
    "-",
    "NaN",
    "inf",
    " 1",
    "1 ",
    "1_0",
    "１.0",
    "1\n",
    "0.5é",
)
no_fit = ("0.1234567", "0.50000000001", "99999999999999999", "9999999999999.00", "0" * 30 + "1.5", "1" * 400)
odd_numbers = st.sampled_from(no_numbers) | st.one_of(
    st.none(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.text(max_size=4)
)
usual_times = [f"2026-08-11T{time}" for time in ("01:00:00Z", "01:00:00.1Z", "01:00:00.123456Z", "23:59:59.999999Z")]
times = st.sampled_from(usual_times) | st.datetimes().map(lambda t: t.isoformat() + "Z")
no_times = (
    *("2026-08-11T01:00:00.1234567Z", "2026-08-11 01:00:00Z", "2026-08-11t01:00:00z", "2026-08-11T01:00:00+02:00"),
    *("2026-08-11T01:00:00", "2026-08-11T01Z", "2026-08-11T01:00Z", "2026-02-30T01:00:00Z", "2026-08-11T24:00:00Z"),
    *("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0000-01-01T00:00:00Z", "2026-08-11T01:00:60Z", "", "now"),
)
odd_times = st.sampled_from(no_times) | st.one_of(
    st.none(), st.integers(), st.integers(-5, 2**70), st.floats(allow_nan=False, allow_infinity=False), st.booleans()
)


def some(usual: st.SearchStrategy[Any], odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly as the venue sends it."""
    return st.integers(0, 30).flatmap(lambda i: usual if i else odd)


number = some(plain | st.sampled_from(usual_numbers), odd_numbers)
either = some(st.sampled_from(["yes", "no"]), st.sampled_from(["", "maybe", None, 1]))
when = {
    "ts": some(times, odd_times) | some(st.integers(1_786_000_000, 1_787_000_000), odd_times),
    "ts_ms": some(st.integers(1_786_000_000_000, 1_787_000_000_000), odd_times),
}
names = some(st.sampled_from([GOLD, SILVER, "KXM-É", "a" * 90]), st.sampled_from(["", None, 7, "\x00"]))
QUOTE = ("price_dollars", "yes_bid_dollars", "yes_bid_size_fp", "yes_ask_dollars", "yes_ask_size_fp")
fields: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "orderbook_delta": {"market_ticker": names, "price_dollars": number, "delta_fp": number, "side": either},
    "ticker": {"market_ticker": names}
    | dict.fromkeys([*QUOTE, "last_trade_size_fp", "volume_fp", "open_interest_fp"], number),
    "trade": {"market_ticker": names, "yes_price_dollars": number, "count_fp": number, "trade_id": st.text(max_size=5)}
    | {"taker_side": either, "taker_outcome_side": either},
}


@st.composite
def wires(draw: st.DrawFn, channel: str) -> bytes:
    """A frame of the channel, or nearly."""
    known = fields[channel]
    missing = draw(some(st.just(None), st.sampled_from([*known, *when, "everything"])))
    message = {} if missing == "everything" else {k: draw(v) for k, v in known.items() if k != missing}
    message |= {k: draw(v) for k, v in when.items() if k != missing and draw(st.booleans())}
    if draw(st.integers(0, 9)) == 0:
        message |= {"price": 96, "delta": -54, "market_id": "c170279b", "x": draw(odd_numbers)}
    kind = draw(some(st.just(channel), st.sampled_from(["trade", "subscribed", None])))
    wire = json.dumps({"type": kind, "sid": 1, "seq": 1, "msg": message}, ensure_ascii=draw(st.booleans())).encode()
    change = draw(some(st.just(""), st.sampled_from(["cut", "flip", "twice", "deep", "blank"])))
    if change == "cut":
        return wire[: draw(st.integers(0, len(wire) - 1))]
    if change == "flip":
        place = draw(st.integers(0, len(wire) - 1))
        return wire[:place] + bytes([draw(st.integers(0, 255))]) + wire[place + 1 :]
    if change == "twice":
        return wire.replace(b'"msg": {', b'"msg": {"side": "yes", "count_fp": "9", "market_ticker": "M", ')
    if change == "deep":
        return wire[:-1] + b',"y":' + b"[" * 3000 + b"]" * 3000 + b"}"
    return draw(st.sampled_from([b" ", b"\t\t", b"\r\n"])) + wire + b"\n" if change == "blank" else wire


def is_json(wire: bytes) -> bool:
    try:
        msgspec.json.decode(wire)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), read_bytes=st.sampled_from([400, 3000, 1 << 20]))
def test_any_frames_give_the_same(data: st.DataObject, read_bytes: int) -> None:
    day = ArchivedDay().at(0, 59)
    for channel in data.draw(st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=40)):
        wire = data.draw(wires(channel))
        if data.draw(st.integers(0, 20)) == 0:
            day.at(data.draw(st.sampled_from([0, 1, 2])), data.draw(st.integers(0, 59)))
        day.frame(channel, wire, json=is_json(wire) and data.draw(st.integers(0, 20)) > 0)
    day.at(1).trade(GOLD, "0.5000", "1.00")
    with tempfile.TemporaryDirectory() as folder:
        same(Path(folder), day, read_bytes=read_bytes)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(times | odd_times, min_size=1, max_size=6), st.sampled_from(CHANNELS))
def test_any_times_give_the_same(stamps: list[object], channel: str) -> None:
    day = ArchivedDay().at(1)
    for stamp in stamps:
        message = {"market_ticker": GOLD, "price_dollars": "0.5000", "delta_fp": "1", "side": "no", "ts": stamp}
        message |= {"trade_id": "t", "yes_price_dollars": "0.5", "count_fp": "1", "ts_ms": 1_786_410_916_130}
        day.frame(channel, json.dumps({"type": channel, "msg": message}))
    with tempfile.TemporaryDirectory() as folder:
        same(Path(folder), day)


@pytest.mark.parametrize("odd", [*no_numbers, *no_fit, *usual_numbers])
@pytest.mark.parametrize(("channel", "field"), [("orderbook_delta", "delta_fp"), ("ticker", "volume_fp")])
def test_any_number_gives_the_same(tmp_path: Path, channel: str, field: str, odd: str) -> None:
    day = ArchivedDay().at(1)
    message = {"market_ticker": GOLD, "price_dollars": "0.5000", "side": "yes", field: "7.25"}
    for i in range(120):
        day.frame(channel, json.dumps({"type": channel, "msg": message | ({field: odd} if i == 60 else {})}))
    found = same(tmp_path, day)
    assert isinstance(found, jobs.RolledHour) and found.with_events in {119, 120}


@pytest.mark.parametrize("stamp", [*usual_times, *no_times])
def test_any_time_gives_the_same(tmp_path: Path, stamp: str) -> None:
    message = {"market_ticker": GOLD, "price_dollars": "0.5000", "delta_fp": "1", "side": "no", "ts": stamp}
    wire = json.dumps({"type": "orderbook_delta", "msg": message})
    same(tmp_path, ArchivedDay().at(1).frame("orderbook_delta", wire))


@pytest.mark.parametrize("size", [None, "", "0.00", "5.00"])
@pytest.mark.parametrize("price", [None, "", "0.0000", "1", "0.5000"])
def test_any_quote_gives_the_same(tmp_path: Path, price: str | None, size: str | None) -> None:
    quote = dict(zip(QUOTE, (price, price, size, price, size), strict=True))
    message = {"market_ticker": GOLD} | {name: text for name, text in quote.items() if text is not None}
    same(tmp_path, ArchivedDay().at(1).frame("ticker", json.dumps({"type": "ticker", "msg": message})))


# -------------------------------------------------------------------------------------------------- known frames


@pytest.mark.parametrize("date", ["2026-02-12", "2026-08-11"])
def test_recorded_frames_give_the_same(tmp_path: Path, date: str) -> None:
    """Of all eras, in both grammars: those of the other one are refused alike."""
    day = ArchivedDay(date).at(1)
    for path in sorted(KALSHI.glob("*.jsonl")):
        for wire in path.read_bytes().splitlines():
            day.frame(json.loads(wire)["type"], wire)
    hour = dataclasses.replace(task(tmp_path, 1, day.write(tmp_path / "archive")), date=date, day_start_ns=day.start)
    reference = rolled(dataclasses.replace(hour, frame_by_frame=True), tmp_path / "reference")
    assert isinstance(reference, jobs.RolledHour) and reference.events["tickers"] > 10
    assert rolled(hour, tmp_path / "bulk") == reference


def test_every_form_of_a_line_gives_the_same(tmp_path: Path) -> None:
    trade = ArchivedDay().trade(GOLD, "0.5100", "7.00").wires[0][1]
    day = ArchivedDay().at(1)
    day.frame("trade", trade).frame("trade", b" " + trade + b"\r\n").frame("trade", trade, json=False)
    day.frame("trade", trade[:-2] + b"\xff", json=False).frame("trade", trade.replace(b"0.5100", "0.51é".encode()))
    found = same(tmp_path, day)
    assert isinstance(found, jobs.RolledHour)
    assert (found.frames, found.events, sum(found.quarantined.values())) == (5, {"trades": 3}, 2)


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_frame_of_another_type_gives_the_same(tmp_path: Path, channel: str) -> None:
    found = same(tmp_path, ArchivedDay().at(1).trade(GOLD, "0.5", "1").frame(channel, json.dumps({"type": "x"})))
    assert isinstance(found, jobs.RolledHour) and sum(found.quarantined.values()) == 1
    for kind in CHANNELS:
        every = {"market_ticker": GOLD, "price_dollars": "0.5", "delta_fp": "1", "side": "no", "trade_id": "t"}
        message = every | {"yes_price_dollars": "0.5", "count_fp": "1"}
        found = same(tmp_path / kind, ArchivedDay().at(1).frame(channel, json.dumps({"type": kind, "msg": message})))
        assert isinstance(found, jobs.RolledHour) and found.with_events == (kind == channel)


def test_an_odd_frame_is_found_among_many(tmp_path: Path) -> None:
    day = ArchivedDay().at(1)
    for i in range(2000):
        day.delta((GOLD, SILVER)[i % 2], "no", f"0.{i % 90 + 10}00", f"-{i}.25")
    day.frame("orderbook_delta", '{"type":"orderbook_delta","msg":{"market_ticker":"M","side":"no"}}')
    for _ in range(500):
        day.delta(GOLD, "yes", "0.5000", "1.00")
    found = same(tmp_path, day)
    assert isinstance(found, jobs.RolledHour)
    assert (found.events, sum(found.quarantined.values())) == ({"book_deltas": 2500}, 1)


def test_a_value_too_fine_is_refused_in_the_same_words(tmp_path: Path) -> None:
    found = same(tmp_path, ArchivedDay().at(1).delta(GOLD, "yes", "0.5100", "1.001").delta(GOLD, "no", "0.51", "1"))
    assert isinstance(found, str) and "change 1.001" in found


def test_lines_of_other_hours_are_left_alone(tmp_path: Path) -> None:
    day = ArchivedDay().at(0, 59).trade(GOLD, "0.1", "1").at(1).trade(GOLD, "0.2", "1").at(2).trade(GOLD, "0.3", "1")
    found = same(tmp_path, day.at(3).frame("trade", '{"type":"trade","msg":{}}'))
    assert isinstance(found, jobs.RolledHour) and (found.frames, found.events) == (1, {"trades": 1})


# ------------------------------------------------------------------------------------------ several events a frame


class Levels(msgspec.Struct):
    changes: list[tuple[str, str]]


class Several:
    """A venue whose frames hold any number of changes, none too."""

    def events(self, date: str) -> "Several":
        return self

    def __call__(self, channel: str, wire: bytes) -> list[BookDelta]:
        frame = msgspec.json.decode(wire, type=Levels)
        return [BookDelta("M", None, "bid", price, size) for price, size in frame.changes]

    def channels(self) -> dict[str, tuple[type, ...]]:
        return {"book": (BookDelta,)}

    def bulk(self, channel: str) -> Bulk:
        def columns(frames: Sequence[Levels]) -> Columns:
            changes = [change for frame in frames for change in frame.changes]
            values = {"symbol": ["M"] * len(changes), "side": ["bid"] * len(changes)}
            values |= {"price": [price for price, _ in changes], "size": [size for _, size in changes]}
            return Columns(values, [len(frame.changes) for frame in frames])

        return Bulk(Levels, BookDelta, columns)


@pytest.mark.parametrize("counts", [[1, 1], [0, 0, 0], [3, 0, 1, 2], [0, 5]])
def test_frames_with_several_events_give_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counts: list[int]
) -> None:
    package = types.ModuleType("exchanges.several")
    package.__path__ = [str(tmp_path)]
    package.venue = Several()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, package.__name__, package)
    day = ArchivedDay().at(1)
    for count in counts:
        day.frame("book", msgspec.json.encode(Levels([(f"0.{i + 1}", str(i)) for i in range(count)])))
    hour = dataclasses.replace(task(tmp_path, 1, day.write(tmp_path / "archive")), venue="several")
    reference = rolled(dataclasses.replace(hour, frame_by_frame=True), tmp_path / "reference")
    assert isinstance(reference, jobs.RolledHour) and sum(reference.events.values()) == sum(counts)
    assert reference.control == counts.count(0)
    assert rolled(hour, tmp_path / "bulk") == reference
