"""Holds what a simulated venue says it sent against archive and ledger, with gzip and json alone."""

import base64
import gzip
import hashlib
import json
from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OWN = {"_session", "_gap"}
NAMES = {"market_ticker", "symbol", "instrument_name", "product_id", "asset_id", "s"}  # of instruments, at some venue
FOREVER = 1 << 62


@dataclass(frozen=True)
class Gap:
    """A gap of the ledger: from its first row to its last; `told` is when the first was written."""

    id: str
    conn: str
    symbols: frozenset[str]
    start: int
    end: int
    cause: str
    evidence: str
    told: int

    def covers(self, ts: int, symbol: str | None) -> bool:
        return self.start <= ts <= self.end and (not self.symbols or symbol is None or symbol in self.symbols)


def covered(line: "_Line", ts: int, gaps: list[Gap]) -> bool:
    """Whether the ledger has all instruments that a frame is about."""
    return all(any(gap.covers(ts, symbol) for gap in gaps) for symbol in line.symbols or {None})


@dataclass(frozen=True)
class Fault:
    """What the simulator did to a connection on purpose, after its frame `n`."""

    kind: str
    conn: str
    n: int
    ts: int
    symbol: str | None
    lost: tuple[str, ...] = ()  # frames that were not sent
    after: list[bytes] = field(default_factory=list, compare=False)  # the next frame sent of the same instrument

    def overwritten(self) -> bool:
        """Whether Kraken lost an update of a book whose every level the next one sets again: the book is right, as its
        checksum says, which is all that the venue tells of what it sends."""
        if self.kind != "skip" or not self.lost or not self.after:
            return False
        return bool(_levels(self.lost[0])) and _levels(self.lost[0]) <= _levels(self.after[0].decode())


def _levels(wire: str) -> set[tuple[str, str]]:
    """Side and price of each level in an update of Kraken's book; none in any other frame."""
    frame = json.loads(wire, parse_float=str, parse_int=str)
    if frame.get("channel") != "book" or frame.get("type") != "update":
        return set()
    return {(side, level["price"]) for item in frame["data"] for side in ("bids", "asks") for level in item[side]}


@dataclass
class Account:
    """The sum of a run. Every frame sent is archived, or in the ledger, or unaccounted for."""

    sent: int = 0
    archived: int = 0
    in_ledger: int = 0
    unaccounted: int = 0
    duplicated: int = 0
    altered: int = 0  # archived, but never sent so, or not in this order
    holes: int = 0  # numbers of a connection that are nowhere
    bad: int = 0
    connections: int = 0
    gaps: list[Gap] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    first_unaccounted: str = ""

    @property
    def whole(self) -> bool:
        return not (self.unaccounted or self.duplicated or self.altered or self.holes)

    def __str__(self) -> str:
        causes = dict(Counter(g.cause for g in self.gaps))
        return (
            f"{self.sent:,} sent = {self.archived:,} archived + {self.in_ledger:,} in the ledger; "
            f"{self.unaccounted} unaccounted, {self.duplicated} duplicated, {self.altered} altered, {self.holes} holes"
            f"; {self.connections} connections, gaps {causes} {self.first_unaccounted}"
        )


@dataclass
class _Line:
    n: int
    ts: int
    print: bytes
    symbols: frozenset[str] = frozenset()


def _wire(raw: bytes, line: dict[str, Any]) -> bytes:
    """The venue's bytes as they were, taken from a line without re-encoding them."""
    if "b64" in line:
        return base64.b64decode(line["b64"])
    if "text" in line:
        return str(line["text"]).encode()
    core = raw[raw.index(b'"frame":') + 8 : raw.rindex(b"}")]
    return str(line.get("head", "")).encode() + core + str(line.get("tail", "")).encode()


def _print(wire: bytes) -> bytes:
    return hashlib.blake2b(wire, digest_size=8).digest()


def _symbols(value: Any) -> frozenset[str]:
    """Whatever instruments a frame names."""
    if isinstance(value, list):
        return frozenset().union(*map(_symbols, value))
    if not isinstance(value, dict):
        return frozenset()
    named = frozenset(text for name in NAMES & value.keys() if isinstance(text := value[name], str))
    return named.union(*map(_symbols, value.values()))


