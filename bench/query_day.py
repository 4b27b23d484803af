"""A day of many rows, as raw frames (of its first hour) and in the lake (all of it).

An hour of made-up Kalshi frames about 48 markets is told again under other names until there is enough of it, written
as an archiver writes segments, and rolled up by the project's own rollup. Its files are then written again for the
other hours, with later times and numbers.
"""

import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from isal import igzip

from activities import replay
from exchanges.kalshi import venue
from exchanges.kalshi.markets import rfc3339
from exchanges.port import Simulation, Subscription
from ssmd import __version__, archive, config, durable, frames, tables
from ssmd.clock import DAY_NS, SECOND_NS
from ssmd.events import Gap, Session

FEED, DATE = "kalshi", "2026-08-11"
START_NS = 1_786_406_400 * SECOND_NS
HOUR_NS = 3600 * SECOND_NS
HOURS = 24
MARKETS = 48
HOUR_FRAMES = 40_000  # of the hour that is told again and again
GAPS = 20  # in it
CHUNK_FRAMES = 100  # of one name, before the next tells the same
QUARTERS = 4  # segments of a channel in an hour, as archivers rotate them
CONN = "kalshi-000-0198964b3f2-7f3a"

Lines = list[tuple[str, bytes]]  # channel, archive line


class Day(NamedTuple):
    """What was made."""

    data: Path  # a data folder; its archive has the first hour alone, its lake the day
    raw: Path  # the first hour's segments
    rows: int
    symbols: list[str]
    lake_bytes: int
    raw_bytes: int


