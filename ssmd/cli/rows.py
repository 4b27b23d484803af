"""Rows on their way out: for the eye, or exact for the next program."""

import csv
import io
import shutil
import tempfile
from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import msgspec

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

WIDTH_ROWS = 1_000  # rows that decide the columns' widths
TERMINAL_ROWS = 1_000
PIECE_CHARS = 1 << 16
NUMERIC = ("DECIMAL", "BIGINT", "INTEGER", "HUGEINT", "DOUBLE", "FLOAT", "SMALLINT", "TINYINT", "UBIGINT", "UINTEGER")
_EXACT = msgspec.json.Encoder(decimal_format="number")


class Interrupted(Exception):
    """The query failed after its first rows; the message is DuckDB's."""


class Rows:
    """An answer's columns, and its rows a batch at a time; the first batch is there already."""

    def __init__(self, relation: "duckdb.DuckDBPyRelation", batch_rows: int) -> None:
        self.names = list(relation.columns)
        self.types = [str(kind) for kind in relation.types]
        self._reader: pa.RecordBatchReader = relation.to_arrow_reader(batch_rows)
        self.schema = self._reader.schema
        self._first = self._next()

    def batches(self) -> Iterator["pa.RecordBatch"]:
        batch = self._first
        while batch is not None:
            yield batch
            batch = self._next()

    def _next(self) -> "pa.RecordBatch | None":
        try:
            return next(self._reader, None)
        except OSError as e:  # what Arrow makes of an error in the query
            raise Interrupted(str(e)) from e

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for batch in self.batches():
            yield from zip(*(_values(column) for column in batch.columns), strict=True)


def _values(column: Any) -> list[Any]:
    """Python values; nanoseconds as text, because a datetime would cut them off."""
    if str(column.type).startswith("timestamp[ns"):
        column = column.cast("string")
    values: list[Any] = column.to_pylist()
    return values


def write(rows: Rows, format_: str, file: BinaryIO, *, terminal: bool) -> None:
    """Write all rows (a terminal is shown the first thousand)."""
    if format_ == "parquet":
        return _parquet(rows, file)
    if format_ == "table" and terminal:
        return _terminal(rows)
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    try:
        for piece in _PIECES[format_](rows):
            text.write(piece)
    finally:
        text.detach()  # the file is its owner's to close
    return None


def _csv(rows: Rows) -> Iterator[str]:
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\n")
    writer.writerow(rows.names)
    for row in rows:
        writer.writerow([_cell(value) for value in row])
        if line.tell() > PIECE_CHARS:
            yield line.getvalue()
            line.seek(0)
            line.truncate()
    yield line.getvalue()


def _json(rows: Rows) -> Iterator[str]:
    yield "["
    separator = "\n"
    for row in _ndjson(rows):
        yield f"{separator}  {row[:-1]}"
        separator = ",\n"
    yield "\n]\n" if separator != "\n" else "]\n"


def _ndjson(rows: Rows) -> Iterator[str]:
    json_columns = {i for i, kind in enumerate(rows.types) if kind == "JSON"}
    for row in rows:
        record = {
            name: msgspec.Raw(value.encode()) if i in json_columns and value is not None else _plain(value)
            for i, (name, value) in enumerate(zip(rows.names, row, strict=True))
        }
        yield _EXACT.encode(record).decode() + "\n"


def _aligned(rows: Rows) -> Iterator[str]:
    """Columns side by side, numbers to the right; widths are those of the first rows."""
    every = iter(rows)
    shown = [[_shown(value) for value in row] for row in islice(every, WIDTH_ROWS)]
    right = [_numeric(kind) for kind in rows.types]
    widths = [max(len(name), *(len(row[i]) for row in shown), 0) for i, name in enumerate(rows.names)]

    def line(cells: list[str]) -> str:
        padded = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True))
        return "  ".join(padded).rstrip() + "\n"

    yield line(rows.names)
    for cells in shown:
        yield line(cells)
    for row in every:
        yield line([_shown(value) for value in row])


def _terminal(rows: Rows) -> None:
    from rich.console import Console  # noqa: PLC0415 - only for the eye
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(header_style="bold")
    for name, kind in zip(rows.names, rows.types, strict=True):
        table.add_column(Text(name), justify="right" if _numeric(kind) else "left", overflow="fold")
    every = iter(rows)
    for row in islice(every, TERMINAL_ROWS):
        table.add_row(*(Text(_shown(value), style="dim" if value is None else "") for value in row))
    console = Console()
    console.print(table)
    if next(every, None) is not None:
        console.print(f"the first {TERMINAL_ROWS:,} rows: add a limit, or --format csv for all", style="dim")


def _parquet(rows: Rows, file: BinaryIO) -> None:
    """As DuckDB has it: every type exact. Written aside first, because Parquet is not written from front to back."""
    import pyarrow.parquet as pq  # noqa: PLC0415

    with tempfile.TemporaryFile() as aside:
        with pq.ParquetWriter(aside, rows.schema, compression="zstd") as writer:
            for batch in rows.batches():
                writer.write_batch(batch)
        aside.seek(0)
        shutil.copyfileobj(aside, file, 4 << 20)


_PIECES = {"csv": _csv, "json": _json, "ndjson": _ndjson, "table": _aligned}


def _numeric(kind: str) -> bool:
    return kind.startswith(NUMERIC)


def _cell(value: Any) -> Any:
    """A CSV field: null is empty, a list or struct is JSON."""
    if isinstance(value, (list, dict)):
        return _EXACT.encode(_plain(value)).decode()
    return _plain(value)


def _shown(value: Any) -> str:
    """For the eye: a decimal without the zeros at its end."""
    if value is None:
        return "NULL"
    if isinstance(value, Decimal):
        return trimmed(value)
    if isinstance(value, list):
        return f"[{', '.join(_shown(v) for v in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{k}: {_shown(v)}' for k, v in value.items())}}}"
    return str(_plain(value))


def trimmed(value: Decimal) -> str:
    """A decimal without the zeros at its end, never in scientific notation."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _plain(value: Any) -> Any:
    """What JSON and CSV can hold without loss."""
    if isinstance(value, (datetime, date, time)):
        return value.isoformat(sep=" ") if isinstance(value, datetime) else value.isoformat()
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, bytes):
        return value.hex()
    if value is None or isinstance(value, (bool, int, float, str, Decimal)):
        return cast(Any, value)
    return str(value)
