"""Where the time goes: py-spy on connector, archiver and rollup at full rate, by the function that was running."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import uvloop

from bench import archive, chain, corpus, parts, rollup
from bench.figures import Measured, Table
from bench.size import Size

SAMPLES_PER_SECOND = 250
TOP = 12  # functions of each
SHARE_MIN = 0.01  # of a package, where it has the most
_FRAME = re.compile(r"(.+) \((.+?)(:\d+)?\)$")
_WAITING = ("threading.py", "selectors.py", "concurrent/", "multiprocessing/")  # threads with nothing to do


def run(size: Size) -> Measured:
    spy = shutil.which("py-spy") or shutil.which(str(Path(sys.executable).parent / "py-spy"))
    if spy is None:
        raise parts.Failed("there is no py-spy on PATH: pip install py-spy")
    count = 2 * size.frames  # so that it has not ended before the last sample
    found = {
        "connector": connector(spy, count, size.seconds),
        "archiver": archiver(spy, count, size.seconds),
        "rollup": rolling(spy, 2 * count, size.seconds),
    }
    return Measured(tables=[by_package(found), *(by_function(name, counts) for name, counts in found.items())])


def connector(spy: str, count: int, seconds: float) -> Counter[str]:
    frames = corpus.make(chain.BODY_FRAMES, chain.MARKETS)
    with parts.scratch() as folder, parts.Blaster(folder, frames) as blaster, parts.Nats(folder) as server:
        config = parts.configure(folder, server, blaster, frames.symbols)
        with parts.Connector(folder, config, blaster) as running:
            blaster.send(count)
            return sampled(spy, running, folder, seconds)


def archiver(spy: str, count: int, seconds: float) -> Counter[str]:
    with parts.scratch() as folder, parts.Nats(folder) as server:
        uvloop.run(archive.fill(server.url, count))
        config = parts.configure(folder, server, None, ["unused"])
        with parts.Service("archiver", folder, config) as running:
            parts.until(lambda: running.ready, "the archiver is ready", 20, 0.002)
            return sampled(spy, running, folder, seconds)


def rolling(spy: str, count: int, seconds: float) -> Counter[str]:
    with parts.scratch() as folder:
        rollup.make_day(folder / "archive", rollup.DATE, count, rollup.HOURS)
        rollup.make_day(folder / "archive", rollup.SMALL_DATE, 100, rollup.HOURS)
        command = [sys.executable, "-m", "bench.rollup", "ours", str(folder), str(folder / "lake"), "1"]
        with parts.Part("rollup", command, folder) as part:
            part.told("ready")
            part.order("go")
            return sampled(spy, part, folder, seconds, "--subprocesses")


def sampled(spy: str, part: parts.Part, folder: Path, seconds: float, *options: str) -> Counter[str]:
    """How often each function was the one running."""
    path = folder / "samples"
    command = [
        spy,
        "record",
        "--nonblocking",
        "--format",
        "raw",
        "--output",
        str(path),
        "--pid",
        str(part.pid),
        *options,
    ]
    command += ["--rate", str(SAMPLES_PER_SECOND), "--duration", str(max(1, round(seconds)))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    if done.returncode or not path.exists():
        raise parts.Failed(f"py-spy cannot look at {part.name}: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    found: Counter[str] = Counter()
    for line in path.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        running = function(stack.split(";")[-1])
        if running and not any(f"({waiting}" in running for waiting in _WAITING):
            found[running] += int(count)
    return found


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
