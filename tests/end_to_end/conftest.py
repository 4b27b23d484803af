"""Runs of the whole platform as a user starts it, and what a few independent lines make of the same recording."""

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
Book = dict[str, dict[Decimal, Decimal]]


@dataclass
class Recording:
    """A recording, and what it says, computed without any of ssmd's code."""

    path: Path
    frames: list[bytes] = field(default_factory=list)
    times_ms: list[int] = field(default_factory=list)
    types: Counter[str] = field(default_factory=Counter)
    books: dict[str, Book] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Recording":
        recording = cls(path)
        books: dict[str, Book] = defaultdict(lambda: {"bid": {}, "ask": {}})
        with gzip.open(path, "rb") as file:
            for line in file:
                record = json.loads(line)
                frame = record["event"]
                recording.frames.append(line[line.index(b'"event":') + 8 : line.rindex(b"}")])
                recording.times_ms.append(record["recv_ms"])
                recording.types[frame["type"]] += 1
                m = frame["msg"]
                book = books[m["market_ticker"]]
                if frame["type"] == "orderbook_snapshot":
                    book["bid"] = {Decimal(p): Decimal(s) for p, s in m.get("yes_dollars_fp", [])}
                    book["ask"] = {1 - Decimal(p): Decimal(s) for p, s in m.get("no_dollars_fp", [])}
                elif frame["type"] == "orderbook_delta":
                    price, side = Decimal(m["price_dollars"]), m["side"]
                    levels = book["bid" if side == "yes" else "ask"]
                    price = price if side == "yes" else 1 - price
                    levels[price] = levels.get(price, Decimal(0)) + Decimal(m["delta_fp"])
                    if levels[price] == 0:
                        del levels[price]
        recording.books = dict(books)
        return recording


@pytest.fixture(scope="session")
def made_recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """30,000 frames of three made-up markets in the shapes of Kalshi's feed, from a fixed seed."""
    rng = random.Random(20260811)
    path = tmp_path_factory.mktemp("recording") / "made.ndjson.gz"
    books = {f"KXMADE-26AUG11-T{i}.5": {"yes": {}, "no": {}} for i in range(3)}
    ms, seq = 1_786_410_915_524, {1: 100, 2: 7}
    with gzip.open(path, "wb") as file:

        def write(kind: str, sid: int, message: dict[str, object]) -> None:
            seq[sid] += rng.choice([1, 1, 1, 4])  # the recorder's subscription carried other markets too
            event = {"type": kind, "sid": sid, "seq": seq[sid], "msg": message}
            file.write(json.dumps({"recv_ms": ms, "event": event}, separators=(",", ":")).encode() + b"\n")

        for symbol, book in books.items():
            for side in book.values():
                side.update({cents: rng.randint(1, 900) * 100 for cents in rng.sample(range(1, 49), 12)})
            snapshot: dict[str, object] = {"market_ticker": symbol, "market_id": f"id-{symbol}"}
            for name, side in book.items():
                snapshot[f"{name}_dollars_fp"] = [
                    [f"{p / 100:.4f}", f"{s // 100}.{s % 100:02d}"] for p, s in sorted(side.items())
                ]
            write("orderbook_snapshot", 1, snapshot)
        for i in range(30_000):
            ms += rng.choice([0, 0, 1, 30])
            symbol = rng.choice(list(books))
            side = rng.choice(["yes", "no"])
            if i % 40 == 0:
                cents = rng.randint(2, 98)
                trade = {
                    "trade_id": f"{i:08x}",
                    "market_ticker": symbol,
                    "yes_price_dollars": f"{cents / 100:.4f}",
                    "no_price_dollars": f"{1 - cents / 100:.4f}",
                    "count_fp": f"{rng.randint(1, 5000) / 100:.2f}",
                    "taker_side": side,
                    "taker_outcome_side": side,
                    "taker_book_side": "bid" if side == "yes" else "ask",
                    "ts": ms // 1000,
                    "ts_ms": ms,
                }
                write("trade", 2, trade)
                continue
            levels = books[symbol][side]
            cents = rng.choice(range(1, 49))
            now = levels.get(cents, 0)
            change = -now if now and rng.random() < 0.3 else rng.randint(1, 90_000)
            levels[cents] = now + change
            sign, size = ("-" if change < 0 else ""), abs(change)
            delta = {
                "market_ticker": symbol,
                "market_id": f"id-{symbol}",
                "price_dollars": f"{cents / 100:.4f}",
                "delta_fp": f"{sign}{size // 100}.{size % 100:02d}",
                "side": side,
                "ts": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms // 1000)) + f".{ms % 1000:03d}Z",
                "ts_ms": ms,
            }
            write("orderbook_delta", 1, delta)
    return Recording.read(path)


