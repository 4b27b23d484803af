"""The curves as SVG: the same figures always give the same bytes."""

import statistics
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from bench.figures import Curve, Figures, number

OURS, OTHERS = "#1f5fa8", "#b9bec6"
COLOURS = ("#1f5fa8", "#d9822b", "#3a8a4d", "#8a8f98", "#a23b72", "#6b4fa0")
mpl.rcParams.update({"svg.hashsalt": "ssmd", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})


def draw(figures: Figures, folder: Path) -> None:
    """One file per picture."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures: dict[str, list[Curve]] = {}
    for found in figures.subjects.values():
        for curve in found.curves:
            pictures.setdefault(curve.picture, []).append(curve)
    for name, curves in pictures.items():
        figure = Figure(figsize=(7.2, 1.2 + 0.3 * len(curves) if name in _BARS else 3.4), layout="constrained")
        axes = figure.subplots()
        _DRAWN[name](axes, curves)
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})


def bars(axes: Axes, curves: list[Curve], unit: str) -> None:
    """The median of the rounds, with their range."""
    for place, curve in enumerate(reversed(curves)):
        middle = statistics.median(curve.y)
        colour = OURS if "ssmd" in curve.label else OTHERS
        spread = [[middle - min(curve.y)], [max(curve.y) - middle]]
        axes.barh(place, middle, color=colour, height=0.65, xerr=spread, error_kw={"elinewidth": 0.8})
        axes.annotate(number(middle), (max(curve.y), place), (4, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(curves)), [curve.label for curve in reversed(curves)])
    axes.margins(x=0.12)
    axes.set_xlabel(unit)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: number(x)))


def latency(axes: Axes, curves: list[Curve]) -> None:
    """Percentiles at equal distances for each nine more."""
    rates = sorted(
        {curve.label.split(", ", 1)[1] for curve in curves}, key=lambda r: float(r.split()[0].replace(",", ""))
    )
    shares = [share for share in curves[0].x if share < 100]
    for curve in curves:
        who, rate = curve.label.split(", ", 1)
        xs = [1 / (1 - share / 100) for share in shares]
        style = "-" if who == "ssmd" else ":"
        axes.plot(xs, curve.y[: len(xs)], style, color=COLOURS[rates.index(rate)], label=curve.label)
    axes.set(xscale="log", yscale="log", ylabel="µs", xlabel="percentile")
    axes.set_xticks([1 / (1 - share / 100) for share in shares], [f"{share:g}" for share in shares], fontsize=8)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: number(y)))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)


def lines(axes: Axes, curves: list[Curve], x: str, y: str, log: bool) -> None:
    for colour, curve in zip(COLOURS, curves, strict=False):
        axes.plot(curve.x, curve.y, "o-" if log else "-", color=colour, label=curve.label, markersize=4)
    if log:
        axes.set_xscale("log")
        axes.set_xticks(curves[0].x, [number(value) for value in curves[0].x])
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel=x, ylabel=y)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)


_CPU = "µs of CPU per frame"
_BARS = {"throughput", "rollup"}
_DRAWN: dict[str, Callable[[Axes, list[Curve]], None]] = {
    "throughput": lambda axes, curves: bars(axes, curves, "frames per core-second"),
    "rollup": lambda axes, curves: bars(axes, curves, "rows/s"),
    "latency": latency,
    "load": lambda axes, curves: lines(axes, curves, "frames/s", _CPU, log=True),
    "symbols": lambda axes, curves: lines(axes, curves, "symbols", _CPU, log=True),
    "memory": lambda axes, curves: lines(axes, curves, "minutes", "MB resident", log=False),
    "memory-long": lambda axes, curves: lines(axes, curves, "minutes", "MB resident", log=False),
}
