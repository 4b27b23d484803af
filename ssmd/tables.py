"""The lake's tables: columns, types, sort order, file names. One place for rollup, reader and documentation.

    {lake}/{table}/feed={feed}/date={date}/{table}_{HH}.parquet
    {lake}/days/feed={feed}/date={date}/manifest.json
"""

from pathlib import Path

import msgspec
import pyarrow as pa

from ssmd.config import Precision

FORMAT = 1

_COMMON: list[tuple[str, pa.DataType, str]] = [
    ("ts_recv", pa.int64(), "ns since the epoch, right after our socket read"),
    ("ts_event", pa.int64(), "ns since the epoch, the venue's own; null if it gave none"),
    ("feed", pa.dictionary(pa.int32(), pa.string()), "the feed"),
    ("symbol", pa.dictionary(pa.int32(), pa.string()), "the venue's instrument id"),
    ("conn", pa.dictionary(pa.int32(), pa.string()), "the connection; (conn, n) names the frame"),
    ("n", pa.int64(), "the frame's number on its connection"),
    ("item", pa.int32(), "the event's place in its frame, from 0"),
]


def schema(table: str, precision: Precision) -> pa.Schema:
    """The Arrow schema of `table` for a feed of that precision."""
    price = pa.decimal128(18, precision.price)
    size = pa.decimal128(18, precision.size)
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
            ("start", pa.int64()),
            ("end", pa.int64()),
            ("cause", pa.string()),
            ("symbols", pa.list_(pa.string())),
            ("evidence", pa.string()),
            ("repair", pa.string()),
        ],
    }
    return pa.schema([(name, kind) for name, kind, _ in _COMMON] + own[table])


TABLES = ("trades", "tickers", "book_deltas", "book_snapshots", "status", "sessions", "gaps")
SORT = ("symbol", "ts_recv", "conn", "n", "item")


def file_path(table: str, feed: str, date: str, hour: int) -> Path:
    """A table's file of one hour, relative to the lake."""
    return Path(table) / f"feed={feed}" / f"date={date}" / f"{table}_{hour:02d}.parquet"


def manifest_path(feed: str, date: str) -> Path:
    """A rolled-up day's manifest, relative to the lake."""
    return Path("days") / f"feed={feed}" / f"date={date}" / "manifest.json"


class LakeFile(msgspec.Struct, frozen=True):
    table: str
    path: str  # relative to the lake
    rows: int
    bytes: int
    sha256: str


class LakeDay(msgspec.Struct, frozen=True):
    """A rolled-up day: what it was made from, what it holds, what became of every frame."""

    feed: str
    date: str
    revision: int  # of the archive manifest it was made from
    inputs: dict[str, str]  # archive segment name -> sha256
    files: list[LakeFile]
    frames: int
    with_events: int
    control: int
    quarantined: dict[str, int]
    events: dict[str, int]
    format: int = FORMAT
    software: str = ""
