"""A recording on disk, in one file or several, or an archived day, read as a stream: nothing of it stays in memory."""

import io
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from isal import igzip

from exchanges.port import Record, Unparsable
from ssmd.errors import Permanent
from ssmd.past_day import Look, Once, PastDay

LOOK_FRAMES = 10_000  # between two words about how far the first reading is
LINE_BYTES_MAX = 16 << 20  # four times the largest frame that a connector takes
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Contents:
    """What a recording is about: its (channel, symbol) pairs, how many frames, from when to when (ns)."""

    instruments: frozenset[tuple[str, str | None]]
    frames: int
    first_ns: int
    last_ns: int


class Played(Protocol):
    """What a player plays."""

    def contents(self) -> Contents: ...

    def records(self) -> Iterator[tuple[int, Record]]:
        """All records from the start, with their places. Raises Permanent."""
        ...


class Tape:
    """Records with their places: the number of the line, from 0 on through all files. Lines that are no market data
    have none."""

    def __init__(self, paths: Sequence[Path], parse: Callable[[bytes], Record | None]) -> None:
        self._paths = paths
        self._parse = parse

    def contents(self) -> Contents:
        """Read it once from end to end (0.6 s for 200,000 frames). Raises Permanent if any line is bad."""
        instruments = set()
        frames = first_ns = last_ns = 0
        for _, record in self.records():
            if not frames:
                first_ns = record.ts_ns
            frames += 1
            last_ns = max(last_ns, record.ts_ns)
            instruments.add((record.channel, record.symbol))
        return Contents(frozenset(instruments), frames, first_ns, last_ns)

    def records(self) -> Iterator[tuple[int, Record]]:
        """All records from the start. Raises Permanent naming file and line."""
        place = -1
        begun_ns: int | None = None  # when the file before began
        for path in self._paths:
            before, found = place, False
            try:
                with path.open("rb") as raw, self._text(raw) as file:
                    while line := file.readline(LINE_BYTES_MAX):
                        place += 1
                        if len(line) >= LINE_BYTES_MAX:
                            raise Permanent(f"{path}:{place - before}: the line is longer than {LINE_BYTES_MAX} bytes")
                        record = None if line.isspace() else self._parse(line)
                        if record is None:
                            continue
                        if not found:
                            if begun_ns is not None and record.ts_ns < begun_ns:
                                raise Permanent(f"the recording {path} begins before the one it follows: swap them")
                            begun_ns, found = record.ts_ns, True
                        yield place, record
            except Unparsable as e:
                raise Permanent(f"{path}:{place - before}: cannot be replayed, {e}") from e
            except (OSError, EOFError, zlib.error) as e:
                if place == before and isinstance(e, OSError) and e.errno is not None:
                    raise Permanent(f"cannot read the recording {path}: {e.strerror}") from e
                at = place - before + 1
                raise Permanent(f"{path}:{at}: the gzip data is damaged or cut off here ({e})") from e
            if not found:
                raise Permanent(f"the recording {path} holds no market data: name another file")

    def _text(self, raw: BinaryIO) -> BinaryIO:
        compressed = raw.read(2) == _GZIP
        raw.seek(0)
        if not compressed:
            return raw
        return cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, igzip.open(raw, "rb")), 1 << 20))  # type: ignore[no-untyped-call]


class ArchiveTape:
    """An archived day as a tape: the venue's market data, each frame once; the places count them.

    Our own frames and the answers of REST are left out (of these a venue may learn its books), and what its grammar
    does not know: `unknown` says how many of these there are, by reason.
    """

    def __init__(self, day: PastDay, parse: Callable[[int, bytes], Record | None], end_ns: int, look: Look) -> None:
        """`end_ns` is where it stops; `look` is told how far the first reading is."""
        self.unknown: Counter[str] = Counter()
        self._day = day
        self._parse = parse
        self._end_ns = end_ns
        self._contents = self._read(look)

    def contents(self) -> Contents:
        return self._contents

    def _read(self, look: Look) -> Contents:
        instruments = set()
        manifest = self._day.manifest
        count = first_ns = last_ns = 0
        for place, record in self._records(self.unknown):
            count = place + 1
            first_ns = first_ns or record.ts_ns
            last_ns = max(last_ns, record.ts_ns)
            instruments.add((record.channel, record.symbol))
            if not count % LOOK_FRAMES:
                look("reading", count, manifest.frames)
        if not count:
            raise Permanent(f"{manifest.date} of {manifest.feed} has no market data so early: let it end later")
        return Contents(frozenset(instruments), count, first_ns, last_ns)

    def records(self) -> Iterator[tuple[int, Record]]:
        return self._records(Counter())

    def _records(self, unknown: Counter[str]) -> Iterator[tuple[int, Record]]:
        once = Once() if self._day.overlapping else None
        place = -1
        for frame in self._day.frames():
            line = frame.line
            if frame.channel.startswith("_") or line.ts_recv >= self._end_ns:
                continue
            wire = line.wire()
            try:
                record = self._parse(line.ts_recv, wire)
            except Unparsable as e:
                unknown[str(e)] += 1
                continue
            if record is None or (once is not None and not once.first(line, wire)):
                continue
            place += 1
            yield place, record
