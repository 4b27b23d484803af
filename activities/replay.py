"""One hour of archived frames, replayed through the venue's own grammar into Parquet files.

Pure CPU and files, made to run in a process of its own. The same frames always give the same bytes: rows are sorted
by a key that no two rows share, row groups have a fixed size, and nothing in a file tells when or where it was made.

Memory stays bounded: lines are read a few MB at a time, rows wait as Arrow batches in an unlinked file, and are
sorted a group of symbols at a time.
"""

import contextlib
import importlib
import mmap
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple, cast

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from isal import igzip

from activities.processes import Board
from exchanges.port import EventGrammar, Subscription, Unparsable, Venue
from ssmd import __version__, archive, durable, frames, jobs, tables
from ssmd.clock import DAY_NS
from ssmd.config import Precision
from ssmd.errors import Permanent, Transient
from ssmd.events import BookDelta, BookSnapshot, Event, Gap, Session, Status, Ticker, Trade

HOUR_NS = DAY_NS // 24
READ_BYTES = 4 << 20  # of raw lines at a time: about 12,000 Kalshi frames, 60 ms of work between looks at the board
ROW_GROUP_ROWS = 128 << 10  # near DuckDB's own 122,880: one row group is one thread's work there
SORT_ROWS = 2_000_000  # at about 100 bytes a row, what one sort may hold; one symbol may exceed it alone
REASONS_MAX = 100  # distinct reasons counted by name: the answer travels through Temporal and must stay small
REASON_CHARS_MAX = 200
UNFIT_SHARE_MAX = 0.01  # of an hour's frames: a few are the venue's garbage, more are a venue that changed

_INT64 = range(-(2**63), 2**63)
_PLAIN_DECIMAL = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


@dataclass(frozen=True)
class HourTask:
    """What to replay, and where the files go."""

    archive: Path
    lake: Path
    feed: str
    venue: str
    date: str
    day_start_ns: int
    hour: int
    precision: Precision
    segments: list[tuple[str, str, str]]  # name, channel, sha256
    read_bytes: int = READ_BYTES
    sort_rows: int = SORT_ROWS

    @property
    def inputs(self) -> str:
        return tables.inputs_key(self.precision, [(name, sha) for name, _, sha in self.segments], __version__)


@dataclass
class Tally:
    """What became of the frames; `settle` makes sure that nothing became of none of them."""

    frames: int = 0
    with_events: int = 0
    control: int = 0
    quarantined: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Tally") -> None:
        self.frames += other.frames
        self.with_events += other.with_events
        self.control += other.control
        self.events.update(other.events)
        for reason, count in other.quarantined.items():
            known = reason in self.quarantined or len(self.quarantined) < REASONS_MAX
            self.quarantined[reason if known else "other reasons"] += count

    def settle(self, where: str, rows: dict[str, int]) -> None:
        """Raise Permanent unless every frame is accounted for and every event is a row."""
        quarantined = sum(self.quarantined.values())
        if self.frames != self.with_events + self.control + quarantined:
            raise Permanent(
                f"{where}: {self.frames} frames were read, but {self.with_events} had events, {self.control} were "
                f"control and {quarantined} quarantined: this is a fault in ssmd, please report it"
            )
        if dict(self.events) != rows:
            raise Permanent(
                f"{where}: the frames hold events {dict(self.events)}, but the files rows {rows}: "
                "this is a fault in ssmd, please report it"
            )


def replay_hour(task: HourTask, board_path: Path) -> jobs.RolledHour:
    """Replay one hour into the lake's files. Raises Permanent, Transient or Stopped."""
    try:
        with contextlib.closing(Board(board_path)) as board:
            return _replay_hour(task, board)
    except durable.DiskFailed as e:
        raise Transient(str(e)) from None  # it must be picklable on its way to the parent


def _replay_hour(task: HourTask, board: Board) -> jobs.RolledHour:
    where = f"{task.feed} {task.date} {task.hour:02d}:00"
    venue: Venue = importlib.import_module(f"exchanges.{task.venue}").venue
    folder = archive.day_folder(task.archive, task.feed, task.date)
    start = task.day_start_ns + task.hour * HOUR_NS
    durable.make_folder(task.lake)
    with contextlib.ExitStack() as stack:
        hour = _Hour(task, venue, stack)
        read = 0
        for name, channel, _ in task.segments:
            for lines in read_lines(folder / name, task.read_bytes):
                read += len(lines)
                hour.take(channel, [x for x in lines if start <= x.ts_recv < start + HOUR_NS], name)
                board.tell(read)
        parts = [part for spool in hour.spools.values() if (part := _write(task, spool, lambda: board.tell(read)))]
    hour.judge()
    tally = hour.tally
    tally.settle(where, {part.table: part.rows for part in parts})
    return jobs.RolledHour(
        hour=task.hour,
        frames=tally.frames,
        with_events=tally.with_events,
        control=tally.control,
        quarantined=dict(sorted(tally.quarantined.items())),
        events=dict(sorted(tally.events.items())),
        parts=parts,
    )


