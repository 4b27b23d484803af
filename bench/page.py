"""BENCHMARKS.md from the figures: a function of what was measured."""

import statistics
from collections.abc import Sequence

from bench.figures import Figures, Row, Table, number

INTRO = """\
# Benchmarks

Written by `make bench`; what a person says about it is in `docs/bench/reading.md`. Each row is a ratio between ssmd
and a peer, or a limit (what the machine does if one leaves out all that ssmd adds), measured in the same run on the
same input: both in turn, several rounds, each in processes of their own. The ratio is the median of the rounds, its
range stands beside it; above 1 ssmd is the better one. All that is promised about durability is included: the syncs of
journal, archive and lake.

`make bench` takes about a quarter of an hour on two cores; `python -m bench SUBJECT …` measures only some subjects,
`make bench-memory` watches memory for half an hour, `make bench-peers` installs cryptofeed, apart from ssmd. The
frames are made up by the Kalshi simulator from a fixed seed: 55 % book deltas, 43 % tickers, 2 % trades, of 314 bytes
on average.
"""
PICTURES = {
    "throughput": "Frames per core-second: how many frames one core of the measured process handles in a second.",
    "latency": "From right before the venue's socket write until another process has the frame from NATS.",
    "load": "What a frame costs in CPU while more of them come.",
    "symbols": "What a frame costs in CPU while the frames are about more instruments.",
    "memory": "Resident memory while 5,000 frames flow each second.",
    "memory-long": "The same for longer.",
    "rollup": "Archived frames turned into rows of Parquet.",
}
HEADER = ["subject", "what", "unit", "ssmd", "beside", "peer", "ratio", "target", ""]


def page(figures: Figures, before: Figures | None, reading: str) -> str:
    """All of it. `reading` is what a person has to say about it."""
    minutes = sum(found.seconds for found in figures.subjects.values()) / 60
    told = [INTRO, f"Measured on: {figures.machine}; in {minutes:.0f} minutes.\n"]
    lines = [line(name, row) for name, found in figures.subjects.items() for row in found.rows]
    told += ["## Figures\n", markdown(HEADER, lines)]
    curves = {curve.picture for found in figures.subjects.values() for curve in found.curves}
    told += ["## Pictures\n"]
    told += [f"![{name}](docs/bench/{name}.svg)\n\n{said}\n" for name, said in PICTURES.items() if name in curves]
    if reading:
        told += [reading]
    told += ["## In detail\n"]
    told += [f"### {t.title}\n\n{table(t)}" for found in figures.subjects.values() for t in found.tables]
    if before is not None:
        told += [f"## Before (commit {before.commit})\n", markdown(*changes(before, figures))]
        told += [f"### Before: {t.title}\n\n{table(t)}" for found in before.subjects.values() for t in found.tables]
    return "\n".join(told)


def line(name: str, row: Row) -> list[str]:
    """One row of the table, as text."""
    if row.failed:
        return [name, row.what, row.unit, f"not measured: {row.failed}", row.beside, "", "", row.target, mark(row)]
    what = f"{row.what} ({row.note})" if row.note else row.what
    ours, theirs = number(statistics.median(row.ours)), number(statistics.median(row.theirs))
    return [name, what, row.unit, ours, row.beside, theirs, ratio(row), row.target, mark(row)]


def ratio(row: Row) -> str:
    if row.ratio is None:
        return ""
    low, high = min(row.ratios), max(row.ratios)
    spread = f" ({low:.2f}–{high:.2f})" if len(row.ratios) > 1 else ""
    return f"{row.ratio:.2f}{spread}"


def mark(row: Row) -> str:
    return {True: "met", False: "**not met**", None: ""}[row.met]


def changes(before: Figures, now: Figures) -> tuple[list[str], list[list[str]]]:
    """Each row of the earlier figures, with what the same row says now."""
    known = {(name, row.what, row.unit, row.beside): row for name, found in now.subjects.items() for row in found.rows}
    lines = []
    for name, found in before.subjects.items():
        for row in found.rows:
            if row.failed:
                continue
            new = known.get((name, row.what, row.unit, row.beside))
            later = [number(statistics.median(new.ours)), ratio(new)] if new is not None and new.ours else ["", ""]
            lines.append(
                [name, row.what, row.unit, row.beside, number(statistics.median(row.ours)), ratio(row), *later]
            )
    return ["subject", "what", "unit", "beside", "then", "ratio then", "now", "ratio now"], lines


def table(given: Table) -> str:
    return markdown(given.header, given.lines)


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "".join("| " + " | ".join(cell.replace("|", "/") for cell in row) + " |\n" for row in rows)
