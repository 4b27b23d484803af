"""A table's rows of one hour, brought into the table's order within a bounded memory.

Rows wait in memory; when there are too many they are sorted and written aside as a run, and in the end the runs are
merged. Symbols and connections are codes meanwhile, by order of appearance: their places in the alphabet are known
only when all of them are.
"""

import contextlib
import tempfile
from bisect import bisect_right
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from ssmd import durable, tables

RUN_BYTES = 1 << 20  # of a run that are in memory while it is merged

_Ranks = dict[str, Any]  # column -> for each of its codes, the place of what it stands for in the alphabet


class _Codes(dict[str, int]):
    """Numbers for strings, by order of appearance."""

    def __missing__(self, key: str) -> int:
        self[key] = code = len(self)
        return code


class Spool:
    """Rows in, in any order; out again by `tables.SORT`, a key that no two of them share."""

    def __init__(self, schema: pa.Schema, feed: str, folder: Path) -> None:
        self.held_bytes = 0  # of rows in memory
        self._schema = schema
        self._feed = feed
        self._folder = folder
        self._codes = {"symbol": _Codes(), "conn": _Codes()}
        self._held: list[pa.RecordBatch] = []
        self._runs: list[IO[bytes]] = []
        self._files = contextlib.ExitStack()

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def append(self, rows: pa.RecordBatch) -> None:
        """Take rows as `columns.batch` makes them."""
        for name, codes in self._codes.items():
            place = rows.schema.get_field_index(name)
            rows = rows.set_column(place, name, _coded(rows.column(place), codes))
        self._held.append(rows)
        self.held_bytes += rows.nbytes

    def spill(self) -> None:
        """Write what is held aside, as a run."""
        rows = self._sorted(self._taken(), self._ranks())
        try:
            file = self._files.enter_context(tempfile.TemporaryFile(dir=self._folder))  # noqa: SIM115  # it is in one
            with pa.ipc.new_stream(cast(Any, file), rows.schema) as writer:
                writer.write_table(rows, max_chunksize=max(1, RUN_BYTES * rows.num_rows // rows.nbytes))
            file.seek(0)
        except OSError as e:
            raise durable.DiskFailed(self._folder, e) from e
        self._runs.append(file)

    def row_groups(self, rows_max: int) -> Iterator[pa.Table]:
        """All rows in order, as the table has them, in pieces of exactly `rows_max` (the last may be smaller)."""
        ranks = self._ranks()
        rest: pa.Table | None = None
        for some in self._all_sorted(ranks):
            rows = some if rest is None else pa.concat_tables([rest, some])
            while rows.num_rows >= rows_max:
                yield self._finished(rows.slice(0, rows_max), ranks)
                rows = rows.slice(rows_max)
            rest = rows
        if rest is not None and rest.num_rows:
            yield self._finished(rest, ranks)

    def _all_sorted(self, ranks: _Ranks) -> Iterator[pa.Table]:
        if self._runs:
            if self._held:
                self.spill()
            yield from self._merged(ranks)
        elif self._held:
            yield self._sorted(self._taken(), ranks)

    def _merged(self, ranks: _Ranks) -> Iterator[pa.Table]:
        """Each time the rows that come before whatever the runs have not shown yet."""
        places = {name: rank.to_pylist() for name, rank in ranks.items()}

        def key(rows: pa.Table, i: int) -> list[int | None]:
            """Comparable, for where a symbol is null it is so in the whole table."""
            values = ((name, cast(Any, rows[name][i]).as_py()) for name in tables.SORT)
            return [v if v is None or name not in places else places[name][v] for name, v in values]

        runs = [_parts(file) for file in self._runs]
        heads = [(next(run), run) for run in runs]
        while heads:
            end = min(key(rows, rows.num_rows - 1) for rows, _ in heads)
            first, later = [], []
            for rows, run in heads:
                count = bisect_right(range(rows.num_rows), end, key=partial(key, rows))
                first.append(rows.slice(0, count))
                rest = rows.slice(count) if count < rows.num_rows else next(run, None)
                if rest is not None:
                    later.append((rest, run))
            heads = later
            yield self._sorted(pa.concat_tables(first), ranks)

    def _taken(self) -> pa.Table:
        held, self._held, self.held_bytes = self._held, [], 0
        return pa.Table.from_batches(held)

    def _ranks(self) -> _Ranks:
        """By what is known so far: among themselves they keep their order when more becomes known."""
        ranks = {}
        for name, codes in self._codes.items():
            place = {s: i for i, s in enumerate(sorted(codes))}
            ranks[name] = pa.array([place[s] for s in codes], pa.int32())
        return ranks

    def _sorted(self, rows: pa.Table, ranks: _Ranks) -> pa.Table:
        rows = rows.combine_chunks()
        keys = {name: ranks[name].take(rows[name]) if name in ranks else rows[name] for name in tables.SORT}
        if _in_order_of_time(rows):
            keys = {"symbol": keys["symbol"]}  # the sort is stable: a tenth of the time
        return rows.take(pc.sort_indices(pa.table(keys), sort_keys=[(name, "ascending") for name in keys]))

    def _finished(self, rows: pa.Table, ranks: _Ranks) -> pa.Table:
        """Codes become the dictionaries that the schema promises."""
        rows = rows.combine_chunks()  # where one piece ends and the next begins must not show in the file
        columns: list[Any] = []
        for name in self._schema.names:
            if name == "feed":
                zeros = pa.repeat(pa.scalar(0, pa.int32()), rows.num_rows)
                columns.append(pa.DictionaryArray.from_arrays(zeros, pa.array([self._feed])))
            elif name in ranks:
                places = ranks[name].take(rows[name].combine_chunks())
                columns.append(_dictionary(places, sorted(self._codes[name])))
            else:
                columns.append(rows[name])
        return pa.table(columns, schema=self._schema)


def _coded(names: Any, codes: _Codes) -> Any:
    """A dictionary column with our codes for its names."""
    return pa.array([codes[name] for name in names.dictionary.to_pylist()], pa.int32()).take(names.indices)


def _in_order_of_time(rows: pa.Table) -> bool:
    """Whether they are rows of one connection in the order in which it had them."""
    before, after = rows.slice(0, rows.num_rows - 1), rows.slice(1)
    later_frame = pc.less(before["n"], after["n"])
    later_item = pc.and_(pc.equal(before["n"], after["n"]), pc.less(before["item"], after["item"]))
    ordered = (
        pc.equal(before["conn"], after["conn"]),
        pc.less_equal(before["ts_recv"], after["ts_recv"]),
        pc.or_(later_frame, later_item),
    )
    return all(pc.all(some, min_count=0).as_py() for some in ordered)


def _parts(run: IO[bytes]) -> Iterator[pa.Table]:
    for part in pa.ipc.open_stream(cast(Any, run)):
        yield pa.Table.from_batches([part])


def _dictionary(places: Any, names: list[str]) -> Any:
    """Places in `names` as a dictionary column; in sorted rows they are a range, so that few names are idle."""
    low, high = (x.as_py() for x in pc.min_max(places).values())
    if low is None:
        return pa.DictionaryArray.from_arrays(places, pa.array([], pa.string()))
    return pa.DictionaryArray.from_arrays(pc.subtract(places, low), pa.array(names[low : high + 1], pa.string()))
