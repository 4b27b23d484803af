"""Whatever bytes a venue sends are kept to the last: archived or quarantined, counted, in memory that stays flat."""

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path

import hypothesis
import msgspec
import pytest
from hypothesis import strategies as st
from temporalio.testing import ActivityEnvironment

from activities.archive import Archive
from activities.processes import Processes
from activities.rollup import Rollup
from exchanges.kalshi import venue
from exchanges.port import Notice, Received, Subscription
from services.archiver.store import Store
from services.connector.capture import Capture, Connection
from ssmd import config, jobs, subjects, tables
from ssmd.journal import Journal, Record

from .accounts import OWN, _wire

DATE, NOW_NS = "2026-08-11", 1_786_410_915_524_000_000
MARKET = "KXMADE-26AUG11-T1.5"
GROWTH_BYTES_MAX = 64 << 20  # of resident memory over the last four fifths of the run
COMMIT_FRAMES = 1000

DELTA = (
    b'{"type":"orderbook_delta","sid":1,"seq":7,"msg":{"market_ticker":"%b","market_id":"id","price_dollars":"0.3300",'
    b'"delta_fp":"-12.50","side":"yes","ts":"2026-08-11T01:15:15.524Z","ts_ms":1786410915524}}' % MARKET.encode()
)
CORPUS = (
    DELTA,
    b'{"type":"orderbook_snapshot","sid":1,"seq":1,"msg":{"market_ticker":"%b","market_id":"id",'
    b'"yes_dollars_fp":[["0.0100","5.00"],["0.3300","12.50"]],"no_dollars_fp":[["0.6000","1.00"]]}}' % MARKET.encode(),
    b'{"type":"trade","sid":2,"seq":3,"msg":{"trade_id":"t","market_ticker":"%b","yes_price_dollars":"0.4800",'
    b'"no_price_dollars":"0.5200","count_fp":"7.00","taker_side":"yes","taker_outcome_side":"yes",'
    b'"taker_book_side":"bid","ts":1786410915,"ts_ms":1786410915524}}' % MARKET.encode(),
    b'{"type":"ticker","sid":3,"msg":{"market_ticker":"%b","price_dollars":"0.48","yes_bid_dollars":"0.47",'
    b'"yes_ask_dollars":"0.49","ts":1786410915}}' % MARKET.encode(),
    b'{"type":"market_lifecycle_v2","sid":4,"seq":1,"msg":{"market_ticker":"%b","event_type":"activated"}}'
    % MARKET.encode(),
    b'{"id":1,"type":"subscribed","msg":{"channel":"orderbook_delta","sid":1}}',
    b'{"id":2,"type":"subscribed","msg":{"channel":"trade","sid":2}}',
    b'{"id":9,"sid":1,"seq":2,"type":"ok","msg":{"market_tickers":["%b"]}}' % MARKET.encode(),
    b'{"id":9,"type":"error","sid":1,"seq":3,"msg":{"code":25,"msg":"Subscription buffer overflow"}}',
)
TORN = (  # what replaces a part of a frame
    b"NaN",
    b"Infinity",
    b"-0",
    b"1e400",
    b"-1e-400",
    b"9" * 5000,
    b"18446744073709551616",
    b"0.1" + b"0" * 3000,
    b'"\\ud800"',
    b'"\\udfff\\ud800"',
    b"\x00",
    b"\\u0000",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\n",
    b"\r\n",
    b"null",
    b"[]",
    b"{}",
    b'""',
    b"true",
    b'"type":"trade"',
    b"\xc3",
    b"\xe2\x80\xa8",
    b'"' + b"x" * 20_000 + b'"',
)
BOMBS = (
    b"",
    b" ",
    b"\n",
    b"{",
    b"[" * 100_000,
    b"[" * 50_000 + b"]" * 50_000,
    b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    b'{"type":"' + b"A" * 500_000 + b'"}',
    b"9" * 300_000,
    b'"' + b"\\ud800" * 30_000 + b'"',
    b"\x00" * 70_000,
    b'{"type":"orderbook_snapshot","sid":1,"seq":1,"msg":{"market_ticker":"A","yes_dollars_fp":['
    + b'["0.01","1.00"],' * 20_000
    + b'["0.02","1.00"]]}}',
    b'{"type":"trade","type":"ticker","type":"trade","sid":2,"msg":{}}',
    DELTA + b"\n",
    b"  " + DELTA + b"\t",
    DELTA * 2,
    DELTA.replace(MARKET.encode(), b"M" * 300),
    DELTA.replace(MARKET.encode(), b"*.> /%"),
    DELTA.replace(MARKET.encode(), "Zürich\u2028".encode()),
    DELTA.replace(b'"seq":7', b'"seq":-7'),
    DELTA.replace(b'"sid":1', b'"sid":1e3'),
    DELTA.replace(b'"0.3300"', b'"1e999"'),
    DELTA.replace(b'"-12.50"', b'"NaN"'),
)


