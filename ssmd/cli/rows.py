"""Rows on their way out: for the eye, or exact for the next program."""

import csv
import io
from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Decimal
from itertools import chain, islice
from typing import Any, BinaryIO, Protocol, cast

import msgspec

WIDTH_ROWS = 1_000  # rows that decide the columns' widths; also how many a terminal is shown
TERMINAL_ROWS = 1_000
NUMERIC = ("DECIMAL", "BIGINT", "INTEGER", "HUGEINT", "DOUBLE", "FLOAT", "SMALLINT", "TINYINT", "UBIGINT", "UINTEGER")
_EXACT = msgspec.json.Encoder(decimal_format="number")


class Result(Protocol):
    """What DuckDB's connection offers after `execute`."""

    @property
    def description(self) -> Any: ...
    def fetchmany(self, size: int) -> list[Any]: ...


class Rows:
    """Column names and types, and rows a batch at a time; the first batch is there already."""

    def __init__(self, result: Any, batch_rows: int) -> None:
        self.names: list[str] = [column[0] for column in result.description or []]
        self.types: list[str] = [str(column[1]) for column in result.description or []]
        self._result = result
        self._batch_rows = batch_rows
        self._first: list[tuple[Any, ...]] = result.fetchmany(batch_rows) if self.names else []

    def batches(self) -> Iterator[list[tuple[Any, ...]]]:
        batch = self._first
        while batch:
            yield batch
            batch = self._result.fetchmany(self._batch_rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return chain.from_iterable(self.batches())


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
    for batch in rows.batches():
        writer.writerows([[_cell(value) for value in row] for row in batch])
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
    """As DuckDB has it: every type exact."""
    raise NotImplementedError


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
