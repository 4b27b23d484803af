"""python -m bench.scale: what a million frames, a venue's day and a year cost, from the figures kept of this machine.

Writes the tables into docs/scaling.md. CPU comes from docs/bench/results.json, bytes from docs/bench/bytes.json, which
`python -m bench.scale --measure` makes anew from every venue's simulator.
"""

import argparse
import statistics
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench import figures, parts, venue_day
from bench.figures import Figures
from bench.venue_day import Bytes

KEPT = parts.ROOT / "docs/bench"
PAGE = parts.ROOT / "docs/scaling.md"
BEGIN, END = "<!-- made by python -m bench.scale -->", "<!-- end -->"
FRAMES, FRAMES_PER_SECOND = 120_000, 200.0  # measured of each venue: ten minutes of a quiet one
MILLION, DAY_SECONDS, YEAR_DAYS, GB = 1_000_000, 86_400, 365, 1e9
RATES = (200, 1_000, 5_000)  # frames a second over a whole day: a quiet venue, a busy one, all of a large one
CORE_HOUR = 0.045  # US dollars: a virtual core of a compute instance, on demand, at the large clouds
GB_MONTH = 0.023  # US dollars: object storage of the standard class there


class Cost(NamedTuple):
    """CPU in core-seconds, data in bytes, of some frames."""

    connector: float
    archiver: float
    rollup: float
    stream: float  # in NATS, in each replica, until it is archived and purged
    archive: float
    lake: float

    @property
    def cpu(self) -> float:
        return self.connector + self.archiver + self.rollup

    @property
    def kept(self) -> float:
        return self.archive + self.lake


class Speeds(NamedTuple):
    """Of one core: frames a second, and rows a second."""

    connector: float
    archiver: float
    rollup: float


def speeds(found: Figures) -> Speeds:
    """Medians of what was measured. Raises KeyError naming what is not among the figures."""

    def median(subject: str, what: str, unit: str) -> float:
        for row in found.subjects[subject].rows:
            if (row.what, row.unit) == (what, unit) and row.ours:
                return statistics.median(row.ours)
        raise KeyError(f"docs/bench/results.json has no {what}, {unit}: run `python -m bench {subject}`")

    return Speeds(
        median("ingest", "socket → acked in JetStream", "frames per core-second"),
        median("archive", "JetStream → synced archive", "frames per core-second"),
        median("rollup", "rollup, 1 thread", "rows/s"),
    )


def cost(frames: float, measured: Bytes, speed: Speeds) -> Cost:
    """What so many frames of a venue cost."""
    share = frames / measured.frames
    return Cost(
        connector=frames / speed.connector,
        archiver=frames / speed.archiver,
        rollup=measured.rows * share / speed.rollup,
        stream=measured.lines * share,
        archive=measured.archive * share,
        lake=measured.lake * share,
    )


def tables(found: Figures, measured: dict[str, Bytes]) -> str:
    """The section of docs/scaling.md, between its marks."""
    speed = speeds(found)
    told = [
        f"One core takes {speed.connector:,.0f} frames a second in the connector, {speed.archiver:,.0f} in the",
        f"archiver, and makes {speed.rollup:,.0f} rows a second in the rollup ({found.machine}; BENCHMARKS.md).",
        "",
        "Bytes of a frame, and what a million frames cost:",
        "",
        "| venue | as sent | journal, NATS | archive | lake | rows | connector | archiver | rollup | kept |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, some in measured.items():
        one, million = cost(1, some, speed), cost(MILLION, some, speed)
        told.append(
            f"| {name} | {some.wire / some.frames:.0f} B | {one.stream:.0f} B | {one.archive:.1f} B | {one.lake:.1f} B "
            f"| {some.rows / some.frames:.2f} | {million.connector:.1f} s | {million.archiver:.1f} s "
            f"| {million.rollup:.1f} s | {million.kept / 1e6:.0f} MB |"
        )
    every = _together(measured)
    told += [
        "",
        f"A venue's day and its first year, for the mean of these venues, at {CORE_HOUR:g} $ a core-hour and "
        f"{GB_MONTH:g} $ a GB-month:",
        "",
        "| frames/s | frames/day | CPU/day | in NATS/day | kept/day | kept after a year | CPU/year | storage/year |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for rate in RATES:
        day = cost(rate * DAY_SECONDS, every, speed)
        year_gb = day.kept * YEAR_DAYS / GB
        told.append(
            f"| {rate:,} | {rate * DAY_SECONDS / 1e6:.1f} M | {day.cpu / 3600:.2f} core-h | {day.stream / GB:.1f} GB "
            f"| {day.kept / GB:.2f} GB | {year_gb / 1000:.2f} TB | {day.cpu / 3600 * YEAR_DAYS * CORE_HOUR:,.0f} $ "
            f"| {year_gb * 12 / 2 * GB_MONTH:,.0f} $ |"
        )
    return "\n".join(told)


def _together(measured: dict[str, Bytes]) -> Bytes:
    """Frames of all venues, each venue as many."""
    most = max(some.frames for some in measured.values())
    scaled = [[value * most / some.frames for value in msgspec.structs.astuple(some)] for some in measured.values()]
    return Bytes(*(round(sum(column)) for column in zip(*scaled, strict=True)))


def page(text: str, section: str) -> str:
    """The page with the section in its place."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    assert rest and after, f"{PAGE} has lost its marks {BEGIN} and {END}"
    return f"{before}{BEGIN}\n\n{section}\n\n{END}{after}"


def load(path: Path) -> dict[str, Bytes]:
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Bytes])


def write(found: Figures) -> None:
    """Make the page's tables anew."""
    PAGE.write_text(page(PAGE.read_text(), tables(found, load(KEPT / "bytes.json"))))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description="Reckon what capture costs.")
    parser.add_argument("--measure", action="store_true", help="bytes anew, from every venue's simulator (minutes)")
    args = parser.parse_args()
    if args.measure:
        made = {feed: venue_day.measure(feed, FRAMES, FRAMES_PER_SECOND) for feed in venue_day.FEEDS}
        (KEPT / "bytes.json").write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=1) + b"\n")
    write(figures.load(KEPT / "results.json"))


if __name__ == "__main__":
    main()
