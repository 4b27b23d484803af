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
    "ingest": Subject("ingest", "run", 150),
    "cryptofeed": Subject("cryptofeed", "run", 90),
    "archive": Subject("archive", "run", 120),
    "latency": Subject("latency", "run", 150),
    "load": Subject("chain", "load", 180),
    "symbols": Subject("chain", "symbols", 180),
    "rollup": Subject("rollup", "run", 150),
    "query": Subject("query", "run", 300),
    "memory": Subject("memory", "run", 240),
    "startup": Subject("startup", "run", 90),
    "hotspots": Subject("hotspots", "run", 90),
}


def apart(name: str, size: Size) -> Measured:
    """Measure one subject in a process of its own, for as long as it may take."""
    subject = SUBJECTS[name]
    seconds = subject.seconds + size.minutes * 60 * (name == "memory")
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=within, args=(subject, size, theirs))
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


def within(subject: Subject, size: Size, answer: Connection) -> None:
    try:
        measured = getattr(importlib.import_module(f"bench.{subject.module}"), subject.function)(size)
    except Exception as e:  # whatever it was, the table says it
        measured = failed(subject.module, str(e) if isinstance(e, parts.Failed) else f"{type(e).__name__}: {e}")
    answer.send_bytes(msgspec.json.encode(measured))


def failed(name: str, why: str) -> Measured:
    return Measured([Row(name, "", failed=why)])