def mutate(frame: bytes, chance: random.Random) -> bytes:
    """A few accidents: a byte missing, doubled or changed, a part replaced, the rest missing."""
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        at = chance.randrange(len(frame) + 1)
        match chance.randrange(6):
            case 0:
                frame = frame[:at] + frame[at + 1 :]
            case 1:
                frame = frame[:at] + bytes([chance.randrange(256)]) + frame[at + 1 :]
            case 2:
                frame = frame[:at]
            case 3:
                frame = frame[:at] + chance.choice(TORN) + frame[at + chance.randrange(12) :]
            case 4:
                other = chance.choice(CORPUS)
                frame = frame[:at] + other[chance.randrange(len(other)) :]
            case _:
                values = [i for i, byte in enumerate(frame) if byte == 0x3A]  # after a colon stands a value
                if values:
                    at = chance.choice(values) + 1
                    frame = frame[:at] + chance.choice(TORN) + frame[at + chance.randrange(8) :]
    return frame


# Whole messages of any shape, from Hypothesis: right keys with wrong values, wrong keys, any nesting.
_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from([MARKET])
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_keys = ("market_ticker", "event_ticker", "code", "channel", "sid", "price_dollars", "delta_fp", "side", "ts_ms", "msg")
_types = (
    st.sampled_from(("orderbook_delta", "orderbook_snapshot", "trade", "ticker", "subscribed", "ok", "error")) | _values
)
_messages = st.fixed_dictionaries(
    {"type": _types},
    optional={
        "sid": _values | st.integers(0, 5),
        "seq": _values | st.integers(0, 9),
        "id": _values,
        "msg": _values | st.dictionaries(st.sampled_from(_keys), _values, max_size=6),
    },
)
_wires = (_messages | _values).map(lambda made: json.dumps(made, separators=(",", ":")).encode())
batches = st.tuples(st.lists(_wires | st.binary(max_size=80), max_size=30), st.integers(0, 1 << 62))


def warned(connection: Connection, notice: Notice) -> None:
    """What the connector would log."""


class Mill:
    """Frames through capture, journal and store, in this process."""

    def __init__(self, folder: Path) -> None:
        self.places = config.Places(folder)
        self.journal = Journal(self.places.journal / "kalshi")
        self.store = Store(self.places.archive, "kalshi")
        self.capture = Capture("local", "kalshi", self.journal, lambda position, records: self._take(records), warned)
        subscription = Subscription(("orderbook_delta", "trade", "ticker", "market_lifecycle_v2"), (MARKET,))
        self.connection = Connection("kalshi-0-00000000001-0001", venue.adapter(subscription))
        assert self.connection.adapter is not None
        self.connection.adapter.opened()
        self.sent = self.seq = self.uncommitted = 0
        self.prints: list[int] = []
        self.sizes: list[int] = []

    def _take(self, records: list[Record]) -> None:
        for subject, message in records:
            self.seq += 1
            channel, token = subject.rsplit(".", 2)[1:]
            self.store.add(self.seq, channel, subjects.symbol(token), message)

    def feed(self, wires: list[bytes]) -> None:
        """As the link does: all that one read of the socket brought."""
        now = NOW_NS + self.sent * 1000
        self.capture.receive(self.connection, wires, now)
        self.capture.tick(self.connection, now, now)
        self.sent += len(wires)
        self.prints += [hash(wire) for wire in wires]
        self.uncommitted += len(wires)
        if self.uncommitted >= COMMIT_FRAMES:
            self.uncommitted = 0
            commit = self.store.begin()
            assert commit is not None
            self.store.write(commit)
            self.sizes.append(resident())

    def finish(self) -> None:
        self.journal.close()
        commit = self.store.begin(seal=[DATE])
        assert commit is not None
        self.store.write(commit)
        self.store.close()


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def archived(folder: Path) -> tuple[list[int], int]:
    """The venue's frames in order, hashed; how many lines are in quarantine. Read with gzip and json alone."""
    found: list[tuple[int, int]] = []
    bad = 0
    for path in folder.glob("kalshi/*/*.jsonl.gz"):
        channel = path.name.rsplit("_", 1)[0]
        with gzip.open(path, "rb") as file:
            for raw in file:
                line = json.loads(raw, parse_int=int_or_text, parse_float=str)
                if channel not in OWN:
                    found.append((line["n"], hash(_wire(raw, line))))
                bad += channel == "_bad"
    return [wire for _, wire in sorted(found)], bad


