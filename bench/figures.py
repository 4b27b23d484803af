"""What a measurement gives: rows of ratios, curves for the pictures, tables; kept as JSON beside the pictures."""

import os
import platform
import statistics
from pathlib import Path

import msgspec

from bench import parts


class Row(msgspec.Struct, frozen=True):
    """One comparison. `ours` and `theirs` have one value per round, in the same unit; a target is on one of both.

    `failed` says why there is nothing to compare.
    """

    what: str
    unit: str
    ours: list[float] = []
    beside: str = ""
    theirs: list[float] = []
    more_is_better: bool = True
    ratio_min: float | None = None  # target: how many times better than the other
    ours_min: float | None = None  # target: of our own median
    ours_max: float | None = None
    note: str = ""
    failed: str = ""

    @property
    def ratios(self) -> list[float]:
        """How many times better ours is, round by round."""
        pairs = zip(self.ours, self.theirs, strict=True)
        return [(a / b if self.more_is_better else b / a) for a, b in pairs if a > 0 and b > 0]

    @property
    def ratio(self) -> float | None:
        return statistics.median(self.ratios) if self.ratios else None

    @property
    def met(self) -> bool | None:
        """Whether the targets are reached; None where there are none."""
        if self.ratio_min is self.ours_min is self.ours_max is None:
            return None
        if self.failed or not self.ours:
            return False
        ours = statistics.median(self.ours)
        return (
            (self.ratio_min is None or (self.ratio is not None and self.ratio >= self.ratio_min))
            and (self.ours_min is None or ours >= self.ours_min)
            and (self.ours_max is None or ours <= self.ours_max)
        )

    @property
    def target(self) -> str:
        told = [f"≥ {self.ratio_min:g}×"] if self.ratio_min is not None else []
        told += [f"≥ {number(self.ours_min)}"] if self.ours_min is not None else []
        told += [f"≤ {number(self.ours_max)}"] if self.ours_max is not None else []
        return ", ".join(told)


class Curve(msgspec.Struct, frozen=True):
    """A line of a picture."""

    picture: str
    label: str
    x: list[float]
    y: list[float]


class Table(msgspec.Struct, frozen=True):
    """What needs more columns than a row has."""

    title: str
    header: list[str]
    lines: list[list[str]]


class Measured(msgspec.Struct):
    """What one subject gave."""

    rows: list[Row] = []
    curves: list[Curve] = []
    tables: list[Table] = []
    seconds: float = 0.0


class Figures(msgspec.Struct):
    """All subjects measured on one machine. `commit` is named where it is not the tree the page is in."""

    machine: str
    subjects: dict[str, Measured] = {}
    commit: str = ""


def machine() -> str:
    """As much of this machine as a reader needs, and nothing that names it."""
    python = ".".join(platform.python_version_tuple()[:2])
    return f"{os.cpu_count()} cores, {platform.system()}, Python {python}, files on {parts.filesystem()}"


def load(path: Path) -> Figures:
    return msgspec.json.decode(path.read_bytes(), type=Figures)


def kept(path: Path) -> Figures:
    """What was measured on this machine before; nothing where it was another one."""
    found = load(path) if path.exists() else Figures(machine())
    return found if found.machine == machine() else Figures(machine())


def save(path: Path, figures: Figures) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=1) + b"\n")


def number(value: float) -> str:
    """Three significant digits, thousands apart."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
