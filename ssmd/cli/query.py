"""`ssmd query`: SQL over the archive and the lake."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ssmd.cli.as_json import AsJson
from ssmd.cli.where import DataPlace, where
from ssmd.errors import Permanent

if TYPE_CHECKING:
    import duckdb

    from ssmd.cli.rows import Rows

Format = Literal["table", "csv", "json", "ndjson", "parquet"]
BATCH_ROWS = 10_000


def query(
    sql: Annotated[
        str,
        typer.Argument(
            metavar="SQL",
            help="DuckDB SQL over the views raw, trades, tickers, book_deltas, book_snapshots, status, sessions, gaps, "
            "coverage.",
            show_default=False,
        ),
    ],
    data: DataPlace = "data",
    format_: Annotated[Format, typer.Option("--format", "-f", help="How rows are written.")] = "table",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file to write to, instead of the terminal.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Ask the archive and the lake a question in SQL.

    Example: ssmd query "select symbol, count(*) from trades group by all"
    """
    if not sql.strip():
        raise Permanent('there is no SQL to run: try `ssmd query "from trades limit 5"`')
    if json and format_ not in {"table", "json"}:
        raise Permanent(f"--json --format {format_}: choose one of them")
    format_ = "json" if json else format_
    if format_ == "parquet" and output is None and sys.stdout.isatty():
        raise Permanent("parquet is not for the eye: name a file with --output, or pipe it on")
    if not data.startswith("s3://") and not Path(data).is_dir():
        raise Permanent(f"there is no data folder {data}: name it with --data, or make it with `ssmd up`")
    from ssmd import lake  # noqa: PLC0415 - DuckDB and Arrow take 0.2 s to load
    from ssmd.cli import rows  # noqa: PLC0415
    from ssmd.cli.watched import watched  # noqa: PLC0415

    with lake.connect(where(data)) as connection:
        try:
            answer = watched(connection, lambda: run(connection, sql))
            if answer is None:
                return  # a statement without rows, such as SET
            if output is None:
                rows.write(answer, format_, sys.stdout.buffer, terminal=sys.stdout.isatty())
            else:
                _into(output, answer, format_)
        except errors() as e:
            raise refusal(e) from e


def run(connection: "duckdb.DuckDBPyConnection", sql: str) -> "Rows | None":
    from ssmd.cli import rows  # noqa: PLC0415

    relation = connection.sql(sql)
    return None if relation is None else rows.Rows(relation, BATCH_ROWS)


def _into(output: Path, answer: "Rows", format_: Format) -> None:
    """Write a whole file or none."""
    from ssmd import durable  # noqa: PLC0415
    from ssmd.cli import rows  # noqa: PLC0415

    if not output.parent.is_dir():
        raise Permanent(f"cannot write {output}: there is no folder {output.parent}")
    durable.replace_by(output, lambda file: rows.write(answer, format_, file, terminal=False))


def errors() -> tuple[type[Exception], ...]:
    import duckdb  # noqa: PLC0415

    from ssmd.cli import rows  # noqa: PLC0415

    return duckdb.Error, rows.Interrupted


def refusal(error: Exception) -> Permanent:
    """DuckDB's error as one sentence, with its hint, or with the view that was meant."""
    import difflib  # noqa: PLC0415
    import re  # noqa: PLC0415

    import duckdb  # noqa: PLC0415

    from ssmd import lake  # noqa: PLC0415

    said = str(error)
    told = lake.refusal(error) if isinstance(error, duckdb.Error) else None
    if told is not None:
        return Permanent(told)
    missing = re.search(r"Table with name (\S+) does not exist", said)
    if missing:
        near = difflib.get_close_matches(missing[1].lower(), lake.VIEWS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        return Permanent(f"there is no view {missing[1]}: {hint}there are {', '.join(lake.VIEWS)}")
    ours = re.fullmatch(r"Invalid Input Error: (.*)", said, re.DOTALL)
    sentence, _, place = said.partition("\nLINE ")
    sentence = " ".join((ours[1] if ours else sentence).split())
    where = f" (at: {' '.join(place.splitlines()[0].partition(': ')[2].split())})" if place else ""
    return Permanent(f"{sentence}{where}")