def read_truth(path: Path) -> tuple[dict[str, list[_Line]], list[Fault]]:
    """What was sent, by connection and in order, and what was done to it."""
    sent: dict[str, list[_Line]] = defaultdict(list)
    faults: list[Fault] = []
    waiting: dict[tuple[str, str | None, str], Fault] = {}  # a frame of each has been lost, and none was sent since
    with path.open("rb") as file:
        for raw in file:
            if not raw.endswith(b"\n"):
                break
            line = json.loads(raw)
            if "fault" in line:
                lost = tuple(line["lost"])
                faults.append(Fault(line["fault"], line["conn"], line["n"], line["ts"], line["symbol"], lost))
                if lost:
                    waiting[line["conn"], line["channel"], line["symbol"]] = faults[-1]
            else:
                wire = _wire(raw, line)
                frame = line.get("frame")
                named = _symbols(frame)
                sent[line["conn"]].append(_Line(line["n"], line["ts_recv"], _print(wire), named))
                for symbol in named if waiting and isinstance(frame, dict) else ():
                    fault = waiting.pop((line["conn"], frame.get("channel"), symbol), None)
                    if fault is not None:
                        fault.after.append(wire)
    return dict(sent), faults


def read_archive(archive: Path) -> tuple[dict[str, dict[str, list[_Line]]], list[Gap], int]:
    """Every archived line by connection and whose it is ("venue" or "own"), the gaps, how many are quarantined."""
    found: dict[str, dict[str, list[_Line]]] = defaultdict(lambda: {"venue": [], "own": []})
    rows: dict[str, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
    bad = 0
    for manifest in sorted(archive.glob("*/*/manifest.json")):
        for segment in json.loads(manifest.read_text())["segments"]:
            channel = segment["channel"]
            with gzip.open(manifest.parent / segment["name"], "rb") as file:
                for raw in file:
                    line = json.loads(raw)
                    asked = isinstance(line.get("frame"), dict) and "rest" in line["frame"]
                    whose = "own" if channel in OWN or asked else "venue"
                    bad += channel == "_bad"
                    found[line["conn"]][whose].append(_Line(line["n"], line["ts_recv"], _print(_wire(raw, line))))
                    if channel == "_gap":
                        rows[line["frame"]["gap"]].append((line["ts_recv"], line["frame"]))
    return dict(found), [_gap(sorted(r, key=lambda row: row[0])) for r in rows.values()], bad


def _gap(rows: list[tuple[int, dict[str, Any]]]) -> Gap:
    told, first = rows[0]
    end = max((row["end"] for _, row in rows if row.get("end") is not None), default=FOREVER)
    start = min(row["start"] for _, row in rows)
    evidence = first.get("evidence", "")
    return Gap(first["gap"], first["conn"], frozenset(first["symbols"]), start, end, first["cause"], evidence, told)


def archived_numbers(archive: Path) -> set[tuple[str, int]]:
    """Every (conn, n) that is archived."""
    found, _, _ = read_archive(archive)
    return {(conn, line.n) for conn, lines in found.items() for whose in lines.values() for line in whose}


def account(truth: Path, archive: Path, *, without_ledger: bool = False) -> Account:
    """The sum. `without_ledger` is the control: an archive whose gaps nobody wrote down."""
    sent, faults = read_truth(truth)
    archived, gaps, bad = read_archive(archive)
    sum_ = Account(gaps=gaps, faults=faults, bad=bad, connections=len(sent))
    believed = [] if without_ledger else gaps
    for conn in sorted({*sent, *archived}):
        lines = archived.get(conn, {"venue": [], "own": []})
        numbers = Counter(line.n for whose in lines.values() for line in whose)
        sum_.duplicated += sum(count - 1 for count in numbers.values())
        sum_.holes += max(numbers, default=0) - len(numbers)
        here = sorted({line.n: line for line in lines["venue"]}.values(), key=lambda line: line.n)
        sum_.sent += len(sent.get(conn, ()))
        sum_.archived += len(here)
        lost, altered = _missing(sent.get(conn, []), here)
        sum_.altered += altered
        for line, ts in lost:
            if covered(line, ts, believed):
                sum_.in_ledger += 1
            else:
                sum_.unaccounted += 1
                sum_.first_unaccounted = sum_.first_unaccounted or f"(the first: {conn} frame {line.n} at {ts})"
    return sum_


def _missing(sent: list[_Line], here: list[_Line]) -> tuple[list[tuple[_Line, int]], int]:
    """Frames sent that are not here, with the earliest time at which they could have come; how many here are strange.

    A connection keeps its order: what was sent after a frame cannot have come before it.
    """
    where: dict[bytes, list[int]] = defaultdict(list)
    for i, line in enumerate(sent):
        where[line.print].append(i)
    lost: list[tuple[_Line, int]] = []
    k = altered = last_ts = 0
    for line in here:
        places = where.get(line.print, [])
        next_one = bisect_left(places, k)
        if next_one == len(places):
            altered += 1
            continue
        j = places[next_one]
        lost += [(missing, max(missing.ts, last_ts)) for missing in sent[k:j]]
        k, last_ts = j + 1, line.ts
    return lost + [(missing, max(missing.ts, last_ts)) for missing in sent[k:]], altered