def make(folder: Path, rows: int) -> Day:
    """At least as many rows as wanted."""
    places = config.Places(folder / "data")
    places.create()
    hour_frames = min(HOUR_FRAMES, -(-rows // HOURS))
    names = -(-rows // (HOURS * hour_frames))
    lines, symbols = one_hour(hour_frames)
    raw = archive.day_folder(places.archive, FEED, DATE)
    durable.make_folder(raw)
    segments = write_segments(raw, lines, symbols, names)
    first = roll_up(places, segments)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as processes:
        later = [processes.submit(told_again, places.lake, first, hour, hour_frames) for hour in range(HOURS)]
        files = [file for hour in later for file in hour.result()]
    for file, again in zip(first, files, strict=False):
        assert file == again, f"{again.path} is not written as the rollup writes it"
    all_symbols = [renamed(symbol, name) for name in range(names) for symbol in symbols]
    publish(places.lake, files, all_symbols)
    return Day(
        places.data,
        raw,
        sum(file.rows for file in files),
        all_symbols,
        sum(file.bytes for file in files),
        sum(path.stat().st_size for path in raw.iterdir()),
    )


# -------------------------------------------------------------------------------------------------- the raw hour


def one_hour(count: int) -> tuple[Lines, list[str]]:
    """So many frames, the books first, spread over an hour; and our own rows. Their symbols."""
    simulator: Any = venue.simulator(Simulation(seed=1, markets=MARKETS, frames_per_second=1_000))
    simulator.generate(START_NS - SECOND_NS)
    simulator.generate(START_NS)
    symbols = sorted(simulator.exchange.markets)
    connection = simulator.connect()
    adapter = venue.adapter(Subscription(("orderbook_delta", "ticker", "trade"), tuple(symbols)))
    wires = [wire for command in adapter.opened() for wire in connection.received(command, START_NS)]
    now = START_NS
    while len(wires) < count:
        now += SECOND_NS // 2
        for record in simulator.generate(now):
            wires += connection.market(record)
    opened = Session("open", FEED, CONN), Session("connected", FEED, CONN, subscription={"symbols": symbols})
    rows = [(frames.SESSION, msgspec.json.encode(session)) for session in opened]
    rows += [(adapter.received(wire, 0).channel, wire) for wire in wires[:count]]
    step = HOUR_NS // (len(rows) + GAPS + 1)
    for i in range(GAPS):
        at = START_NS + HOUR_NS * i // GAPS
        gap = Gap(f"g{i}", FEED, CONN, [symbols[i]], at, at + i * SECOND_NS, "sequence", f"seq {i + 2} after {i}")
        rows.insert((i + 1) * len(rows) // (GAPS + 1), (frames.GAP, msgspec.json.encode(gap)))
    lines = []
    for n, (channel, wire) in enumerate(rows, 1):
        ts = START_NS + n * step
        message = frames.message(ts, CONN.encode(), n, at_time(wire, ts - 3_000_000))
        lines.append((channel, frames.line(n, message)))
    return lines, symbols


def at_time(wire: bytes, ts: int) -> bytes:
    """The frame as if what it tells had happened then."""
    frame = msgspec.json.decode(wire)
    message = frame.get("msg", {})
    if "ts_ms" in message:
        message["ts_ms"] = ts // 1_000_000
        message["ts"] = rfc3339(ts) if isinstance(message["ts"], str) else ts // SECOND_NS
    return msgspec.json.encode(frame)


def renamed(symbol: str, name: int) -> str:
    """Another market of which the same is told."""
    series, rest = symbol.split("-", 1)
    return f"{series}{name:03d}-{rest}"


def write_segments(folder: Path, lines: Lines, symbols: list[str], names: int) -> list[tuple[str, str, str]]:
    """(name, channel, SHA-256) of each; every name's frames have a connection of their own."""
    split = re.compile("|".join(map(re.escape, [CONN, *symbols])).encode()).split
    find = re.compile("|".join(map(re.escape, [CONN, *symbols])).encode()).findall
    words = [
        {symbol.encode(): renamed(symbol, name).encode() for symbol in symbols}
        | {CONN.encode(): CONN.replace("000", f"{name:03d}", 1).encode()}
        for name in range(names)
    ]
    segments = []
    for quarter in range(QUARTERS):
        some = lines[len(lines) * quarter // QUARTERS : len(lines) * (quarter + 1) // QUARTERS]
        for channel in sorted({channel for channel, _ in some}):
            own = [line for c, line in some if c == channel]
            path = folder / archive.segment_name(channel, quarter)
            with igzip.open(path, "wb", compresslevel=2) as file:
                for i in range(0, len(own), CHUNK_FRAMES):
                    chunk = b"\n".join(own[i : i + CHUNK_FRAMES]) + b"\n"
                    between, found = split(chunk), find(chunk)
                    for word in words[: 1 if channel.startswith("_") else names]:
                        parts = [*between, *found]
                        parts[::2], parts[1::2] = between, [word[name] for name in found]
                        file.write(b"".join(parts))
            segments.append((path.name, channel, archive.sha256_of(path)))
    return segments


# ------------------------------------------------------------------------------------------------------ the lake


def roll_up(places: config.Places, segments: list[tuple[str, str, str]]) -> list[tables.LakeFile]:
    """The first hour, by the project's own rollup."""
    board = places.run / "board"
    board.write_bytes(bytes(4096))
    precision = config.load_feed(FEED).precision
    task = replay.HourTask(places.archive, places.lake, FEED, FEED, DATE, START_NS, 0, precision, segments)
    parts = replay.replay_hour(task, board).parts
    return [tables.LakeFile(p.table, p.path, p.rows, p.bytes, p.sha256) for p in sorted(parts, key=lambda p: p.path)]


def told_again(folder: Path, first: list[tables.LakeFile], hour: int, numbers: int) -> list[tables.LakeFile]:
    """The first hour's files once more, `hour` hours later."""
    return [file_again(folder, file, hour, hour * (numbers + GAPS + 2)) for file in first]


def file_again(folder: Path, file: tables.LakeFile, hour: int, numbers: int) -> tables.LakeFile:
    source = pq.ParquetFile(folder / file.path)
    schema = tables.schema(file.table, config.load_feed(FEED).precision)
    relative = Path(file.path.replace(f"{file.table}_00.", f"{file.table}_{hour:02d}."))
    path = folder / relative if hour else folder / f"{file.table}.again"

    def write(out: BinaryIO) -> None:
        with pq.ParquetWriter(out, schema, **replay.parquet_format(schema)) as writer:
            for i in range(source.num_row_groups):
                writer.write_table(later(source.read_row_group(i).cast(schema), hour, numbers))

    durable.replace_by(path, write)
    made = tables.LakeFile(
        file.table, str(relative), source.metadata.num_rows, path.stat().st_size, archive.sha256_of(path)
    )
    if not hour:
        path.unlink()  # made to be compared with the rollup's
    return made


def later(rows: pa.Table, hour: int, numbers: int) -> pa.Table:
    shifts = {"ts_recv": hour * HOUR_NS, "ts_event": hour * HOUR_NS, "n": numbers}
    shifts |= {"ts_start": hour * HOUR_NS, "ts_end": hour * HOUR_NS}
    for i, name in enumerate(rows.schema.names):
        if name in shifts:
            rows = rows.set_column(i, rows.schema.field(i), pc.add(rows[name], shifts[name]))
        elif name == "gap" and hour:
            named = pc.binary_join_element_wise(rows[name], f"{hour:02d}", "-")
            rows = rows.set_column(i, rows.schema.field(i), named)
    return rows


def publish(folder: Path, files: list[tables.LakeFile], symbols: list[str]) -> None:
    """The day's manifest, as a rollup would leave it."""
    counts: dict[str, int] = {}
    for file in files:
        counts[file.table] = counts.get(file.table, 0) + file.rows
    covered = [
        tables.Covered(symbols[GAPS:], "available", DAY_NS, {}, 0),
        tables.Covered(symbols[:GAPS], "degraded", DAY_NS - HOURS * SECOND_NS, {"sequence": HOURS * SECOND_NS}, HOURS),
    ]
    rows = sum(counts.values())
    precision = config.load_feed(FEED).precision
    day = tables.LakeDay(
        FEED, DATE, 1, {}, files, rows, rows, 0, {}, counts,
        software=__version__, coverage=covered, precision=(precision.price, precision.size, precision.digits),
    )  # fmt: skip
    tables.save_day(folder, day)
