"""Tables whose rows have versions: what was known of an instrument or a fee, and from when until when.

Each sync adds rows for what is new or has changed since, each with the time from which it is known (`valid_from`);
nothing is ever written over. A version is valid until the next one of its key begins, which readers find
(`valid_to`), so that what was known at any time in the past can be asked for.

{lake}/{table}/feed={feed}/manifest.json                     names the files, replaced last
{lake}/{table}/feed={feed}/{table}_{revision}.{sha}.parquet  the rows of one sync, or of several when merged
"""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ssmd import __version__, checked_json, durable
from ssmd.archive import NewerFormat
from ssmd.errors import Permanent

FORMAT = 1
MERGE_FILES = 16  # of one tier become one of the next: a year of syncs, each five minutes, is some 60 files
KEEP_MERGED_NS = 24 * 3600 * 1_000_000_000  # readers that began before may still have the old files in hand

_DECIMAL = pa.decimal128(38, 20)
_COMMON: list[tuple[str, pa.DataType]] = [
    ("feed", pa.string()),
    ("symbol", pa.string()),
    ("valid_from", pa.int64()),
    ("change", pa.string()),
]
_TAIL: list[tuple[str, pa.DataType]] = [
    ("raw", pa.string()),
    ("revision", pa.int64()),
    ("digest", pa.string()),
]


@dataclass(frozen=True)
class Table:
    """A versioned table: a row's key is the feed and `key`."""

    name: str
    key: tuple[str, ...]
    schema: pa.Schema


INSTRUMENTS = Table(
    "instruments",
    ("symbol",),
    pa.schema(
        [
            *_COMMON,
            ("status", pa.string()),
            ("kind", pa.string()),
            ("series", pa.list_(pa.string())),
            ("base", pa.string()),
            ("quote", pa.string()),
            ("event", pa.string()),
            ("title", pa.string()),
            ("tick_size", _DECIMAL),
            ("lot_size", _DECIMAL),
            ("contract_size", _DECIMAL),
            ("strike", _DECIMAL),
            ("ts_open", pa.int64()),
            ("ts_close", pa.int64()),
            ("ts_expiry", pa.int64()),
            ("ts_settled", pa.int64()),
            ("settlement_value", _DECIMAL),
            *_TAIL,
        ]
    ),
)
FEES = Table(
    "fees",
    ("symbol", "of", "volume", "since"),
    pa.schema(
        [
            *_COMMON,
            ("of", pa.string()),
            ("volume", _DECIMAL),
            ("maker", _DECIMAL),
            ("taker", _DECIMAL),
            ("basis", pa.string()),
            ("since", pa.int64()),
            *_TAIL,
        ]
    ),
)
TABLES = (INSTRUMENTS, FEES)


class VersionFile(msgspec.Struct, frozen=True):
    """Rows of the revisions up to `last`; `tier` is how often they were merged."""

    path: str  # relative to the lake
    rows: int  # in it
    bytes: int  # of the file
    sha256: str  # of the file
    first: int  # revision of which it has rows
    last: int  # revision of which it has rows
    tier: int = 0  # how often its rows were merged


class Merged(msgspec.Struct, frozen=True):
    """A file whose rows are in another one since a time (ns)."""

    path: str  # relative to the lake
    at_ns: int  # when its rows were in another file


class Manifest(msgspec.Struct, frozen=True):
    """A feed's versions: the files in the order of time, and when the venue was asked last (ns)."""

    table: str  # instruments or fees
    feed: str  # as in feeds/
    revision: int = 0  # of the rows: a sync that finds nothing new leaves it
    files: list[VersionFile] = []  # in the order of time
    synced_ns: int = 0  # when the venue was asked last
    whole_ns: int = 0  # the last time that everything was read
    full_ns: int = 0  # and with all that is not open any more
    announced: int = 0  # revisions up to this one were published as changes
    merged: list[Merged] = []  # files that readers who began before may still have in hand
    format: int = FORMAT  # of this file
    software: str = ""  # that wrote it


