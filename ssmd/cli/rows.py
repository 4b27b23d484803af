"""Rows on their way out: for the eye, or exact for the next program."""

import csv
import io
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

import msgspec

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

WIDTH_ROWS = 1_000  # rows that decide the columns' widths
TERMINAL_ROWS = 1_000
CUT_CHARACTERS_MIN = 12  # of a text that is cut; numbers never are
BETWEEN = 3  # characters that a column takes beside its own
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
        return Shown(rows, TERMINAL_ROWS).print("add a limit, name columns, or --format csv for all")
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


class Shown:
    """The first rows as a table that a terminal has room for: what is too wide is cut, and it says so."""

    def __init__(self, rows: Rows, rows_max: int) -> None:
        every = iter(rows)
        self.names = rows.names
        self._right = [_numeric(kind) for kind in rows.types]
        self._rows = list(islice(every, rows_max))
        self._more = next(every, None) is not None

    def print(self, hint: str) -> None:
        """The table, and below it what was left out; `hint` says how to see it."""
        from rich.console import Console  # noqa: PLC0415 - only for the eye
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        console = Console()
        cells = [[Text(" ".join(_shown(v).split("\n")), "dim" if v is None else "") for v in row] for row in self._rows]
        natural = [max(len(name), *(row[i].cell_len for row in cells), 1) for i, name in enumerate(self.names)]
        least = [w if right else min(w, CUT_CHARACTERS_MIN) for w, right in zip(natural, self._right, strict=True)]
        widths = fitted(natural, least, console.width)
        table = Table(header_style="bold")
        before = -1
        for i, width in widths.items():
            if i > before + 1:
                table.add_column("…", width=1)
            justify: Literal["left", "right"] = "right" if self._right[i] else "left"
            table.add_column(Text(self.names[i]), justify=justify, width=width, no_wrap=True, overflow="ellipsis")
            before = i
        for row in cells:
            table.add_row(*row_shown(row, widths))
        console.print(table)
        left_out = []
        if self._more:
            left_out.append(f"more than {len(self._rows):,} rows")
        if len(widths) < len(self.names):
            left_out.append(f"{len(widths)} of {len(self.names)} columns")
        if left_out:
            console.print(f"{', '.join(left_out)}: {hint}", style="dim")


def row_shown(row: Sequence[Any], widths: Mapping[int, int]) -> Iterator[Any]:
    """The cells that there is room for, an ellipsis for those in the middle that there is not."""
    before = -1
    for i in widths:
        if i > before + 1:
            yield "…"
        yield row[i]
        before = i


def fitted(natural: Sequence[int], least: Sequence[int], room: int) -> dict[int, int]:
    """The columns that fit into `room`, and their widths.

    The widest gives way first, down to its `least`; then those in the middle go: the first say which row it is, the
    last what it is about.
    """

    def needed(widths: Mapping[int, int]) -> int:
        return sum(widths.values()) + BETWEEN * len(widths) + 1 + (BETWEEN + 1 if len(widths) < len(natural) else 0)

    shown = dict(enumerate(least))
    while len(shown) > 1 and needed(shown) > room:
        del shown[list(shown)[len(shown) // 2]]
    widths = {i: natural[i] for i in shown}
    spare = needed(widths) - room
    while spare > 0 and (may := [i for i in widths if widths[i] > least[i]]):
        widths[max(may, key=widths.__getitem__)] -= 1
        spare -= 1
    return widths


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
