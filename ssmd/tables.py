"""The lake's tables: columns, types, sort order, file names. One place for rollup, reader and documentation.

A file is named by what it was made from, so nothing that a day's manifest names is ever written over: a new
revision of a day lies beside the old one until the manifest, replaced last, names it.

{lake}/{table}/feed={feed}/date={date}/{table}_{HH}.{inputs}.parquet
{lake}/days/feed={feed}/date={date}/manifest.json
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ssmd import checked_json, durable
from ssmd.archive import NewerFormat
from ssmd.config import Precision
from ssmd.coverage import Condition
from ssmd.errors import Permanent
from ssmd.events import GapCause

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1


class Meaning(NamedTuple):
    """What a column holds, and in which unit; ns as a time are since the epoch, UTC."""

    said: str
    unit: str = ""


# The columns that every table begins with, and what they hold; ssmd/views.py says it of all others.
COMMON = {
    "ts_recv": Meaning("when we received the frame, right after our socket read", "ns"),
    "ts_event": Meaning("the venue's own time; null if it gave none", "ns"),
    "feed": Meaning("the feed"),
    "symbol": Meaning("the venue's instrument id; null for sessions and gaps"),
    "conn": Meaning("the connection; (conn, n) names the frame"),
    "n": Meaning("the frame's number on its connection, from 1"),
    "item": Meaning("the event's place in its frame, from 0"),
}


def schema(table: str, precision: Precision) -> "pa.Schema":
    """The Arrow schema of `table` for a feed of that precision."""
    import pyarrow as pa  # noqa: PLC0415 - 40 MB of memory, for which those who only read manifests have no use

    repeated = pa.dictionary(pa.int32(), pa.string())
    common = [pa.int64(), pa.int64(), repeated, repeated, repeated, pa.int64(), pa.int32()]
    price = pa.decimal128(precision.digits, precision.price)
    size = pa.decimal128(precision.digits, precision.size)
    level = pa.list_(pa.struct([("price", price), ("size", size)]))
    own: dict[str, list[tuple[str, pa.DataType]]] = {
        "trades": [("price", price), ("size", size), ("side", pa.string()), ("trade_id", pa.string())],
        "tickers": [
            ("last", price),
            ("last_size", size),
            ("bid", price),
            ("bid_size", size),
            ("ask", price),
            ("ask_size", size),
            ("volume", size),
            ("open_interest", size),
        ],
        "book_snapshots": [("bids", level), ("asks", level)],
        "book_deltas": [("side", pa.string()), ("price", price), ("size", size), ("change", size)],
        "status": [("status", pa.string()), ("detail", pa.string())],
        "sessions": [("type", pa.string()), ("session", pa.string()), ("detail", pa.string())],
        "gaps": [
            ("gap", pa.string()),
            ("session", pa.string()),
            ("ts_start", pa.int64()),
            ("ts_end", pa.int64()),
            ("cause", pa.string()),
            ("symbols", pa.list_(pa.string())),
            ("evidence", pa.string()),
            ("repair", pa.string()),
        ],
    }
    return pa.schema([*zip(COMMON, common, strict=True), *own[table]])


TABLES = ("trades", "tickers", "book_deltas", "book_snapshots", "status", "sessions", "gaps")
SORT = ("symbol", "ts_recv", "conn", "n", "item")


def inputs_key(precision: Precision, segments: list[tuple[str, str]], software: str) -> str:
    """What an hour's files are named by: the segments (name, sha256) they come from and what shaped them."""
    made_of: list[object] = [FORMAT, precision.price, precision.size, segments, software]
    made_of += [precision.digits] if precision.digits != 18 else []  # names from before there was a choice stay
    return hashlib.sha256(msgspec.json.encode(made_of)).hexdigest()[:12]


def file_path(table: str, feed: str, date: str, hour: int, inputs: str) -> Path:
    """A table's file of one hour, relative to the lake; `inputs` is its `inputs_key`."""
    return Path(table) / f"feed={feed}" / f"date={date}" / f"{table}_{hour:02d}.{inputs}.parquet"


def manifest_path(feed: str, date: str) -> Path:
    """A rolled-up day's manifest, relative to the lake."""
    return Path("days") / f"feed={feed}" / f"date={date}" / "manifest.json"


class LakeFile(msgspec.Struct, frozen=True):
    """A Parquet file of a day: one hour of one table."""

    table: str  # its name
    path: str  # relative to the lake
    rows: int  # in it
    bytes: int  # of the file
    sha256: str  # of the file


def hour_of(file: LakeFile) -> int:
    """The UTC hour whose rows a file holds."""
    return int(file.path.rsplit("_", 1)[1].partition(".")[0])


class Covered(msgspec.Struct, frozen=True):
    """What of a day is there of `symbols` (they share it): see ssmd.coverage for what the words mean."""

    symbols: list[str]  # instruments
    condition: Condition  # of the day, in a word
    covered_ns: int  # of the day, on a connection that stood and in no gap
    gap_ns: dict[GapCause, int]  # of the day in gaps, by cause
    gaps: int  # how many


class LakeDay(msgspec.Struct, frozen=True):
    """A rolled-up day: what it was made from, what it holds, what became of every frame."""

    feed: str  # as in feeds/
    date: str  # the UTC day by `ts_recv`
    revision: int  # of the archive manifest it was made from
    inputs: dict[str, str]  # archive segment name -> sha256
    files: list[LakeFile]  # every file of the day; readers go by this list
    frames: int  # in the archive: with_events + control + quarantined
    with_events: int  # that say something of a market, or are our own rows
    control: int  # acknowledgements and the like, which say nothing
    quarantined: dict[str, int]  # that are in no table, by reason
    events: dict[str, int]  # rows by table
    format: int = FORMAT  # of this file
    software: str = ""  # that wrote it, and the grammar it used
    coverage: list[Covered] = []  # how much of the day is there, of which instruments
    precision: tuple[int, ...] | None = None  # of all files: decimals of prices, of sizes, digits; null in old ones


def load_day(path: Path) -> LakeDay:
    """Raises FileNotFoundError, or Permanent if the file is damaged or of a newer format."""
    data = path.read_bytes()
    try:
        day = checked_json.decode(data, LakeDay)
    except msgspec.DecodeError as e:
        raise Permanent(f"{path} is damaged ({e}): run `ssmd rollup` on that day again") from e
    if day.format > FORMAT:
        raise NewerFormat(f"{path} has format {day.format}, this ssmd reads up to {FORMAT}: upgrade ssmd")
    return day


def save_day(lake: Path, day: LakeDay) -> Path:
    """Publish a rolled-up day; returns the manifest's path relative to the lake."""
    relative = manifest_path(day.feed, day.date)
    durable.make_folder((lake / relative).parent)
    durable.replace(lake / relative, checked_json.encode(day, indent=1))
    return relative


def days(lake: Path, feed: str | None = None) -> Iterator[LakeDay]:
    """Every rolled-up day's manifest, by feed and date."""
    for path in sorted(lake.glob(f"days/feed={feed or '*'}/date=????-??-??/manifest.json")):
        yield load_day(path)
