"""A DuckDB connection with a view for each table, over the files that manifests name."""

import functools
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa

from ssmd import archive, config, moved, tables, versions
from ssmd.config import Precision
from ssmd.errors import Permanent
from ssmd.lake import macros
from ssmd.whole import Named, Whole

VIEWS = (
    "raw",
    *tables.TABLES,
    "coverage",
    "instruments",
    "instrument_versions",
    "fees",
    "fee_versions",
)

Check = Callable[[Iterable[Named]], None]
Where = Callable[[Path], str]  # how DuckDB finds a file

_RAW_COLUMNS = {
    "feed": "VARCHAR",
    "date": "DATE",
    "channel": "VARCHAR",
    "seq": "BIGINT",
    "ts_recv": "BIGINT",
    "conn": "VARCHAR",
    "n": "BIGINT",
    "frame": "JSON",
    "text": "VARCHAR",
    "b64": "VARCHAR",
    "head": "VARCHAR",
    "tail": "VARCHAR",
    "reason": "VARCHAR",
}
_COVERAGE_COLUMNS = {
    "feed": "VARCHAR",
    "date": "DATE",
    "symbol": "VARCHAR",
    "covered_seconds": "DOUBLE",
    "gap_seconds": "DOUBLE",
    "gaps": "BIGINT",
    "condition": "VARCHAR",
}
# What an empty table's decimals look like; a feed's own precision holds as soon as there is a file.
_NO_PRECISION = Precision(price=6, size=2)


def connect(data: str | Path | config.Places = "data", *, verify: bool | None = None) -> duckdb.DuckDBPyConnection:
    """An in-memory connection with the views over a data folder, or over what is published at `s3://bucket/prefix`.

    Of an object store only what a question needs is fetched, and each block compared with its SHA-256 (ssmd.mirror).

    Raises Permanent if the folder or a manifest is damaged or of a newer format. A file that a manifest names but
    that is not there, or not what it was, makes the view that needs it say so, and no other.

    Files are hashed (SHA-256) before they are read, because DuckDB itself would serve flipped bits: by default those
    that are new or have changed since they were last found whole (1.4 GB/s and core, once; then a look at each), with
    `verify=True` all of them, with `verify=False` none (only presence and size are looked at).
    """
    places = places_at(data)
    places.check()
    # All that is needed is built into DuckDB: nothing is ever fetched.
    offline: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    connection = duckdb.connect(config=offline)
    connection.execute("SET TimeZone = 'UTC'")
    whole = Whole(places)
    check: Check = functools.partial(whole.check, hash_=verify is not False, again=verify is True)
    where: Where = _here
    if type(places) is not config.Places:
        check, where = _from_store(connection, places, verify is True)
    else:
        check, where = _with_moved(connection, places, check, verify is True)
    _make_view(connection, "raw", _RAW_COLUMNS, functools.partial(_raw, places.archive, check, where))
    days = list(tables.days(places.lake))
    for table in tables.TABLES:
        files = [(day, file) for day in days for file in day.files if file.table == table]
        _make_view(
            connection, table, _columns(table), functools.partial(_table, table, places.lake, files, check, where)
        )
    _make_view(connection, "coverage", _COVERAGE_COLUMNS, functools.partial(_coverage, places.lake, days))
    _make_versions(connection, versions.INSTRUMENTS, "instrument_versions", places.lake, check, where)
    _make_versions(connection, versions.FEES, "fee_versions", places.lake, check, where)
    whole.save()
    macros.make(connection)
    return connection


def _make_versions(
    connection: duckdb.DuckDBPyConnection, table: versions.Table, name: str, lake: Path, check: Check, where: Where
) -> None:
    """All versions, the latest ones, and those of a time."""
    columns: dict[str, str] = {}
    for f in table.schema:
        if f.name not in {"revision", "digest"}:
            columns[f.name] = _duckdb_type(f.type)
        if f.name == "valid_from":
            columns["valid_to"] = "BIGINT"
    _make_view(connection, name, columns, functools.partial(_versions, table, list(columns), lake, check, where))
    connection.execute(f"CREATE VIEW {table.name} AS SELECT * FROM {name} WHERE valid_to IS NULL")  # noqa: S608
    connection.execute(f"""
        CREATE MACRO {table.name}_as_of(at_ns) AS TABLE
        SELECT * FROM {name} WHERE valid_from <= at_ns AND (valid_to IS NULL OR at_ns < valid_to)
    """)  # noqa: S608 - our own names


def _versions(table: versions.Table, columns: list[str], lake: Path, check: Check, where: Where) -> str | None:
    files = [
        Named(lake / f.path, f.bytes, f.sha256, "restore it from a copy: what it holds cannot be made again")
        for manifest in versions.manifests(lake, table)
        for f in manifest.files
    ]
    if not files:
        return None
    check(files)
    key = ", ".join(f'"{k}"' for k in ("feed", *table.key))
    until = f"lead(valid_from) OVER (PARTITION BY {key} ORDER BY valid_from) AS valid_to"
    chosen = ", ".join(until if column == "valid_to" else f'"{column}"' for column in columns)
    paths = _list(files, where)
    return f"SELECT {chosen} FROM read_parquet({paths}, hive_partitioning = false)"  # noqa: S608 - our own names