def read_lines(path: Path, read_bytes: int = READ_BYTES) -> Iterator[list[frames.Line]]:
    """A segment's lines, some MB at a time. Raises Permanent if it is damaged."""
    try:
        with igzip.open(path, "rb") as file:  # type: ignore[no-untyped-call]
            rest = b""
            while block := file.read(read_bytes):
                end = block.rfind(b"\n") + 1
                if not end:
                    rest += block
                    continue
                yield frames.parse_lines(rest + block[:end])
                rest = block[end:]
            if rest:
                yield frames.parse_lines(rest)
    except archive.DAMAGE as e:
        raise Permanent(f"{path} is damaged ({e}): run `ssmd verify` on that day") from e


# -------------------------------------------------------------------------------------------------- frames to rows


class _Row(NamedTuple):
    line: frames.Line
    item: int
    event: Any


class _Refused(Exception):
    """Values that no column can hold, by the (conn, n) of their frames."""

    def __init__(self, reasons: dict[tuple[str, int], str]) -> None:
        self.reasons = reasons


class _Codes(dict[str, int]):
    """Numbers for strings, in order of appearance."""

    def __missing__(self, key: str) -> int:
        self[key] = code = len(self)
        return code


class _Hour:
    """The replay of one hour: lines in, counted rows out into spools."""

    def __init__(self, task: HourTask, venue: Venue, stack: contextlib.ExitStack) -> None:
        self._task = task
        self._venue = venue
        self._grammar = venue.events(task.date)
        self.tally = Tally()
        self._unfit_count = 0
        self._unfit_first = ""
        self.spools = {
            table: stack.enter_context(_Spool(table, tables.schema(table, task.precision), task.lake, task.sort_rows))
            for table in tables.TABLES
        }

    def take(self, channel: str, lines: list[frames.Line], segment: str) -> None:
        """Replay some lines of one channel."""
        refused: dict[tuple[str, int], str] = {}
        while True:
            tally, rows = self._replay(channel, lines, refused, segment)
            try:
                batches = [(table, self.spools[table].batch(some)) for table, some in rows.items() if some]
                break
            except (pa.ArrowInvalid, OverflowError):
                found = self._unfit(rows, segment)
                if not found:
                    raise
                refused |= found
        for table, batch in batches:
            tally.events[table] += batch.num_rows
            self.spools[table].append(batch)
        self.tally.add(tally)

    def _replay(
        self, channel: str, lines: list[frames.Line], refused: dict[tuple[str, int], str], segment: str
    ) -> tuple[Tally, dict[str, list[_Row]]]:
        tally = Tally(frames=len(lines))
        rows: dict[str, list[_Row]] = {table: [] for table in tables.TABLES}
        events_of = self._meaning(channel)
        for line in lines:
            try:
                events = events_of(line)
            except Unparsable as e:
                tally.quarantined[str(e)[:REASON_CHARS_MAX]] += 1
                continue
            except Exception as e:
                raise Permanent(
                    f"{self._task.feed} {self._task.date}: frame {line.n} of {line.conn} in {segment} makes the "
                    f"{self._task.venue} grammar fail ({type(e).__name__}: {e}): please report this fault in it"
                ) from e
            if refused and (reason := refused.get((line.conn, line.n))):
                tally.quarantined[reason] += 1
            elif not events:
                tally.control += 1
            else:
                tally.with_events += 1
                for item, event in enumerate(events):
                    rows[_TABLE_OF[type(event)]].append(_Row(line, item, event))
        return tally, rows

    def _meaning(self, channel: str) -> Callable[[frames.Line], Iterable[object]]:
        """How lines of this channel are understood."""
        if channel == frames.BAD:
            return lambda line: second_chance(self._venue, self._grammar, line)[1]
        if channel == frames.SESSION:
            return lambda line: _own(line, Session)
        if channel == frames.GAP:
            return lambda line: _own(line, Gap)
        grammar = self._grammar

        def events(line: frames.Line) -> Iterable[Event]:
            if line.head or line.tail or not line.frame:
                return grammar(channel, line.wire())
            return grammar(channel, bytes(line.frame))

        return events

    def _unfit(self, rows: dict[str, list[_Row]], segment: str) -> dict[tuple[str, int], str]:
        """Frames with a value that no column can hold, and why."""
        reasons: dict[tuple[str, int], str] = {}
        for table, some in rows.items():
            for row in some:
                for column, kind, value in _numbers(table, row.event):
                    reason = self._judge(
                        column,
                        kind,
                        value,
                        f"{row.event.symbol} ({table}, frame {row.line.n} of {row.line.conn} in {segment})",
                    )
                    if reason:
                        reasons[row.line.conn, row.line.n] = reason
        return reasons

    def _judge(self, column: str, kind: str, value: Any, whose: str) -> str | None:
        if kind == "time":
            return None if value in _INT64 else f"{column} is out of range"
        precision = self._task.precision
        decimals = precision.price if kind == "price" else precision.size
        fit = f"fit into {precision.digits} digits with {decimals} decimals"
        try:
            pa.array([value], pa.string()).cast(pa.decimal128(precision.digits, decimals))
        except pa.ArrowInvalid:
            if not _PLAIN_DECIMAL.fullmatch(value):
                return f"{column} is no decimal number"
            self._unfit_count += 1
            self._unfit_first = self._unfit_first or (
                f"{column} {value} of {whose} does not {fit}: change "
                f"precision.{kind} in the feed's YAML ({self._task.feed}.yaml), then roll the day up again"
            )
            return f"{column} does not {fit}"
        return None

    def judge(self) -> None:
        """Raise Permanent if so many values did not fit that the feed's precision must be wrong."""
        if self._unfit_count > UNFIT_SHARE_MAX * self.tally.frames:
            raise Permanent(
                f"{self._task.feed} {self._task.date}: {self._unfit_first} ({self._unfit_count} such values)"
            )


