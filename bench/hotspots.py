"""Where the time goes: py-spy on connector, archiver and rollup at full rate, by the function that was running."""

import contextlib
import re
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvloop

from bench import archive, chain, corpus, parts, rollup
from bench.figures import Measured, Table
from bench.size import Size

SAMPLES_PER_SECOND = 250
ATTACH_SECONDS = 0.5  # until py-spy has found its way in
TOP = 12  # functions of each
SHARE_MIN = 0.01  # of a package, where it has the most
_FRAME = re.compile(r"(.+) \((.+?)(:\d+)?\)$")
_WAITING = ("threading.py", "selectors.py", "concurrent/", "multiprocessing/")  # threads with nothing to do


def run(size: Size) -> Measured:
    spy = shutil.which("py-spy") or shutil.which(str(Path(sys.executable).parent / "py-spy"))
    if spy is None:
        raise parts.Failed("there is no py-spy on PATH: pip install py-spy")
    count = 2 * size.frames
    found = {
        "connector": connector(spy, count),
        "archiver": archiver(spy, count),
        "rollup": rolling(spy, 2 * count),
    }
    return Measured(tables=[by_package(found), *(by_function(name, counts) for name, counts in found.items())])


def connector(spy: str, count: int) -> Counter[str]:
    """From the first frame to the last acknowledgement."""
    frames = corpus.make(chain.BODY_FRAMES, chain.MARKETS)
    with parts.scratch() as folder, parts.Blaster(folder, frames) as blaster, parts.Nats(folder) as server:
        config = parts.configure(folder, server, blaster, frames.symbols)
        with parts.Connector(folder, config, blaster) as running, sampled(spy, running, folder) as found:
            blaster.send(count)
            parts.until(lambda: running.caught_up(blaster.opening + count), "all is acknowledged")
    return found


def archiver(spy: str, count: int) -> Counter[str]:
    """From soon after it began with a full stream, until all of it is committed."""
    with parts.scratch() as folder, parts.Nats(folder) as server:
        uvloop.run(archive.fill(server.url, count))
        config = parts.configure(folder, server, None, ["unused"])
        with parts.Service("archiver", folder, config) as running:
            parts.until(lambda: running.ready, "the archiver is ready", 20, 0.002)
            with sampled(spy, running, folder) as found:
                parts.until(lambda: archived(running.status, count), "all is archived")
    return found


def archived(status: dict[str, Any], count: int) -> bool:
    return status.get("archived", 0) >= count and not status["buffered_bytes"]


def rolling(spy: str, count: int) -> Counter[str]:
    """On one thread, without the start of its processes."""
    with parts.scratch() as folder:
        rollup.make_day(folder / "archive", rollup.DATE, count, rollup.HOURS)
        rollup.make_day(folder / "archive", rollup.SMALL_DATE, 100, rollup.HOURS)
        command = [sys.executable, "-m", "bench.rollup", "ours", str(folder), str(folder / "lake"), "1"]
        with parts.Part("rollup", command, folder) as part:
            part.told("ready")
            with sampled(spy, part, folder, "--subprocesses") as found:
                part.order("go")
                part.told("done")
    return found


@contextlib.contextmanager
def sampled(spy: str, part: parts.Part, folder: Path, *options: str) -> Iterator[Counter[str]]:
    """How often each function was the one running, known afterwards."""
    path = folder / "samples"
    command = [spy, "record", "--nonblocking", "--format", "raw", "--output", str(path), "--pid", str(part.pid)]
    command += ["--rate", str(SAMPLES_PER_SECOND), "--duration", "unlimited", *options]
    found: Counter[str] = Counter()
    with parts.Part("py-spy", command, folder) as sampling:
        time.sleep(ATTACH_SECONDS)
        yield found
        sampling.process.send_signal(signal.SIGINT)
        sampling.process.wait(20)
        if not path.exists():
            raise parts.Failed(f"py-spy cannot look at {part.name}: {sampling.last_words()}")
    for line in path.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        running = function(stack.split(";")[-1])
        if running and not any(f"({waiting}" in running for waiting in _WAITING):
            found[running] += int(count)


def function(frame: str) -> str:
    """`name (file)`, without line numbers and where the package is installed; nothing if it is none."""
    match = _FRAME.match(frame)
    if match is None:
        return ""
    where = match[2].removeprefix(f"{parts.ROOT}/").rpartition("site-packages/")[2].rpartition("lib/python3.")[2]
    return f"{match[1]} ({where})"


def by_function(name: str, found: Counter[str]) -> Table:
    total = sum(found.values())
    lines = [[f"{count / total:.0%}", what] for what, count in found.most_common(TOP)]
    return Table(f"Functions of the {name} ({total:,} samples)", ["share", "function"], lines)


def by_package(found: dict[str, Counter[str]]) -> Table:
    shares: dict[str, dict[str, float]] = {}
    for name, counts in found.items():
        total = sum(counts.values())
        for what, count in counts.items():
            of = shares.setdefault(package(what), dict.fromkeys(found, 0.0))
            of[name] += count / total
    lines = [
        [what, *(f"{share:.0%}" for share in of.values())]
        for what, of in sorted(shares.items(), key=lambda item: -sum(item[1].values()))
        if max(of.values()) >= SHARE_MIN
    ]
    return Table("Where the time goes, by package", ["package", *found], lines)


def package(what: str) -> str:
    """The package of a function, or of ours the module."""
    where = what.rpartition("(")[2].rstrip(")")
    ours = where.split("/")[0] in {"ssmd", "exchanges", "activities", "services"}
    return where if ours else where.split("/")[0] if "/" in where else "Python"
