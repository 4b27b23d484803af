"""One hour of archived frames, replayed through the venue's own grammar into Parquet files.

Pure CPU and files, made to run in a process of its own. The same frames always give the same bytes: rows are sorted
by a key that no two rows share, row groups have a fixed size, and nothing in a file tells when or where it was made.

Frames are understood many at once where the grammar has a way to (`BulkGrammar`); whatever does not go that way, for
any reason, goes frame by frame, which alone decides what is quarantined and why. Both ways give the same rows.

Memory stays bounded: lines are read some MB at a time, and rows wait in spools that write aside what is too much.
"""

import contextlib
import functools
import hashlib
import importlib
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, BinaryIO, NamedTuple, cast

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from isal import igzip

from activities import alike, columns, pages, spool
from activities.processes import Board
from activities.spool import Spool
from exchanges import port
from exchanges.port import Bulk, BulkGrammar, EventGrammar, Subscription, Unparsable, Venue
from ssmd import __version__, archive, durable, events, frames, jobs, tables
from ssmd.clock import DAY_NS
from ssmd.config import Precision
from ssmd.errors import Permanent, Transient
from ssmd.events import BookDelta, BookSnapshot, Event, Gap, Session, Status, Ticker, Trade

HOUR_NS = DAY_NS // 24
READ_BYTES = 2 << 20  # of raw lines at a time: with more, what is made of them leaves the processor's cache
ODD_BYTES = 16 << 10  # of lines that are taken one by one where some of them is out of the ordinary
MEMORY_BYTES = 512 << 20
ROW_GROUP_ROWS = 128 << 10  # near DuckDB's own 122,880: one row group is one thread's work there
BOOKS_ROW_GROUP_ROWS = 8 << 10  # a row is a whole book
REASONS_MAX = 100  # distinct reasons counted by name: the answer travels through Temporal and must stay small
REASON_CHARS_MAX = 200
UNFIT_SHARE_MAX = 0.01  # of an hour's frames: a few are the venue's garbage, more are a venue that changed

_INT64 = range(-(2**63), 2**63)
_PLAIN_DECIMAL = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


@dataclass(frozen=True)
class HourTask:
    """What to replay, and where the files go.

    `memory_bytes` is what rows may take: a quarter of it waits, the rest is for sorting and writing them.
    """

    archive: Path
    lake: Path
    feed: str
    venue: str
    date: str
    day_start_ns: int
    hour: int
    precision: Precision
    segments: list[tuple[str, str, str]]  # name, channel, sha256
    memory_bytes: int = MEMORY_BYTES
    read_bytes: int = READ_BYTES
    frame_by_frame: bool = False  # the reference: nothing in bulk

    @property
    def inputs(self) -> str:
        segments = [(name, sha) for name, _, sha in self.segments]
        return tables.inputs_key(self.precision, segments, f"{__version__} {software(self.venue)}")


_EXCHANGE = re.compile(r"^\s*(?:from|import) exchanges\.(\w+)", re.MULTILINE)