def int_or_text(digits: str) -> int | str:
    return int(digits) if len(digits) < 100 else digits


def roll_up(places: config.Places) -> tables.LakeDay:
    """The steps of RollupDay; each counts what it read against what it wrote, and raises."""
    step = ActivityEnvironment().run
    day = jobs.Day("kalshi", DATE)
    with Processes(2) as processes:
        sealed = step(Archive(places, "local", "").verify, day)
        rollup = Rollup(places, processes)
        hours = [step(rollup.rollup_hour, jobs.Hour(day.feed, DATE, h, sealed.revision)) for h in sealed.hours]
        rolled = step(rollup.publish_day, sealed, hours)
    return tables.load_day(places.lake / rolled.manifest)


@pytest.mark.timeout(400)
def test_mutated_frames_are_all_kept_to_the_byte(
    tmp_path: Path, seed: int, full: bool, reliability: Callable[[str, str, str], None]
) -> None:
    frames = 50_000 if full else 4_000
    mill = Mill(tmp_path)
    mill.feed(list(CORPUS))
    for bomb in BOMBS:
        mill.feed([bomb])

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=frames // 50,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(batches)
    def shower(batch: tuple[list[bytes], int]) -> None:
        made, number = batch
        chance = random.Random(number)
        made = (
            made
            + [chance.choice(CORPUS) for _ in range(10)]
            + [mutate(chance.choice(CORPUS), chance) for _ in range(50 - len(made))]
        )
        chance.shuffle(made)
        mill.feed(made)

    shower()
    while mill.sent < frames:
        chance = random.Random(seed + mill.sent)
        mill.feed([mutate(chance.choice(CORPUS), chance) for _ in range(50)])
    mill.finish()

    found, bad = archived(mill.places.archive)
    assert len(found) == mill.sent >= frames
    assert found == mill.prints
    assert bad == mill.capture.bad > frames // 10
    rolled = roll_up(mill.places)
    assert rolled.frames == rolled.with_events + rolled.control + sum(rolled.quarantined.values())
    growth = mill.sizes[-1] - mill.sizes[len(mill.sizes) // 5]
    assert growth < GROWTH_BYTES_MAX, f"{growth >> 20} MB more"
    spoiled = without_quarantine(tmp_path / "control", seed)
    assert spoiled
    reliability(
        "Bad input is kept to the byte",
        f"{mill.sent:,} frames = {mill.sent - bad:,} archived + {bad:,} quarantined, bytes exact; rolled up: "
        f"{rolled.with_events:,} with events, {rolled.control:,} control, "
        f"{sum(rolled.quarantined.values()):,} quarantined; memory grew {max(growth, 0) >> 20} MB",
        f"believing that all is JSON: {spoiled}",
    )


def without_quarantine(folder: Path, seed: int) -> str:
    """The control: an adapter that takes everything for good. What becomes of the bytes."""
    mill = Mill(folder)
    adapter = mill.connection.adapter
    assert adapter is not None
    adapter.received = lambda wire, ts_recv: Received("trade", MARKET)  # type: ignore[method-assign]
    chance = random.Random(seed)
    wires = [mutate(chance.choice(CORPUS), chance) for _ in range(500)]
    refused = 0
    for wire in wires:
        try:
            mill.feed([wire])
        except msgspec.DecodeError:
            refused += 1
    return f"{refused} of 500 cannot be archived" if refused else ""