def second_chance(venue: Venue, grammar: EventGrammar, line: frames.Line) -> tuple[str, Sequence[Event]]:
    """A quarantined frame's channel and events, if the venue's grammar knows it by now.

    Raises Unparsable, with the reason for which it was quarantined, if not. Each frame gets an adapter of its own:
    what one frame is must not depend on which were looked at before it.
    """
    wire = line.wire()
    route = venue.adapter(Subscription((), ())).received(wire, line.ts_recv)
    if route.bad is None:
        with contextlib.suppress(Unparsable):
            return route.channel, grammar(route.channel, wire)
    raise Unparsable(line.reason or "no reason given")


def _own(line: frames.Line, kind: type[Session] | type[Gap]) -> Iterable[object]:
    try:
        return (msgspec.json.decode(line.frame, type=kind),)
    except msgspec.DecodeError as e:
        raise Unparsable(f"not a {kind.__name__.lower()} of ours: {e}") from e


_TABLE_OF: dict[type, str] = {
    Trade: "trades",
    Ticker: "tickers",
    BookDelta: "book_deltas",
    BookSnapshot: "book_snapshots",
    Status: "status",
    Session: "sessions",
    Gap: "gaps",
}
_PRICES = {"price", "last", "bid", "ask"}
_SIZES = {"size", "last_size", "bid_size", "ask_size", "volume", "open_interest", "change"}
_TIMELESS = {"sessions", "gaps"}


def _numbers(table: str, event: Any) -> Iterator[tuple[str, str, Any]]:
    """Every value of an event that becomes a number: its name, what it is (price, size, time), its value."""
    if table in _TIMELESS:
        return
    if event.ts_event is not None:
        yield "ts_event", "time", event.ts_event
    if table == "book_snapshots":
        for side in (event.bids, event.asks):
            for price, size in side:
                yield "price", "price", price
                yield "size", "size", size
        return
    for column in event.__struct_fields__:
        kind = "price" if column in _PRICES else "size" if column in _SIZES else None
        value = getattr(event, column)
        if kind is not None and value is not None:
            yield column, kind, value


# -------------------------------------------------------------------------------------------------- rows to columns