def places_at(data: str | Path | config.Places) -> config.Places:
    if isinstance(data, config.Places):
        return data
    if str(data).startswith("s3://"):
        from ssmd import mirror  # noqa: PLC0415 - it, and what it needs, takes 0.4 s to load

        return mirror.at(str(data))
    return config.Places(Path(data))


def _here(path: Path) -> str:
    return str(path.absolute())


def _from_store(connection: duckdb.DuckDBPyConnection, places: config.Places, verify: bool) -> tuple[Check, Where]:
    """How files of an object store are checked and found."""
    from ssmd.mirror import Files, Mirror  # noqa: PLC0415
    from ssmd.mirror import verify as verify_all  # noqa: PLC0415

    assert isinstance(places, Mirror), "only a mirror's files are elsewhere"
    mirror = places
    connection.register_filesystem(Files(mirror.find))

    def check(files: Iterable[Named]) -> None:
        if verify:
            verify_all(mirror.find(mirror.where(file.path)) for file in files)

    return check, mirror.where


def _with_moved(
    connection: duckdb.DuckDBPyConnection, places: config.Places, check: Check, verify: bool
) -> tuple[Check, Where]:
    """How files of a data folder are checked and found of which a store has some."""
    gone = moved.everything(places)
    if not gone:
        return check, _here
    from ssmd import mirror  # noqa: PLC0415

    urls = {url for url, _ in gone.values() if url.startswith("s3://")}
    stores = {url: functools.cache(functools.partial(mirror.open_store, url, places.data)) for url in urls}
    found = {f"{url}/{path}": (stores[url], o) for path, (url, o) in gone.items() if url in urls}
    if found:
        connection.register_filesystem(mirror.Files(found.__getitem__))

    def where(path: Path) -> str:
        name = str(path.relative_to(places.data))
        return f"{gone[name][0]}/{name}" if name in gone else _here(path)

    def look(files: Iterable[Named]) -> None:
        """Those of an S3 are looked at as they are read, or now if that is asked for."""
        placed = [(file, where(file.path)) for file in files]
        if verify:
            mirror.verify(found[at] for _, at in placed if at in found)
        check(msgspec.structs.replace(f, path=Path(at)) for f, at in placed if at not in found)

    return look, where


def _make_view(
    connection: duckdb.DuckDBPyConnection, name: str, columns: dict[str, str], body: Callable[[], str | None]
) -> None:
    """The view; empty where there is nothing, and one that only says what is wrong where a file is."""
    try:
        select = body()
        if select is None:
            nulls = ", ".join(f"NULL::{kind} AS {column}" for column, kind in columns.items())
            select = f"SELECT {nulls} WHERE false"
        connection.execute(f"CREATE VIEW {name} AS {select}")
        return
    except Permanent as e:
        told = str(e)
    except duckdb.Error as e:  # it reads a file to know the columns
        ours = refusal(e)
        if ours is None:
            raise
        told = ours
    # Each column raises, and so does counting rows: no query can take the absence for an empty table.
    wrong = f"error({quoted(told)})"
    raising = ", ".join(f"{wrong}::{kind} AS {column}" for column, kind in columns.items())
    select = f"SELECT {raising} FROM range(1) WHERE {wrong} IS NULL"  # noqa: S608 - our own sentence, quoted
    connection.execute(f"CREATE VIEW {name} AS {select}")


def refusal(error: duckdb.Error) -> str | None:
    """What we said when DuckDB asked for an object's bytes, out of what it made of that; None if it was not us."""
    said = re.search(r"^(?:[\w.]+\.)?(?:Permanent|Transient): (.*)$", str(error), re.MULTILINE)
    return said[1] if said else None


# ------------------------------------------------------------------------------------------------------------- raw


def _raw(root: Path, check: Check, where: Where) -> str | None:
    """Frames verbatim: DuckDB's JSON reader would write numbers and blanks anew, so `frame` is cut from the line."""
    files = []
    for manifest in archive.manifests(root):
        folder = archive.day_folder(root, manifest.feed, manifest.date)
        mend = f"`ssmd verify {manifest.feed} {manifest.date}` says what can mend it"
        files += [Named(folder / s.name, s.bytes, s.sha256, mend) for s in manifest.segments]
    if not files:
        return None
    check(files)
    keys = {name: kind for name, kind in _RAW_COLUMNS.items() if name not in {"feed", "date", "channel", "frame"}}
    shape = ", ".join(f'"{name}":"{kind}"' for name, kind in keys.items())
    # Conditions on feed, date and channel concern the file's name alone, so DuckDB opens only the files they leave.
    return f"""
        SELECT
            path[-3] AS feed,
            path[-2]::DATE AS date,
            regexp_extract(path[-1], '^(.*)_[0-9]+\\.jsonl\\.gz$', 1) AS channel,
            line.seq, line.ts_recv, line.conn, line.n,
            CASE WHEN start > 0 THEN json[start + 8 : -2]::JSON END AS frame,
            line.text, line.b64, coalesce(line.head, '') AS head, coalesce(line.tail, '') AS tail, line.reason
        FROM (
            SELECT
                json,
                parse_path(filename) AS path,
                strpos(json, '"frame":') AS start,
                json_transform(json, '{{{shape}}}') AS line
            FROM read_json_objects(
                {_list(files, where)}, format = 'newline_delimited', compression = 'gzip', filename = true
            )
        )"""  # noqa: S608 - paths that our manifests name, quoted