@dataclass
class Up:
    """A running `ssmd up`."""

    process: subprocess.Popen[str]
    data: Path

    def find(self, service: str) -> list[int]:
        """Process ids of a service of this run."""
        wanted = [f"services.{service}".encode(), str(self.data).encode()]
        found = []
        for proc in Path("/proc").iterdir():
            if proc.name.isdigit():
                try:
                    command = (proc / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if all(w in command for w in wanted):
                    found.append(int(proc.name))
        return found

    def wait(self, condition: Callable[[], object], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end and self.process.poll() is None, "it ended, or never came so far"
            time.sleep(0.005)

    def journalled(self) -> int:
        """Bytes that were journalled so far; segments that went already count by their number."""
        files = list((self.data / "journal").glob("*/*.journal"))
        return sum(f.stat().st_size for f in files) + (64 << 20) * (min((int(f.stem) for f in files), default=1) - 1)

    def kill(self, service: str) -> None:
        """kill -9 a service, once it runs."""
        self.wait(lambda: self.find(service))
        for pid in self.find(service):
            os.kill(pid, signal.SIGKILL)

    def finish(self, seconds: float = 120) -> str:
        """Wait for its end; its output."""
        try:
            output, _ = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGTERM)
            output, _ = self.process.communicate(timeout=30)
            pytest.fail(f"ssmd up did not end within {seconds} s:\n{output}")
        return output


def start_up(data: Path, *options: str) -> Up:
    command = [sys.executable, "-m", "ssmd", "up", "--data", str(data), *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return Up(process, data)


def query(data: Path, sql: str) -> list[dict[str, object]]:
    """`ssmd query` as a user calls it."""
    command = [sys.executable, "-m", "ssmd", "query", sql, "--data", str(data), "--format", "ndjson"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [json.loads(line, parse_float=Decimal) for line in done.stdout.splitlines()]


def archived_frames(data: Path) -> dict[str, list[tuple[int, bytes, dict[str, object]]]]:
    """Every archived line by connection, in order of n: (n, frame bytes, the line), read with gzip and json alone."""
    found: dict[str, list[tuple[int, bytes, dict[str, object]]]] = defaultdict(list)
    for manifest in data.glob("archive/*/*/manifest.json"):
        for segment in json.loads(manifest.read_text())["segments"]:
            with gzip.open(manifest.parent / segment["name"], "rb") as file:
                for raw in file:
                    line = json.loads(raw)
                    frame = raw[raw.index(b'"frame":') + 8 : -2]
                    found[line["conn"]].append((line["n"], frame, line | {"channel": segment["channel"]}))
    return {conn: sorted(lines, key=lambda item: item[0]) for conn, lines in found.items()}


def sent_frames(data: Path) -> dict[str, list[tuple[int | None, bytes]]]:
    """What the simulator says it sent, by connection, in order: (place in the recording, frame bytes)."""
    found: dict[str, list[tuple[int | None, bytes]]] = defaultdict(list)
    for log in data.glob("logs/*.truth.ndjson"):
        with log.open("rb") as file:
            for raw in file:
                line = json.loads(raw)
                found[line["conn"]].append((line["tape"], raw[raw.index(b'"frame":') + 8 : -2]))
    return dict(found)