Key = tuple[Any, ...]


class Known(NamedTuple):
    """The latest version of a key, as far as a sync needs it; `also` are the columns that were asked for."""

    digest: str
    valid_from: int
    change: str
    also: tuple[Any, ...] = ()


def folder(table: Table, feed: str) -> Path:
    """Where a feed's versions are, relative to the lake."""
    return Path(table.name) / f"feed={feed}"


def manifest_path(lake: Path, table: Table, feed: str) -> Path:
    """Where a feed's manifest is."""
    return lake / folder(table, feed) / "manifest.json"


def file_path(table: Table, feed: str, last: int, sha256: str) -> Path:
    """Where rows up to revision `last` are, relative to the lake: other bytes would have another name."""
    return folder(table, feed) / f"{table.name}_{last:06d}.{sha256[:12]}.parquet"


def load(lake: Path, table: Table, feed: str) -> Manifest:
    """A feed's manifest; an empty one where nothing was synced yet. Raises Permanent if it is damaged or newer."""
    path = manifest_path(lake, table, feed)
    try:
        manifest = checked_json.decode(path.read_bytes(), Manifest)
    except FileNotFoundError:
        return Manifest(table.name, feed)
    except msgspec.DecodeError as e:
        raise Permanent(f"{path} is damaged ({e}): restore it from a copy, its files are whole") from e
    if manifest.format > FORMAT:
        raise NewerFormat(f"{path} has format {manifest.format}, this ssmd reads up to {FORMAT}: upgrade ssmd")
    return manifest


def manifests(lake: Path, table: Table) -> list[Manifest]:
    """Those of every feed that was ever synced."""
    found = sorted(lake.glob(f"{table.name}/feed=*/manifest.json"))
    return [load(lake, table, path.parent.name.removeprefix("feed=")) for path in found]


def digest(described: object) -> str:
    """What tells versions apart: equal for equal JSON, whatever the order of its keys."""
    return hashlib.sha256(msgspec.json.encode(described, order="sorted")).hexdigest()[:16]


def known(lake: Path, table: Table, manifest: Manifest, also: Sequence[str] = ()) -> dict[Key, Known]:
    """The latest version of every key, also of what is listed no more."""
    columns = [*table.key, "digest", "valid_from", "change", *also]
    width = len(table.key)
    found: dict[Key, Known] = {}
    for file in manifest.files:
        rows = _read(lake, file, columns).to_pydict()
        for values in zip(*(rows[c] for c in columns), strict=True):
            told, since, change, *more = values[width:]
            found[values[:width]] = Known(told, since, change, tuple(more))
    return found


def latest(lake: Path, table: Table, manifest: Manifest, symbols: set[str] | None = None) -> dict[Key, dict[str, Any]]:
    """The latest rows, whole; with `symbols` only those of them."""
    found: dict[Key, dict[str, Any]] = {}
    wanted = None if symbols is None else pa.array(sorted(symbols), pa.string())
    for file in manifest.files:
        rows = _read(lake, file)
        if wanted is not None:
            rows = rows.filter(pc.is_in(rows["symbol"], value_set=wanted))
        for row in rows.to_pylist():
            found[tuple(row[k] for k in table.key)] = row
    return found


def of_revisions(
    lake: Path, table: Table, manifest: Manifest, first: int, last: int, columns: Sequence[str]
) -> list[dict[str, Any]]:
    """The rows that came with these revisions, both included; of their columns these."""
    found: list[dict[str, Any]] = []
    for file in manifest.files:
        if file.first <= last and file.last >= first:
            rows = _read(lake, file, [*columns, "revision"]).filter(
                (pc.field("revision") >= first) & (pc.field("revision") <= last)
            )
            found += rows.to_pylist()
    return found