# ---------------------------------------------------------------------------------------------------------- tables


def _table(
    table: str, lake: Path, named: Iterable[tuple[tables.LakeDay, tables.LakeFile]], check: Check, where: Where
) -> str | None:
    alike: dict[tuple[str, tuple[int, ...], str] | None, list[Named]] = {}
    for day, f in named:
        made_by = None if day.precision is None else (day.feed, day.precision, day.software)
        mend = f"run `ssmd rollup {day.feed} {day.date}` to make it again"
        alike.setdefault(made_by, []).append(Named(lake / f.path, f.bytes, f.sha256, mend))
    if not alike:
        return None
    check([file for some in alike.values() for file in some])
    columns = ", ".join(_columns(table))
    # Of files that are alike DuckDB opens one to know the columns, and then those that conditions on feed and date,
    # which are in the path, leave. To unite what may differ it would open every file of every day for every query.
    parts = [
        f"""
        SELECT {columns}
        FROM read_parquet(
            {_list(some, where)}, union_by_name = {made_by is None},
            hive_partitioning = true, hive_types = {{'feed': VARCHAR, 'date': DATE}}
        )"""  # noqa: S608 - paths that our manifests name, quoted
        for made_by, some in alike.items()
    ]
    # A gap is written when it opens and again when it closes: what counts is the latest of its rows.
    only = "QUALIFY row_number() OVER (PARTITION BY gap ORDER BY ts_recv DESC, n DESC) = 1" if table == "gaps" else ""
    return f"SELECT * FROM ({' UNION ALL '.join(parts)}) {only}"  # noqa: S608 - made of the above


def _coverage(lake: Path, days: Iterable[tables.LakeDay]) -> str | None:
    """The days' own statements, read from their manifests when asked for."""
    paths = [lake / tables.manifest_path(day.feed, day.date) for day in days if day.coverage]
    if not paths:
        return None
    shape = (
        "{feed: 'VARCHAR', date: 'DATE', coverage: 'STRUCT(symbols VARCHAR[], condition VARCHAR, covered_ns BIGINT, "
        "gap_ns MAP(VARCHAR, BIGINT), gaps BIGINT)[]'}"
    )
    size = 2 * max(path.stat().st_size for path in paths)  # a manifest is one JSON object; many symbols make it long
    names = ", ".join(quoted(str(path.absolute())) for path in paths)
    return f"""
        SELECT
            feed, date, unnest(of.symbols) AS symbol,
            of.covered_ns / 1e9 AS covered_seconds,
            coalesce(list_sum(map_values(of.gap_ns)), 0) / 1e9 AS gap_seconds,
            of.gaps, of.condition
        FROM (
            SELECT feed, date, unnest(coverage) AS of
            FROM read_json([{names}], columns = {shape}, format = 'auto', maximum_object_size = {max(size, 16 << 20)})
        )"""  # noqa: S608 - paths of manifests, quoted


def _columns(table: str) -> dict[str, str]:
    """A table's columns and DuckDB types, `date` after `feed`."""
    columns: dict[str, str] = {}
    for f in tables.schema(table, _NO_PRECISION):
        columns[f.name] = _duckdb_type(f.type)
        if f.name == "feed":
            columns["date"] = "DATE"
    return columns


def _duckdb_type(kind: pa.DataType) -> str:
    if isinstance(kind, pa.Decimal128Type):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    if isinstance(kind, pa.ListType):
        return f"{_duckdb_type(kind.value_type)}[]"
    if isinstance(kind, pa.StructType):
        return f"STRUCT({', '.join(f'{f.name} {_duckdb_type(f.type)}' for f in kind)})"
    if pa.types.is_int64(kind):
        return "BIGINT"
    if pa.types.is_int32(kind):
        return "INTEGER"
    return "VARCHAR"


def _list(files: Iterable[Named], where: Where) -> str:
    # DuckDB opens the first to know the columns: rather one that is here.
    places = sorted((where(file.path) for file in files), key=lambda place: place.startswith("s3://"))
    return f"[{', '.join(map(quoted, places))}]"


def quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
