"""The macros of a lake's connection: SQL in books.sql and trades.sql, and the few loops that SQL has no words for."""

import atexit
import weakref
from bisect import bisect_left
from pathlib import Path

import duckdb

_made: "weakref.WeakSet[duckdb.DuckDBPyConnection]" = weakref.WeakSet()


@atexit.register
def _close() -> None:
    """A connection that still has a function of Python's when Python ends complains on standard error."""
    for connection in list(_made):
        connection.close()


def make(connection: duckdb.DuckDBPyConnection) -> None:
    """All of them, over all views."""
    make_books(connection)
    connection.execute(_sql("trades.sql"))


def make_books(connection: duckdb.DuckDBPyConnection) -> None:
    """Those about books, over `book_snapshots`, `book_deltas`, `sessions` and `gaps`."""
    connection.create_function("standing_of", cut, ["BIGINT[]", "BIGINT[]", "INTEGER"], "BIGINT[]")
    connection.create_function("best_of", best, ["BIGINT[]", "BIGINT[]", "INTEGER"], "BIGINT[]")
    _made.add(connection)
    connection.execute(_sql("books.sql"))


def _sql(name: str) -> str:
    return Path(__file__).with_name(name).read_text()


def cut(changes: list[int], frames: list[int], depth: int) -> list[int]:
    """Which levels are left of a side's history, best first, if it is cut to its depth after each frame.

    A change is a level's rank, from 1, negative if it deletes; `frames` says which changes came together.
    """
    side: list[int] = []
    frame_before = 0
    for change, frame in zip(changes, frames, strict=True):
        if frame != frame_before:
            del side[depth:]
            frame_before = frame
        _change(side, change)
    return side[:depth]


def best(changes: list[int | None], frames: list[int], depth: int) -> list[int | None]:
    """After each change, the place (from 1) of the one that said what stands at the best level; None if nothing does.

    Changes of the other side are None. Depth 0 is no depth.
    """
    side: list[int] = []
    said: dict[int, int] = {}
    found: list[int | None] = []
    frame_before = 0
    for place, (change, frame) in enumerate(zip(changes, frames, strict=True), 1):
        if depth and frame != frame_before:
            del side[depth:]
            frame_before = frame
        if change is not None:
            said[abs(change)] = place
            _change(side, change)
        found.append(said[side[0]] if side else None)
    return found


def _change(side: list[int], change: int) -> None:
    rank = abs(change)
    at = bisect_left(side, rank)
    there = at < len(side) and side[at] == rank
    if change > 0 and not there:
        side.insert(at, rank)
    elif there and change < 0:
        del side[at]