@functools.cache
def software(venue: str) -> str:
    """A digest of the code that decides what a venue's frames become, so that another gives its files other names."""
    ours = [Path(cast(str, m.__file__)) for m in (port, alike, columns, pages, spool, archive, events, frames, tables)]
    digest = hashlib.sha256(pa.__version__.encode())
    for path in (Path(__file__), *ours, *_grammar(venue)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _grammar(venue: str) -> list[Path]:
    """The files of a venue's package, and of those that it takes parts of its grammar from."""
    found: dict[str, list[Path]] = {}
    todo = [venue]
    while todo:
        package = todo.pop()
        if package in found:
            continue
        folder = Path(importlib.import_module(f"exchanges.{package}").__path__[0])
        found[package] = sorted(folder.glob("*.py"))
        for path in found[package]:
            named = _EXCHANGE.findall(path.read_text())
            todo += [name for name in named if (folder.parent / name).is_dir()]
    return [path for package in sorted(found) for path in found[package]]


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
    durable.make_folder(task.lake)
    with contextlib.ExitStack() as stack:
        hour = _Hour(task, venue, stack)
        read = 0
        for name, channel, _ in task.segments:
            for lines in read_blocks(folder / name, task.read_bytes):
                read += hour.take(channel, lines, folder / name)
                board.tell(read)
        hour.judge()
        tally = hour.tally
        largest_first = {table: hour.spools[table] for table, _ in tally.events.most_common()}
        parts = _write_all(task, largest_first, lambda: board.tell(read))
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


def read_blocks(path: Path, read_bytes: int = READ_BYTES) -> Iterator[bytes]:
    """A segment's raw lines, some at a time. Raises Permanent if it is damaged."""
    with _damage_told(path), igzip.open(path, "rb") as file:  # type: ignore[no-untyped-call]
        while block := file.read(read_bytes) + file.readline():
            yield block


def read_lines(path: Path) -> Iterator[list[frames.Line]]:
    """A segment's lines, some at a time. Raises Permanent if it is damaged."""
    for block in read_blocks(path):
        with _damage_told(path):
            lines = frames.parse_lines(block)
        yield lines


@contextlib.contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    try:
        yield
    except archive.DAMAGE as e:
        raise Permanent(f"{path} is damaged ({e}): run `ssmd verify` on that day") from e


# -------------------------------------------------------------------------------------------------- frames to rows


_Blank = Annotated[str, msgspec.Meta(pattern=r"^[ \t\r\n]*$")]


class _Row(NamedTuple):
    line: frames.Line
    item: int
    event: Any


class _Way:
    """How whole lines of a channel are understood at once: the envelope of `frames.Line` around the venue's frame."""

    def __init__(self, bulk: Bulk) -> None:
        line = msgspec.defstruct(
            "_Line",
            [
                ("ts_recv", int),
                ("conn", str),
                ("n", int),
                ("frame", bulk.frame),
                ("seq", int, 0),
                ("text", None, None),
                ("b64", None, None),
                ("head", _Blank, ""),
                ("tail", _Blank, ""),
            ],
            gc=False,
        )
        decoder = msgspec.json.Decoder(line)
        self.decode: Callable[[bytes], list[Any]] = decoder.decode_lines
        self.columns = bulk.columns
        self.alike = bulk.alike
        self.table = TABLE_OF[bulk.event]
        self._line = line
        self._decode_line = decoder.decode
        self._shape: alike.Shape | None = None

    def lines_alike(self, raw: bytes) -> alike.Lines:
        """Lines that are all of the shape of those before, or of the first. Raises if they are not."""
        if self._shape is not None:
            with contextlib.suppress(alike.Unlike, IndexError):
                return alike.Lines(self._shape, raw)
        first = raw[: raw.find(b"\n") + 1]
        self._decode_line(first)
        self._shape = alike.Shape(first, self._line)
        return alike.Lines(self._shape, raw)


class _Hour:
    """The replay of one hour: lines in, counted rows out into spools."""

    def __init__(self, task: HourTask, venue: Venue, stack: contextlib.ExitStack) -> None:
        self._task = task
        self._venue = venue
        self._grammar = venue.events(task.date)
        self._start = task.day_start_ns + task.hour * HOUR_NS
        self._end = self._start + HOUR_NS
        self._ways: dict[str, _Way | None] = {}
        self._schemas = {table: tables.schema(table, task.precision) for table in tables.TABLES}
        self.tally = Tally()
        self._unfit_count = 0
        self._unfit_first = ""
        self.spools = {
            table: stack.enter_context(Spool(schema, task.feed, task.lake)) for table, schema in self._schemas.items()
        }

    def take(self, channel: str, raw: bytes, segment: Path) -> int:
        """Replay whole lines of one channel; returns how many they are. Raises Permanent."""
        way = self._way(channel)
        if way is not None:
            count = self._alike(way, raw) or self._at_once(way, raw)
            if count is not None:
                return count
            middle = raw.find(b"\n", len(raw) // 2) + 1
            if len(raw) > ODD_BYTES and 0 < middle < len(raw):
                return self.take(channel, raw[:middle], segment) + self.take(channel, raw[middle:], segment)
        return self._one_by_one(channel, raw, segment)

    def _append(self, table: str, rows: pa.RecordBatch) -> None:
        if not rows.num_rows:
            return
        self.tally.events[table] += rows.num_rows
        self.spools[table].append(rows)
        if sum(spool.held_bytes for spool in self.spools.values()) > self._task.memory_bytes // 4:
            max(self.spools.values(), key=lambda spool: spool.held_bytes).spill()

    # ------------------------------------------------------------------------------------------ many at once

    def _way(self, channel: str) -> "_Way | None":
        if channel not in self._ways:
            bulk = None
            if isinstance(self._grammar, BulkGrammar) and not self._task.frame_by_frame and not channel.startswith("_"):
                bulk = self._grammar.bulk(channel)
            self._ways[channel] = None if bulk is None else _Way(bulk)
        return self._ways[channel]

    def _alike(self, way: "_Way", raw: bytes) -> int | None:
        """As `_at_once`, without an object for any line, where all are alike."""
        if way.alike is None:
            return None
        try:
            lines = way.lines_alike(raw)
            times = lines.whole("ts_recv")
            if not self._start <= times.min() <= times.max() < self._end:
                return None
            schema = self._schemas[way.table]
            values = {name: alike.column(value, schema.field(name).type) for name, value in way.alike(lines).items()}
            rows = columns.batch(schema, pa.array(times), lines.repeated("conn"), lines.whole("n"), values)
        except Exception:  # whatever it is: these lines are read in another way
            return None
        self.tally.add(Tally(frames=lines.count, with_events=lines.count))
        self._append(way.table, rows)
        return lines.count

    def _at_once(self, way: "_Way", raw: bytes) -> int | None:
        """How many lines they are; None, and nothing is done, if any of them is out of the ordinary."""
        if raw.isspace():
            return 0
        try:
            lines = some = way.decode(raw)
            times: Any = pa.array([line.ts_recv for line in lines], pa.int64())
            if not self._start <= pc.min(times).as_py() <= pc.max(times).as_py() < self._end:
                some = self._of_this_hour(lines)
                times = pa.array([line.ts_recv for line in some], pa.int64())
                if not some:
                    return len(lines)
            values, counts = way.columns([line.frame for line in some])
            rows = columns.batch(
                self._schemas[way.table],
                times,
                [line.conn for line in some],
                [line.n for line in some],
                values,
                counts,
                plain=True,
            )
        except Exception:  # whatever it is: the frame that is to blame is found one by one
            return None
        control = 0 if counts is None else list(counts).count(0)
        self.tally.add(Tally(frames=len(some), with_events=len(some) - control, control=control))
        self._append(way.table, rows)
        return len(lines)

    def _of_this_hour(self, lines: list[Any]) -> list[Any]:
        return [line for line in lines if self._start <= line.ts_recv < self._end]

    # ------------------------------------------------------------------------------------------- one by one

    def _one_by_one(self, channel: str, raw: bytes, segment: Path) -> int:
        with _damage_told(segment):
            lines = frames.parse_lines(raw)
        some = self._of_this_hour(lines)
        refused: dict[tuple[str, int], str] = {}
        while True:
            tally, rows = self._replay(channel, some, refused, segment)
            try:
                batches = [(table, self._batch(table, some_rows)) for table, some_rows in rows.items() if some_rows]
                break
            except columns.UNFIT:
                found = self._unfit(rows, segment.name)
                if not found:
                    raise
                refused |= found
        self.tally.add(tally)
        for table, batch in batches:
            self._append(table, batch)
        return len(lines)

    def _batch(self, table: str, rows: list[_Row]) -> pa.RecordBatch:
        return columns.batch(
            self._schemas[table],
            pa.array([row.line.ts_recv for row in rows], pa.int64()),
            [row.line.conn for row in rows],
            [row.line.n for row in rows],
            _values(table, self._schemas[table].names, rows),
        )

    def _replay(
        self, channel: str, lines: list[frames.Line], refused: dict[tuple[str, int], str], segment: Path
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
                    f"{self._task.feed} {self._task.date}: frame {line.n} of {line.conn} in {segment.name} makes the "
                    f"{self._task.venue} grammar fail ({type(e).__name__}: {e}): please report this fault in it"
                ) from e
            if refused and (reason := refused.get((line.conn, line.n))):
                tally.quarantined[reason] += 1
            elif not events:
                tally.control += 1
            else:
                tally.with_events += 1
                for item, event in enumerate(events):
                    rows[TABLE_OF[type(event)]].append(_Row(line, item, event))
        return tally, rows

    def _meaning(self, channel: str) -> Callable[[frames.Line], Iterable[object]]:
        """How lines of this channel are understood."""
        if channel == frames.BAD:
            return lambda line: second_chance(self._venue, self._grammar, line)[1]
        if channel == frames.SESSION:
            return lambda line: _own(line, Session)
        if channel == frames.GAP:
            return lambda line: _own(line, Gap)
        if channel == frames.BACKFILL:
            return lambda line: pages.trades(self._venue, line.wire())
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


TABLE_OF: dict[type, str] = {
    Trade: "trades",
    Ticker: "tickers",
    BookDelta: "book_deltas",
    BookSnapshot: "book_snapshots",
    Status: "status",
    Session: "sessions",
    Gap: "gaps",
}
_RENAMED = {
    ("gaps", "session"): "conn",
    ("gaps", "ts_start"): "start",
    ("gaps", "ts_end"): "end",
    ("sessions", "session"): "conn",
}
_PRICES = {"price", "last", "bid", "ask"}
_SIZES = {"size", "last_size", "bid_size", "ask_size", "volume", "open_interest", "change"}
_TIMELESS = {"sessions", "gaps"}


def _values(table: str, names: Sequence[str], rows: list[_Row]) -> dict[str, list[Any]]:
    """The events' columns, for a table with columns of such names."""
    values: dict[str, list[Any]] = {"item": [row.item for row in rows]}
    for name in (*(() if table in _TIMELESS else ("symbol", "ts_event")), *names[len(tables.COMMON) :]):
        if (table, name) == ("sessions", "detail"):
            values[name] = [bytes(row.line.frame).decode() for row in rows]
        else:
            values[name] = [getattr(row.event, _RENAMED.get((table, name), name)) for row in rows]
    return values


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


# -------------------------------------------------------------------------------------------------- columns to file

# Neighbouring values differ little, so differences are small: 5x smaller than plain, and faster than a dictionary.
_DELTAS = ("ts_recv", "ts_event", "n", "item", "ts_start", "ts_end")
_PLAIN = ("trade_id", "detail", "evidence", *sorted(_SIZES))  # hardly a value twice


def _write_all(task: HourTask, spools: dict[str, Spool], look: Callable[[], None]) -> list[jobs.Part]:
    """Write the tables one after the other, but do not wait for the disk in between."""
    working = threading.Lock()
    with ThreadPoolExecutor(len(tables.TABLES), "write") as threads:
        parts = threads.map(lambda table: _write(task, table, spools[table], working, look), spools)
    return sorted((part for part in parts if part is not None), key=lambda part: tables.TABLES.index(part.table))


def _write(
    task: HourTask, table: str, spool: Spool, working: threading.Lock, look: Callable[[], None]
) -> jobs.Part | None:
    """Write one table's file; None if it has no rows."""
    rows_max = BOOKS_ROW_GROUP_ROWS if table == "book_snapshots" else ROW_GROUP_ROWS
    groups = spool.row_groups(rows_max)
    with working:
        first = next(groups, None)
    if first is None:
        return None
    relative = tables.file_path(table, task.feed, task.date, task.hour, task.inputs)
    path = task.lake / relative
    rows = 0

    def write(file: BinaryIO) -> None:
        nonlocal rows
        with working, pq.ParquetWriter(file, first.schema, **parquet_format(first.schema)) as writer:
            for group in chain([first], groups):
                writer.write_table(group, row_group_size=rows_max)
                rows += group.num_rows
                look()

    durable.make_folder(path.parent)
    durable.replace_by(path, write)
    found = pq.read_metadata(path).num_rows
    if found != rows:
        raise Permanent(f"{path} should hold {rows} rows, but has {found}: the disk does not keep what it is given")
    return jobs.Part(table, str(relative), rows, path.stat().st_size, archive.sha256_of(path))


def parquet_format(schema: pa.Schema) -> dict[str, Any]:
    names = [name for f in schema for name in _leaves(f)]
    return {
        "compression": "zstd",
        "compression_level": 2,  # a tenth quicker than 3, and no larger
        "version": "2.6",
        "write_page_checksum": True,
        "write_statistics": list(tables.COMMON),  # what queries narrow by
        "store_decimal_as_integer": True,
        "use_dictionary": [n for n in names if n.rpartition(".")[2] not in _DELTAS + _PLAIN],
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