class _Spool:
    """A table's rows of one hour, waiting as Arrow batches in an unlinked file; symbols and connections as codes."""

    def __init__(self, table: str, schema: pa.Schema, folder: Path, sort_rows: int) -> None:
        self.table = table
        self.schema = schema
        self.symbols = _Codes()
        self.connections = _Codes()
        self.rows_of: Counter[int | None] = Counter()
        self.own = [schema.field(i) for i in range(len(tables.COMMON), len(schema))]
        keys: list[pa.Field[Any]] = [
            pa.field("ts_recv", pa.int64()),
            pa.field("ts_event", pa.int64()),
            pa.field("symbol", pa.int32()),
            pa.field("conn", pa.int32()),
            pa.field("n", pa.int64()),
            pa.field("item", pa.int32()),
        ]
        self._spooled = pa.schema(keys + self.own)
        self._folder = folder
        self._sort_rows = sort_rows
        self._file: IO[bytes] | None = None
        self._writer: Any = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "_Spool":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def batch(self, rows: list[_Row]) -> pa.RecordBatch:
        """The rows as columns. Raises ArrowInvalid or OverflowError if a value does not fit."""
        events = [row.event for row in rows]
        symbols, connections = self.symbols, self.connections
        timeless = self.table in _TIMELESS
        columns = [
            pa.array([row.line.ts_recv for row in rows], pa.int64()),
            pa.nulls(len(rows), pa.int64()) if timeless else pa.array([e.ts_event for e in events], pa.int64()),
            pa.nulls(len(rows), pa.int32()) if timeless else pa.array([symbols[e.symbol] for e in events], pa.int32()),
            pa.array([connections[row.line.conn] for row in rows], pa.int32()),
            pa.array([row.line.n for row in rows], pa.int64()),
            pa.array([row.item for row in rows], pa.int32()),
            *(self._column(f, rows, events) for f in self.own),
        ]
        return pa.record_batch(columns, schema=self._spooled)

    def _column(self, to: "pa.Field[Any]", rows: list[_Row], events: list[Any]) -> Any:
        if pa.types.is_decimal(to.type):
            return pa.array([getattr(e, to.name) for e in events], pa.string()).cast(to.type)
        if to.name in {"bids", "asks"}:
            return _levels([getattr(e, to.name) for e in events], to.type)
        if self.table == "sessions" and to.name == "detail":
            return pa.array([bytes(row.line.frame).decode() for row in rows], to.type)
        name = _RENAMED.get((self.table, to.name), to.name)
        return pa.array([getattr(e, name) for e in events], to.type)

    def append(self, batch: pa.RecordBatch) -> None:
        if self._writer is None:
            self._file = self._stack.enter_context(_spool_file(self._folder))
            self._writer = pa.ipc.new_file(cast(Any, self._file), self._spooled)
        for counted in cast(Any, pc.value_counts(batch["symbol"])).to_pylist():
            self.rows_of[counted["values"]] += counted["counts"]
        try:
            self._writer.write_batch(batch)
        except OSError as e:
            raise durable.DiskFailed(self._folder, e) from e

    def sorted(self) -> Iterator[pa.Table]:
        """All rows in order, symbols and connections now ranks: a table per group of symbols."""
        if self._writer is None or self._file is None:
            return
        self._writer.close()
        self._file.flush()
        memory = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        reader = pa.ipc.open_file(pa.py_buffer(memory))
        batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        symbol_ranks, connection_ranks = _ranks(self.symbols), _ranks(self.connections)
        groups = list(_groups(sorted(self.symbols), lambda s: self.rows_of[self.symbols[s]], self._sort_rows))
        for group in groups or [[]]:
            some = batches
            if len(groups) > 1:
                codes = pa.array([self.symbols[s] for s in group], pa.int32())
                some = [b.filter(pc.is_in(b["symbol"], value_set=codes)) for b in batches]
            table = pa.Table.from_batches(some, self._spooled).combine_chunks()
            table = _replaced(table, "symbol", symbol_ranks.take(table["symbol"]))
            table = _replaced(table, "conn", connection_ranks.take(table["conn"]))
            yield table.take(pc.sort_indices(table, sort_keys=[(name, "ascending") for name in tables.SORT]))

    def row_groups(self) -> Iterator[pa.Table]:
        """All rows in order, in pieces of exactly ROW_GROUP_ROWS (the last may be smaller)."""
        rest: pa.Table | None = None
        for table in self.sorted():
            whole = table if rest is None else pa.concat_tables([rest, table])
            while whole.num_rows >= ROW_GROUP_ROWS:
                yield whole.slice(0, ROW_GROUP_ROWS)
                whole = whole.slice(ROW_GROUP_ROWS)
            rest = whole
        if rest is not None and rest.num_rows:
            yield rest

    def finished(self, feed: str, rows: pa.Table) -> pa.Table:
        """Ranks become the dictionaries that the schema promises."""
        columns: list[Any] = []
        for f in self.schema:
            if f.name == "feed":
                zeros = pa.repeat(pa.scalar(0, pa.int32()), rows.num_rows)
                columns.append(pa.DictionaryArray.from_arrays(zeros, pa.array([feed])))
            elif f.name == "symbol":
                columns.append(_dictionary(rows["symbol"].combine_chunks(), sorted(self.symbols)))
            elif f.name == "conn":
                columns.append(_dictionary(rows["conn"].combine_chunks(), sorted(self.connections)))
            else:
                columns.append(rows[f.name])
        return pa.table(columns, schema=self.schema)


