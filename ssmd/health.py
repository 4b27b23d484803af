"""A feed's day as one number: what it is made of, and how it is said.

Each part is marked from 0 (all of it is bad) to 1 (nothing is). The score is their mean by weight, times 100; a part
that cannot be had (no tables yet, a venue without times, no week to compare with) is left out, with its weight.

| part | weight | mark |
|---|---|---|
| coverage | 50 | the mean share of the day that is covered, over all instruments |
| gaps | 20 | the share of instruments that no unrepaired gap concerns |
| counts | 20 | frames by half the median of the week before, at most 1: a day with half the usual is no alarm |
| lag | 10 | 1 up to a 99th percentile of 1 s from the venue's time to ours, 0 from 60 s on, by its logarithm between |
"""

from collections.abc import Mapping, Sequence
from math import log
from statistics import median

from ssmd import jobs

WEIGHTS = {"coverage": 50, "gaps": 20, "counts": 20, "lag": 10}
LAG_GOOD_MS, LAG_BAD_MS = 1_000.0, 60_000.0
GOOD, FAIR = 99.0, 90.0  # from these scores on


def marks(
    covered: float | None, instruments: int, affected: int, frames: int, usual: int | None, lag_ms_p99: float | None
) -> dict[str, float]:
    """The mark of each part that can be had."""
    found: dict[str, float] = {}
    if covered is not None:
        found["coverage"] = covered
    if instruments:
        found["gaps"] = 1 - affected / instruments
    if usual:
        found["counts"] = min(1.0, frames / (usual / 2))
    if lag_ms_p99 is not None:
        beyond = log(max(lag_ms_p99, LAG_GOOD_MS) / LAG_GOOD_MS) / log(LAG_BAD_MS / LAG_GOOD_MS)
        found["lag"] = max(0.0, 1 - beyond)
    return found


def score(found: Mapping[str, float]) -> float:
    """0 to 100; 0 if nothing could be had."""
    weight = sum(WEIGHTS[part] for part in found)
    return round(100 * sum(WEIGHTS[part] * mark for part, mark in found.items()) / weight, 1) if weight else 0.0


def usual(frames: Sequence[int]) -> int | None:
    """The median of the days before; None if there are none."""
    return round(median(frames)) if frames else None


def grade(health: jobs.FeedHealth) -> str:
    return "good" if health.score >= GOOD else "fair" if health.score >= FAIR else "poor"


def lines(report: jobs.Reported) -> list[str]:
    """The report for people, a line per feed and what is odd below it."""
    told = []
    for h in report.feeds:
        covered = "no coverage" if h.covered is None else f"{100 * h.covered:.2f} % covered"
        usual_ = "" if h.frames_usual is None else f" (usually {h.frames_usual:,})"
        lag = "" if h.lag_ms_p99 is None else f", lag p50 {h.lag_ms_p50:,.0f} ms, p99 {h.lag_ms_p99:,.0f} ms"
        told.append(
            f"{h.feed}: {h.score:.1f} ({grade(h)}): {covered}, {h.gaps:,} gaps of {h.gap_seconds:,.0f} s on "
            f"{h.affected:,} of {h.instruments:,} instruments, {h.frames:,} frames{usual_}, "
            f"{h.quarantined:,} quarantined{lag}"
        )
        told += [f"  {note}" for note in h.notes]
    return told