def made(table: Table, before: Manifest, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """New versions, as they are to be added to those of `before`."""
    own = {"feed": before.feed, "revision": before.revision + 1}
    return pa.Table.from_pylist([{**row, **own} for row in rows], schema=table.schema)


def publish(
    lake: Path,
    table: Table,
    before: Manifest,
    rows: Sequence[pa.Table],
    now_ns: int,
    *,
    whole: bool,
    full: bool,
) -> Manifest:
    """Add the rows of a sync (see `made`); `before` is the manifest that they were compared with.

    Who publishes holds the folder's lock (see `lock`), so `before` is still the newest.
    """
    root = lake / folder(table, before.feed)
    durable.make_folder(root)
    files, merged, revision = list(before.files), list(before.merged), before.revision
    if rows:
        revision += 1
        content = _sorted(table, pa.concat_tables(rows))
        files.append(_write(lake, table, before.feed, content, revision, revision, 0))
        files, gone = _merge(lake, table, before.feed, files)
        merged += [Merged(path, now_ns) for path in gone]
    old = [m for m in merged if m.at_ns + KEEP_MERGED_NS < now_ns]
    after = msgspec.structs.replace(
        before,
        revision=revision,
        files=files,
        synced_ns=now_ns,
        whole_ns=now_ns if whole else before.whole_ns,
        full_ns=now_ns if whole and full else before.full_ns,
        merged=[m for m in merged if m not in old],
        software=__version__,
    )
    durable.replace(manifest_path(lake, table, before.feed), checked_json.encode(after, indent=1))
    for one in old:
        durable.remove(lake / one.path)
    return after


def announced(lake: Path, table: Table, manifest: Manifest, revision: int) -> None:
    """Remember that the changes up to a revision were published; who says so holds the folder's lock."""
    after = msgspec.structs.replace(manifest, announced=revision)
    durable.replace(manifest_path(lake, table, manifest.feed), checked_json.encode(after, indent=1))


def lock(lake: Path, table: Table, feed: str, owner: str) -> durable.Lock:
    """Only one sync of a feed at a time."""
    root = lake / folder(table, feed)
    durable.make_folder(root)
    return durable.Lock(root, owner)


# --------------------------------------------------------------------------------------------------------- inside


def _merge(lake: Path, table: Table, feed: str, files: list[VersionFile]) -> tuple[list[VersionFile], list[str]]:
    """Make one file of the newest ones of a tier, once there are enough; the files, and the paths no longer needed."""
    gone: list[str] = []
    while len(files) >= MERGE_FILES and len({f.tier for f in files[-MERGE_FILES:]}) == 1:
        some = files[-MERGE_FILES:]
        rows = pa.concat_tables([_read(lake, file) for file in some])
        one = _write(lake, table, feed, _sorted(table, rows), some[0].first, some[-1].last, some[0].tier + 1)
        files = [*files[:-MERGE_FILES], one]
        gone += [file.path for file in some]
    return files, gone


def _sorted(table: Table, rows: pa.Table) -> pa.Table:
    return rows.sort_by([(k, "ascending") for k in (*table.key, "valid_from")])


def _write(lake: Path, table: Table, feed: str, rows: pa.Table, first: int, last: int, tier: int) -> VersionFile:
    made = io.BytesIO()
    pq.write_table(rows, made, compression="zstd", version="2.6", write_page_checksum=True, row_group_size=100_000)
    content = made.getvalue()
    sha256 = hashlib.sha256(content).hexdigest()
    relative = file_path(table, feed, last, sha256)
    durable.replace(lake / relative, content)
    return VersionFile(str(relative), rows.num_rows, len(content), sha256, first, last, tier)


def _read(lake: Path, file: VersionFile, columns: list[str] | None = None) -> pa.Table:
    """A file's rows, once it is what the manifest says. Raises Permanent if not."""
    path = lake / file.path
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise Permanent(f"{path} is missing, though its manifest names it: restore it from a copy") from None
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise Permanent(f"{path} is damaged (its SHA-256 is not what its manifest says): restore it from a copy")
    return pq.read_table(pa.BufferReader(content), columns=columns)
