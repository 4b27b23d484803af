"""What is measured. Each subject runs in a process of its own, and fails by being a row that says why."""

import importlib
import multiprocessing
from multiprocessing.connection import Connection
from typing import NamedTuple

import msgspec

from bench import parts
from bench.figures import Measured, Row
from bench.size import Size


class Subject(NamedTuple):
    """Where it is measured, and how long that may take."""

    module: str
    function: str
    seconds: int


SUBJECTS = {
    "ingest": Subject("bench.ingest", "run", 150),
    "cryptofeed": Subject("bench.cryptofeed", "run", 90),
    "archive": Subject("bench.archive", "run", 120),
    "latency": Subject("bench.latency", "run", 150),
    "pauses": Subject("bench.pauses", "run", 210),
    "load": Subject("bench.chain", "load", 180),
    "symbols": Subject("bench.chain", "symbols", 180),
    "rollup": Subject("bench.rollup", "run", 150),
    "query": Subject("bench.queries", "run", 360),
    "messages": Subject("bench.messages", "run", 60),
    "memory": Subject("bench.memory", "run", 240),
    "startup": Subject("bench.startup", "run", 90),
    "hotspots": Subject("bench.hotspots", "run", 90),
}
MEMORY_LONG = "memory-long"  # in the page beside the usual few minutes


def apart(name: str, subject: Subject, size: Size) -> Measured:
    """Measure one subject in a process of its own, for as long as it may take."""
    seconds = subject.seconds + size.minutes * 60 * (name == "memory")
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=within, args=(name, subject, size, theirs))
    process.start()
    theirs.close()
    try:
        if ours.poll(seconds):
            return msgspec.json.decode(ours.recv_bytes(), type=Measured)
        return failed(name, f"it took more than {seconds:.0f} s")
    except EOFError:
        process.join()
        return failed(name, f"its process ended with {process.exitcode}")
    finally:
        process.kill()  # its own processes die with it
        process.join()


def within(name: str, subject: Subject, size: Size, answer: Connection) -> None:
    """What the process does."""
    parts.die_with_parent()
    try:
        measured = getattr(importlib.import_module(subject.module), subject.function)(size)
    except Exception as e:  # whatever it was, the table says it
        measured = failed(name, str(e) if isinstance(e, parts.Failed) else f"{type(e).__name__}: {e}")
    answer.send_bytes(msgspec.json.encode(measured))


def failed(name: str, why: str) -> Measured:
    return Measured([Row(name, "", failed=why.replace(f"{parts.ROOT}/", ""))])
