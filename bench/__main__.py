"""python -m bench: how fast frames are captured, archived and rolled up, as ratios to the obvious way.

Made-up Kalshi frames from a fixed seed; every way gets the same ones and ends with everything synced to disk.
"""

import gzip
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb

from activities.replay import HourTask, replay_hour
from exchanges.kalshi import venue
from exchanges.port import Simulation, Subscription
from services.archiver.store import Store
from services.connector.capture import Capture, Connection
from ssmd import archive, config, subjects
from ssmd.clock import DAY_NS
from ssmd.journal import Journal, Record

SECOND_NS = 1_000_000_000
START_NS = 1_786_406_400 * SECOND_NS  # 2026-08-11T00:00:00Z
FRAMES = 200_000
BATCH = 50  # frames that one socket read brings at full rate


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="ssmd-bench-"))
    try:
        wires = made_frames(FRAMES)
        size = sum(map(len, wires)) / len(wires)
        say(f"{len(wires):,} made-up Kalshi frames of {size:.0f} bytes, one core, everything synced to disk\n")
        say(f"{'':44}{'frames/s':>10}{'the obvious way':>18}{'ratio':>8}")
        messages = compare("socket read -> journalled", capture, naive_capture, wires, folder)
        compare("message -> archived (JSONL.gz, cursor)", archived, naive_archived, messages, folder)
        compare("archive -> Parquet deltas (DuckDB, 1 thread)", rolled_up, duckdb_rolled_up, messages, folder)
    finally:
        shutil.rmtree(folder)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


def compare(name: str, ours: Callable, obvious: Callable, given: list, folder: Path) -> list:  # type: ignore[type-arg]
    """Time both on the same input; returns what ours made."""
    made, seconds = timed(ours, given, folder / "ours")
    _, other = timed(obvious, given, folder / "obvious")
    say(f"{name:44}{len(given) / seconds:>10,.0f}{len(given) / other:>18,.0f}{other / seconds:>8.1f}")
    return made


def timed(call: Callable, given: list, folder: Path) -> tuple[list, float]:  # type: ignore[type-arg]
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    made = call(given, folder)
    return made, time.perf_counter() - start


def made_frames(count: int) -> list[bytes]:
    simulator = venue.simulator(Simulation(seed=1, markets=12, frames_per_second=1_000))
    simulator.generate(START_NS)
    connection = simulator.connect()
    for channels in ("orderbook_delta", "trade", "ticker"):
        listed = json.loads(simulator.answer("GET", "/trade-api/v2/markets?status=open", {}, START_NS).body)
        tickers = [m["ticker"] for m in listed["markets"]]
        command = {"id": 1, "cmd": "subscribe", "params": {"channels": [channels], "market_tickers": tickers}}
        connection.received(json.dumps(command).encode(), START_NS)
    wires: list[bytes] = []
    now = START_NS
    while len(wires) < count:
        now += SECOND_NS // 2
        for record in simulator.generate(now):
            wires += connection.market(record)
    return wires[:count]


# ------------------------------------------------------------------------------------------ socket -> journal


def capture(wires: list[bytes], folder: Path) -> list[Record]:
    journal = Journal(folder / "journal")
    journal.recover()
    records: list[Record] = []
    taken = Capture("bench", "kalshi", journal, lambda position, some: records.extend(some), lambda notice: None)
    connection = Connection("kalshi-0-bench", venue.adapter(Subscription(("orderbook_delta",), ())))
    for i in range(0, len(wires), BATCH):
        taken.receive(connection, wires[i : i + BATCH], START_NS + i * 10_000)
        if i % (BATCH * 40) == 0:
            journal.syncs()()
    journal.close()
    return records


def naive_capture(wires: list[bytes], folder: Path) -> None:
    """json.loads to see what it is, a line of json.dumps, a sync as often as ours."""
    with (folder / "journal.jsonl").open("w") as file:
        for i, wire in enumerate(wires):
            frame = json.loads(wire)
            file.write(json.dumps({"ts_recv": START_NS + i, "n": i, "channel": frame["type"], "frame": frame}) + "\n")
            if i % (BATCH * 40) == 0:
                file.flush()
                os.fdatasync(file.fileno())


# ------------------------------------------------------------------------------------------ stream -> archive


def archived(records: list[Record], folder: Path) -> None:
    store = Store(folder / "archive", "kalshi")
    store.recover()
    for seq, record in enumerate(records, 1):
        channel, token = record.subject.rsplit(".", 2)[1:]
        store.add(seq, channel, subjects.symbol(token), record.message)
        if seq % 20_000 == 0:
            write(store)
    write(store, finish=True)


def write(store: Store, finish: bool = False) -> None:
    begun = store.begin(store.of_day(None) if finish else [])
    if begun is not None:
        store.write(begun)


def naive_archived(records: list[Record], folder: Path) -> None:
    """json for each line, the gzip module, a file per channel."""
    files = {}
    for seq, record in enumerate(records, 1):
        channel = subjects.channel_of(record.subject)
        if channel not in files:
            files[channel] = gzip.open(folder / f"{channel}.jsonl.gz", "wt", compresslevel=6)  # noqa: SIM115
        files[channel].write(json.dumps(json.loads(record.message) | {"seq": seq}) + "\n")
    for file in files.values():
        file.close()


# ------------------------------------------------------------------------------------------ archive -> Parquet


def rolled_up(records: list[Record], folder: Path) -> None:
    feed = config.load_feed("kalshi")
    date = "2026-08-11"
    manifest = archive.load_manifest(archive.manifest_path(folder / "archive", "kalshi", date))
    segments = [(s.name, s.channel, s.sha256) for s in manifest.segments if s.channel == "orderbook_delta"]
    board = folder / "board"
    board.write_bytes(bytes(4096))
    task = HourTask(
        folder / "archive", folder / "lake", "kalshi", "kalshi", date, START_NS - START_NS % DAY_NS, 0,
        feed.precision, segments,
    )  # fmt: skip
    replay_hour(task, board)


def duckdb_rolled_up(records: list[Record], folder: Path) -> None:
    ours = folder.parent / "ours" / "archive" / "kalshi" / "2026-08-11"
    shape = (
        "{ts_recv: 'BIGINT', conn: 'VARCHAR', n: 'BIGINT', frame: 'STRUCT(msg STRUCT(market_ticker VARCHAR, "
        "price_dollars DECIMAL(18,6), delta_fp DECIMAL(18,2), side VARCHAR, ts_ms BIGINT))'}"
    )
    duckdb.sql("SET threads = 1")
    duckdb.sql(
        f"COPY (SELECT ts_recv, frame.msg.ts_ms, frame.msg.market_ticker, conn, n, frame.msg.price_dollars, "
        f"frame.msg.delta_fp, frame.msg.side FROM read_json('{ours}/orderbook_delta_*.jsonl.gz', "
        f"format='newline_delimited', columns={shape}) ORDER BY 3, 1, 4, 5) "
        f"TO '{folder}/book_deltas.parquet' (FORMAT parquet, COMPRESSION zstd)"
    )


if __name__ == "__main__":
    main()