_RENAMED = {
    ("gaps", "session"): "conn",
    ("gaps", "ts_start"): "start",
    ("gaps", "ts_end"): "end",
    ("sessions", "session"): "conn",
}


def _levels(sides: list[list[tuple[str, str]]], to: Any) -> Any:
    """Book sides as a list column, without a Python object per level beyond the text itself."""
    level = to.value_type
    offsets = [0]
    for side in sides:
        offsets.append(offsets[-1] + len(side))
    prices = pa.array([price for side in sides for price, _ in side], pa.string())
    sizes = pa.array([size for side in sides for _, size in side], pa.string())
    pairs = pa.StructArray.from_arrays(
        [prices.cast(level[0].type), sizes.cast(level[1].type)], fields=[level[0], level[1]]
    )
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pairs, type=to)


def _ranks(codes: _Codes) -> Any:
    """For each code, the place of its string in sorted order."""
    rank = {s: i for i, s in enumerate(sorted(codes))}
    return pa.array([rank[s] for s in codes], pa.int32())


def _groups(names: list[str], rows: Callable[[str], int], rows_max: int) -> Iterator[list[str]]:
    """Neighbouring names whose rows together can be sorted in memory."""
    group: list[str] = []
    held = 0
    for name in names:
        if group and held + rows(name) > rows_max:
            yield group
            group, held = [], 0
        group.append(name)
        held += rows(name)
    if group:
        yield group


def _replaced(table: pa.Table, name: str, column: Any) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, column)


def _dictionary(ranks: Any, names: list[str]) -> Any:
    """Ranks into `names` as a dictionary column; in sorted rows they are a range, so no name is idle."""
    low, high = (x.as_py() for x in pc.min_max(ranks).values())
    if low is None:
        return pa.DictionaryArray.from_arrays(ranks, pa.array([], pa.string()))
    return pa.DictionaryArray.from_arrays(pc.subtract(ranks, low), pa.array(names[low : high + 1], pa.string()))


def _spool_file(folder: Path) -> IO[bytes]:
    try:
        return tempfile.TemporaryFile(dir=folder)
    except OSError as e:
        raise durable.DiskFailed(folder, e) from e


# -------------------------------------------------------------------------------------------------- columns to file

# Neighbouring values differ little, so differences are small: 5x smaller than plain, and faster than a dictionary.
_DELTAS = ("ts_recv", "ts_event", "n", "item", "ts_start", "ts_end")
_PLAIN = ("trade_id", "detail", "evidence")  # hardly a value twice


def _write(task: HourTask, spool: _Spool, look: Callable[[], None]) -> jobs.Part | None:
    """Write one table's file; None if it has no rows."""
    groups = spool.row_groups()
    first = next(groups, None)
    if first is None:
        return None
    relative = tables.file_path(spool.table, task.feed, task.date, task.hour, task.inputs)
    path = task.lake / relative
    rows = 0

    def write(file: BinaryIO) -> None:
        nonlocal rows
        with pq.ParquetWriter(file, spool.schema, **_format(spool.schema)) as writer:
            group: pa.Table | None = first
            while group is not None:
                writer.write_table(spool.finished(task.feed, group), row_group_size=ROW_GROUP_ROWS)
                rows += group.num_rows
                look()
                group = next(groups, None)

    durable.make_folder(path.parent)
    durable.replace_by(path, write)
    found = pq.read_metadata(path).num_rows
    if found != rows:
        raise Permanent(f"{path} should hold {rows} rows, but has {found}: the disk does not keep what it is given")
    return jobs.Part(spool.table, str(relative), rows, path.stat().st_size, archive.sha256_of(path))


def _format(schema: pa.Schema) -> dict[str, Any]:
    names = [name for f in schema for name in _leaves(f)]
    return {
        "compression": "zstd",
        "compression_level": 3,
        "version": "2.6",
        "write_page_checksum": True,
        "store_decimal_as_integer": True,
        "use_dictionary": [n for n in names if n not in _DELTAS + _PLAIN],
        "column_encoding": {n: "DELTA_BINARY_PACKED" for n in names if n in _DELTAS},
    }


def _leaves(f: "pa.Field[Any]") -> list[str]:
    """A column's Parquet paths."""
    kind = cast(Any, f.type)
    if not pa.types.is_list(kind):
        return [f.name]
    if pa.types.is_struct(kind.value_type):
        return [f"{f.name}.list.element.{inner.name}" for inner in kind.value_type]
    return [f"{f.name}.list.element"]
