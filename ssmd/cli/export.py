"""`ssmd data export`: a table, or a part of it, as one file."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssmd.cli import completing
from ssmd.cli.as_json import AsJson, print_json
from ssmd.cli.printing import size
from ssmd.cli.when import nanoseconds
from ssmd.cli.where import DataPlace, where
from ssmd.errors import Permanent

if TYPE_CHECKING:
    import duckdb

    from ssmd.config import Places

BATCH_ROWS = 100_000
# By the end of the file's name; how DuckDB writes it, None: Arrow's own way.
FORMATS = {
    ".parquet": "FORMAT parquet, COMPRESSION zstd",
    ".csv": "FORMAT csv, HEADER",
    ".csv.gz": "FORMAT csv, HEADER, COMPRESSION gzip",
    ".jsonl": "FORMAT json",
    ".jsonl.gz": "FORMAT json, COMPRESSION gzip",
    ".arrow": None,
}


def export(
    table: Annotated[
        str,
        typer.Argument(
            metavar="TABLE", autocompletion=completing.views, help="A view, as `ssmd data schema` lists them."
        ),
    ],
    to: Annotated[
        Path,
        typer.Option(metavar="FILE", help=f"The file; its name ends in {', '.join(FORMATS)}.", show_default=False),
    ],
    feed: Annotated[
        str | None, typer.Option(autocompletion=completing.feeds, help="Only this feed.", show_default=False)
    ] = None,
    symbol: Annotated[str | None, typer.Option(help="Only this instrument.", show_default=False)] = None,
    start: Annotated[
        str | None, typer.Option(metavar="TIME", help="Received from then on (UTC): 2026-11-20, 2026-11-20T14:30.")
    ] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="Received before then.")] = None,
    where_: Annotated[
        str | None, typer.Option("--where", metavar="SQL", help='A condition, such as "size > 100".')
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse if not all of it is there: name feed, start and end.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there already.")] = False,
    json: AsJson = False,
    data: DataPlace = "data",
) -> None:
    """Write a table, or a part of it, into one file: whole, or not at all.

    Rows come hour by hour, in each by instrument and then by time. Exit code 2 and no file if it is refused.

    \b
    ssmd data export trades --feed kalshi --start 2026-11-20 --end 2026-11-21 --strict --to trades.parquet
    ssmd data export tickers --symbol BTC/USD --where "bid is not null" --to quotes.csv.gz
    """
    from ssmd import durable, views  # noqa: PLC0415

    format_ = next((suffix for suffix in sorted(FORMATS, key=len, reverse=True) if to.name.endswith(suffix)), None)
    if format_ is None:
        raise Permanent(f"cannot tell the format of {to}: end its name in {', '.join(FORMATS)}")
    if table not in views.VIEWS:
        raise Permanent(f"there is no view {table}: there are {', '.join(views.VIEWS)}")
    if not to.parent.is_dir():
        raise Permanent(f"cannot write {to}: there is no folder {to.parent}")
    if to.exists() and not force:
        raise Permanent(f"{to} is there already: name another file, or replace it with --force")
    from ssmd.cli.query import errors, refusal  # noqa: PLC0415

    start_ns = None if start is None else nanoseconds(start, "--start")
    end_ns = None if end is None else nanoseconds(end, "--end")
    if start_ns is not None and end_ns is not None and end_ns <= start_ns:
        raise Permanent(f"--end {end} is not after --start {start}: swap them")
    places = where(data)
    select = _select(table, feed, symbol, start_ns, end_ns, where_)
    if strict:
        _refuse_missing(places, table, feed, symbol, start_ns, end_ns)
    rows = 0

    def write(aside: Path) -> None:
        nonlocal rows
        rows = _write(places, select, aside, FORMATS[format_], to.name, nested_as_json=format_.startswith(".csv"))

    try:
        durable.write_by_name(to, write, over=force)
    except FileExistsError:
        raise Permanent(f"{to} has come into being meanwhile: name another file, or replace it with --force") from None
    except errors() as e:
        raise refusal(e) from e
    except KeyboardInterrupt:
        typer.echo(f"interrupted: {to} was not written", err=True)
        raise
    count = to.stat().st_size
    if json:
        print_json({"file": str(to), "table": table, "rows": rows, "bytes": count})
        return

    typer.echo(f"{to}: {rows:,} row{'s' * (rows != 1)} of {table}, {size(count)}")


def _select(
    table: str, feed: str | None, symbol: str | None, start_ns: int | None, end_ns: int | None, condition: str | None
) -> str:
    """The rows in SQL. Raises Permanent if the view has no such column."""
    from datetime import UTC, datetime  # noqa: PLC0415

    from ssmd import views  # noqa: PLC0415

    def day(ns: int) -> str:
        return f"DATE '{datetime.fromtimestamp(ns // 1_000_000_000, UTC):%Y-%m-%d}'"

    wanted: list[tuple[str, str, str]] = []  # option, column, condition
    if feed is not None:
        wanted.append(("--feed", "feed", f"feed = {_text(feed)}"))
    if symbol is not None:
        wanted.append(("--symbol", "symbol", f"symbol = {_text(symbol)}"))
    if start_ns is not None:  # `date` is in the files' names: by it those of other days are not opened
        wanted.append(("--start", "ts_recv", f"ts_recv >= {start_ns} AND date >= {day(start_ns)}"))
    if end_ns is not None:
        wanted.append(("--end", "ts_recv", f"ts_recv < {end_ns} AND date <= {day(end_ns)}"))
    for option, column, _ in wanted:
        if column not in views.VIEWS[table].columns:
            raise Permanent(f"{option}: {table} has no column {column}: leave it out, or use --where")
    conditions = [f"({sql})" for _, _, sql in wanted] + ([f"({condition}\n)"] if condition else [])
    return f'FROM "{table}"' + (f" WHERE {' AND '.join(conditions)}" if conditions else "")


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _refuse_missing(
    places: "Places", table: str, feed: str | None, symbol: str | None, start_ns: int | None, end_ns: int | None
) -> None:
    """Raises Permanent, with what is missing, unless all of the part is there."""
    if feed is None or start_ns is None or end_ns is None:
        raise Permanent("--strict needs to know what is to be whole: give --feed, --start and --end")
    from ssmd import lake  # noqa: PLC0415

    with lake.open(places) as opened:
        opened.check_whole(table, feed=feed, symbols=symbol, start=start_ns, end=end_ns)


def _write(places: "Places", select: str, file: Path, how: str | None, told: str, *, nested_as_json: bool) -> int:
    """The rows, into a file; how many they are."""
    from ssmd import lake  # noqa: PLC0415
    from ssmd.cli.watched import watched  # noqa: PLC0415

    with lake.connect(places) as connection:
        work: Callable[[], int]
        if how is None:

            def work() -> int:
                return _arrow(connection.sql(f"SELECT * {select}"), file)
        else:
            columns = _columns(connection, select) if nested_as_json else "*"
            copy = f"COPY (SELECT {columns} {select}) TO {_text(str(file))} ({how})"

            def work() -> int:
                return int(connection.execute(copy).fetchall()[0][0])

        return watched(connection, work, f"writing {told}")


def _columns(connection: "duckdb.DuckDBPyConnection", select: str) -> str:
    """All columns, with lists and structs as JSON, which other programs can read in a CSV."""
    rows = connection.execute(f"DESCRIBE SELECT * {select}").fetchall()
    nested = [
        f'to_json("{name}") AS "{name}"' for name, kind, *_ in rows if kind.endswith("]") or kind.startswith("STRUCT")
    ]
    return f"* REPLACE ({', '.join(nested)})" if nested else "*"


def _arrow(relation: "duckdb.DuckDBPyRelation", file: Path) -> int:
    import pyarrow as pa  # noqa: PLC0415

    from ssmd.cli.rows import Rows  # noqa: PLC0415

    rows = Rows(relation, BATCH_ROWS)
    count = 0
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
        for batch in rows.batches():
            writer.write_batch(batch)
            count += batch.num_rows
    return count
