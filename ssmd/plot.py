"""Pictures of prices, of books, and of a month's coverage. Gaps are shaded in the timeline's colours, with their cause.

matplotlib draws; its Figure is used without pyplot, so nothing is global and no display is needed.
"""

import calendar
import io
import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm, to_rgba
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ssmd import coverage, ledger, timeline, written
from ssmd.clock import DAY_NS, date_of
from ssmd.coverage import CONDITIONS, Coverage, Span
from ssmd.errors import Permanent
from ssmd.events import GapCause
from ssmd.lake import Lake

BUY, SELL = "#0072b2", "#e69f00"  # Okabe and Ito's
UNCOVERED = "#eceff1"
BARS_MAX = 300
QUOTES_MAX = 4000  # more are not to be told apart on a picture this wide
COLUMNS = 240
BINS_MAX = 160
DEPTH_LEVELS = 12  # of each side, at least
INSTRUMENTS_MAX = 40
STEPS_MS = [
    1,
    10,
    100,
    *(1000 * s for s in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 86400)),
]
STYLE = {
    "svg.hashsalt": "ssmd",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": timeline.FAINT,
    "text.color": timeline.INK,
    "axes.labelcolor": timeline.INK,
    "xtick.color": timeline.FAINT,
    "ytick.color": timeline.FAINT,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Range:
    """What is shown: an instrument from `start` to before `end` (ns)."""

    feed: str
    symbol: str
    start: int
    end: int

    @property
    def title(self) -> str:
        first, last = date_of(self.start), date_of(self.end - 1)
        return f"{self.feed}  {self.symbol}    {first if first == last else f'{first} to {last}'} UTC"


# --------------------------------------------------------------------------------------------------------- price


def price(lake: Lake, shown: Range, missing: Sequence[tuple[str, Span]]) -> Figure:
    """Prices of trades between the best bid and ask, over the volume by taker. Raises Permanent if there is nothing."""
    step = next((ms for ms in STEPS_MS if (shown.end - shown.start) / ms <= BARS_MAX * 1_000_000), STEPS_MS[-1])
    where = f"{_quoted(shown.symbol)}, {shown.start}, {shown.end}"
    named = f"feed := {_quoted(shown.feed)}"
    bars = lake.sql(f"FROM bars({where}, every := '{step} milliseconds', {named})").fetchnumpy()
    finest = (shown.end - shown.start) // QUOTES_MAX + 1
    quotes = lake.sql(
        f"SELECT ts_recv, bid, ask FROM top_of_book({where}, {named}) "  # noqa: S608 - our own words, quoted
        f"WHERE ts_until - ts_recv >= {finest} OR ts_recv // {finest} <> ts_until // {finest} OR n IS NULL "
        "ORDER BY ts_recv, conn, n"
    ).fetchnumpy()
    if not len(bars["ts_start"]) and not len(quotes["ts_recv"]):
        raise _nothing(shown, "trades and no book")
    price_unit, size_unit = _units(lake, shown)
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(11, 5.6), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        if len(quotes["ts_recv"]):
            times = _times(np.append(np.maximum(quotes["ts_recv"], shown.start), shown.end))
            bid, ask = (np.append(side, side[-1:]) for side in (_floats(quotes["bid"]), _floats(quotes["ask"])))
            above.fill_between(times, bid, ask, step="post", color=timeline.COVERED, alpha=0.55, lw=0)
            for side in (bid, ask):
                above.step(times, side, where="post", color="#5f9e8f", lw=0.6)
        if len(bars["ts_start"]):
            starts, width = _times(bars["ts_start"]), np.timedelta64(step, "ms")
            middles = starts + np.timedelta64(step * 500_000, "ns")
            above.vlines(middles, _floats(bars["low"]), _floats(bars["high"]), color=timeline.INK, lw=1.1)
            above.plot(middles, _floats(bars["close"]), ".", color=timeline.INK, ms=2.6)
            buy, sell = _floats(bars["buy_volume"]), _floats(bars["sell_volume"])
            other = np.maximum(_floats(bars["volume"]) - buy - sell, 0)
            bottom = np.zeros(len(buy))
            for part, colour in ((buy, BUY), (sell, SELL), (other, timeline.FAINT)):
                below.bar(starts, part, width=width, bottom=bottom, align="edge", color=colour, lw=0)
                bottom = bottom + part
        legend = [
            Patch(color=timeline.INK, label=f"trades: low to high, close of {_step(step)}"),
            Patch(color=timeline.COVERED, label="best bid to best ask"),
            Patch(color=BUY, label="taker bought"),
            Patch(color=SELL, label="taker sold"),
        ]
        _finish(figure, above, shown, legend, missing, [above, below])
        above.set_ylabel(f"price ({price_unit})")
        below.set_ylabel(f"volume per {_step(step)}\n({size_unit})")
        below.set_xlabel("time (UTC)")
        for axes in (above, below):
            axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.10g}"))
        return figure


# --------------------------------------------------------------------------------------------------------- depth


@dataclass(frozen=True)
class Sampled:
    """A book at a time: sizes by price, as floats; None if it was not known."""

    ts: int
    sides: dict[str, dict[float, float]] | None


def depth(lake: Lake, shown: Range, missing: Sequence[tuple[str, Span]]) -> Figure:
    """How much stood at which price around the best ones, over time. Raises Permanent if there was no book."""
    width = (shown.end - shown.start) / COLUMNS
    edges = [shown.start + int(i * width) for i in range(COLUMNS + 1)]
    books = list(sampled(lake, shown, edges[1:]))
    known = [book.sides for book in books if book.sides is not None and all(book.sides.values())]
    if not known:
        raise _nothing(shown, "book with two sides")
    low, high = _band(known)
    prices = sorted({p for sides in known for levels in sides.values() for p in levels if low <= p <= high})
    tick = min((b - a for a, b in itertools.pairwise(prices) if b - a > 1e-12), default=1.0)
    bins = min(BINS_MAX, max(1, round((high - low) / tick) + 1))
    bin_edges = np.linspace(low - tick / 2, high + tick / 2, bins + 1)
    grids = {side: np.zeros((bins, COLUMNS)) for side in ("bid", "ask")}
    best: dict[str, list[float]] = {"bid": [], "ask": []}
    for column, book in enumerate(books):
        for side, grid in grids.items():
            levels = book.sides[side] if book.sides is not None else {}
            best[side].append((max if side == "bid" else min)(levels, default=math.nan))
            for p, size in levels.items():
                if bin_edges[0] <= p <= bin_edges[-1]:
                    grid[min(int(np.searchsorted(bin_edges, p, "right")) - 1, bins - 1), column] += size
    price_unit, size_unit = _units(lake, shown)
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(11, 5.6), layout="constrained")
        axes = figure.subplots()
        times = _times(np.array(edges))
        sizes = np.concatenate([grid[grid > 0] for grid in grids.values()])
        norm = LogNorm(max(float(np.quantile(sizes, 0.02)), 1e-12), float(sizes.max()) * 1.0001)
        for side, name in (("ask", "Oranges"), ("bid", "Blues")):
            colours = ListedColormap(mpl.colormaps[name](np.linspace(0.18, 1, 256)))  # the palest is no paper
            shown_grid = np.ma.masked_less_equal(grids[side], 0)
            axes.pcolormesh(times, bin_edges, shown_grid, cmap=colours, norm=norm, rasterized=True)
            bar = figure.colorbar(ScalarMappable(norm, colours), ax=axes, pad=0.01, aspect=32, fraction=0.04)
            bar.set_label(f"{side} size ({size_unit})")
            bar.outline.set_visible(False)
            axes.step(times[1:], best[side], where="pre", color=timeline.INK, lw=0.8)
        legend = [Patch(color=timeline.INK, label="best bid and ask")]
        _finish(figure, axes, shown, legend, missing, [axes])
        axes.set_ylabel(f"price ({price_unit})" + (f", {bins} bins" if bins == BINS_MAX else ""))
        axes.set_xlabel("time (UTC)")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.10g}"))
        axes.set_ylim(bin_edges[0], bin_edges[-1])
        return figure


def sampled(lake: Lake, shown: Range, times: Sequence[int]) -> Iterator[Sampled]:
    """The book just before each of these times, in order."""
    where = f"{_quoted(shown.symbol)}, {shown.start}, {shown.end}, {_quoted(shown.feed)}"
    books = {
        book: (until, depth)
        for book, until, depth in lake.sql(
            f"SELECT book, known_until, depth FROM books_between({where})"  # noqa: S608 - quoted
        ).fetchall()
    }
    rows = lake.connection.execute(
        "SELECT ts_recv, book, n, side, price::DOUBLE, size::DOUBLE, change::DOUBLE "  # noqa: S608 - quoted
        f"FROM book_events({where}) ORDER BY book, place"
    )
    sides: dict[str, dict[float, float]] | None = None
    current, frame, at = None, None, 0

    def until(ts: int) -> Iterator[Sampled]:
        nonlocal at
        while at < len(times) and times[at] <= ts:
            ends, cut = books.get(current, (None, None))
            held = None if sides is None or (ends is not None and ends < times[at]) else sides
            yield Sampled(times[at], None if held is None else {s: _cut(s, held[s], cut) for s in held})
            at += 1

    while batch := rows.fetchmany(10_000):
        for ts, book, n, side, p, size, change in batch:
            yield from until(ts)
            if book != current:
                sides, current = {"bid": {}, "ask": {}}, book
            elif n != frame and sides is not None and books[book][1] is not None:
                sides = {s: _cut(s, levels, books[book][1]) for s, levels in sides.items()}
            frame = n
            if side is None or sides is None:
                continue
            standing = size if change is None else round(sides[side].get(p, 0.0) + change, 9)
            if standing:
                sides[side][p] = standing
            else:
                sides[side].pop(p, None)
    yield from until(times[-1])


def _cut(side: str, levels: dict[float, float], depth: int | None) -> dict[float, float]:
    """A copy, as deep as the venue keeps it."""
    if depth is None or len(levels) <= depth:
        return dict(levels)
    return {p: levels[p] for p in sorted(levels, reverse=side == "bid")[:depth]}


def _band(books: Sequence[dict[str, dict[float, float]]]) -> tuple[float, float]:
    """The prices between which some levels of either side lie most of the time."""
    lows, highs = [], []
    for sides in books:
        bids, asks = sorted(sides["bid"], reverse=True), sorted(sides["ask"])
        lows.append(bids[: DEPTH_LEVELS * 2][-1])
        highs.append(asks[: DEPTH_LEVELS * 2][-1])
    best_bids, best_asks = [max(s["bid"]) for s in books], [min(s["ask"]) for s in books]
    low, high = float(np.quantile(lows, 0.1)), float(np.quantile(highs, 0.9))
    return min(low, *best_bids), max(high, *best_asks)


# ------------------------------------------------------------------------------------------------------ coverage


def month(recorded: ledger.Recorded, year: int, number: int, now_ns: int) -> Figure:
    """A calendar of a feed's month: of each day and instrument, which share was covered, or in a gap, and why."""
    dates = [f"{year}-{number:02d}-{day:02d}" for day in range(1, calendar.monthrange(year, number)[1] + 1)]
    found: dict[str, dict[str, Coverage]] = {}  # by date and symbol
    for date in dates:
        if date in recorded.manifests:
            found[date] = {s: c for c in recorded.coverage(date, now_ns) for s in c.symbols}
    if not found:
        known = sorted({date[:7] for date in recorded.manifests})
        raise Permanent(f"nothing of {recorded.feed} is archived of {year}-{number:02d}: there is {', '.join(known)}")
    symbols = sorted({s for day in found.values() for s in day}, key=lambda s: _worst(found.values(), s))
    shown = symbols[:INSTRUMENTS_MAX]
    rows = ["all instruments", *shown]
    causes = [
        cause
        for cause in timeline.COLOURS
        if any(cause in c.gap_ns_by_cause for d in found.values() for c in d.values())
    ]
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(13, 1.9 + 0.3 * len(rows)), layout="constrained")
        axes = figure.subplots()
        for place, name in enumerate(rows):
            of_days = [[c for s, c in found.get(date, {}).items() if place == 0 or s == name] for date in dates]
            for column, cells in enumerate(of_days):
                _cell(axes, column, place, cells)
            axes.text(len(dates) + 0.25, place, _share(of_days), va="center", fontsize=8, color=timeline.FAINT)
        axes.text(len(dates) + 0.25, -0.75, "covered", va="center", fontsize=8, color=timeline.FAINT)
        axes.set(xlim=(-0.05, len(dates) + 2.2), ylim=(len(rows) - 0.45, -1.05))
        axes.set_xlabel(f"day of {year}-{number:02d} (UTC)")
        axes.set_xticks([i + 0.5 for i in range(len(dates))], [str(i + 1) for i in range(len(dates))])
        labels = [written.shortened(name, timeline.NAME_CHARACTERS_MAX) for name in rows]
        axes.set_yticks(range(len(rows)), labels)
        axes.get_yticklabels()[0].set_fontweight("bold")
        axes.tick_params(length=0, pad=3)
        for spine in axes.spines.values():
            spine.set_visible(False)
        legend = [Patch(color=timeline.COVERED, label="covered")]
        legend += [Patch(color=timeline.COLOURS[cause], label=f"gap: {cause}") for cause in causes]
        legend += [
            Patch(facecolor="white", edgecolor="#b9c2c7", label="uncovered"),
            Patch(facecolor="#fafbfb", edgecolor="#d0d6d9", hatch="////", label="no data"),
        ]
        which = "" if len(shown) == len(symbols) else f", the worst {len(shown)} of {len(symbols):,} instruments"
        _head(figure, f"{recorded.feed}    {calendar.month_name[number]} {year}{which}", legend)
        return figure


def _cell(axes: Axes, column: int, place: int, cells: Sequence[Coverage]) -> None:
    """A day of some instruments: shares of the whole day, from left to right."""
    left, height, room = column + 0.06, 0.72, 0.88
    if not cells:
        axes.barh(place, room, height, left, color="#fafbfb", hatch="////", edgecolor="#d0d6d9", lw=0)
        return
    axes.barh(place, room, height, left, color="white", edgecolor="#b9c2c7", lw=0.5)
    whole = DAY_NS * len(cells)
    gaps: defaultdict[GapCause, int] = defaultdict(int)
    for c in cells:
        for cause, ns in c.gap_ns_by_cause.items():
            gaps[cause] += ns
    parts = [(timeline.COVERED, sum(c.covered_ns for c in cells))]
    parts += [(timeline.COLOURS[cause], gaps[cause]) for cause in timeline.COLOURS if gaps[cause]]
    for number, (colour, ns) in enumerate(parts):
        share = ns / whole * room
        if number:  # a gap of a second is still to be seen
            share = max(share, 0.05)
            left = min(left, column + 0.06 + room - share)
        axes.barh(place, share, height, left, color=colour, lw=0)
        left += share


def _worst(days: Iterable[dict[str, Coverage]], symbol: str) -> tuple[int, int, str]:
    """By covered time, least first; a day without it counts as none."""
    some = [day[symbol] for day in days if symbol in day]
    return min(CONDITIONS.index(c.condition) for c in some), sum(c.covered_ns for c in some), symbol


def _share(days: Sequence[Sequence[Coverage]]) -> str:
    """Of the days of which something is there."""
    return written.percent(sum(c.covered_ns for d in days for c in d), sum(c.day_ns for d in days for c in d))


# -------------------------------------------------------------------------------------------------------- shared


def drawn(figure: Figure, kind: Literal["png", "svg"]) -> bytes:
    """The picture's file: of the same figure always the same bytes."""
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    file = io.BytesIO()
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure.savefig(file, format=kind, dpi=140, metadata=metadata)
    return file.getvalue()


def missing(recorded: ledger.Recorded, shown: Range, now_ns: int) -> list[tuple[str, Span]]:
    """When the instrument was in a gap (by cause) or nobody listened (`uncovered`), within what is shown."""
    found: list[tuple[str, Span]] = []
    for at in range(shown.start // DAY_NS * DAY_NS, shown.end, DAY_NS):
        day = (max(at, shown.start), min(at + DAY_NS, shown.end))
        there: list[Span] = []
        if date_of(at) in recorded.manifests:
            for fate in recorded.coverage(date_of(at), now_ns):
                if shown.symbol in fate.symbols:
                    found += [(cause, span) for cause, span in fate.in_gaps if span[0] < day[1] and day[0] < span[1]]
                    moments = [gap for gap in fate.gaps if gap.end == gap.start]  # of a single frame: they take no time
                    found += [(gap.cause, (gap.start,) * 2) for gap in moments if day[0] <= gap.start < day[1]]
                    there = coverage.united([*fate.covered, *(span for _, span in fate.in_gaps)])
        found += [("uncovered", span) for span in coverage.without([day], there)]
    return [(cause, (max(a, shown.start), min(b, shown.end))) for cause, (a, b) in found]


def _finish(
    figure: Figure,
    first: Axes,
    shown: Range,
    legend: list[Patch],
    missing: Sequence[tuple[str, Span]],
    every: Sequence[Axes],
) -> None:
    """Gaps, the axis of time, title and legend."""
    least = (shown.end - shown.start) // 500  # a gap of a millisecond is still to be seen
    for cause, (start, end) in missing:
        colour = UNCOVERED if cause == "uncovered" else timeline.COLOURS[cause]  # type: ignore[index]
        begin, stop = _times(np.array([start, end if cause == "uncovered" else max(end, start + least)]))
        for axes in every:
            axes.axvspan(begin, stop, color=colour, alpha=1.0 if cause == "uncovered" else 0.35, lw=0, zorder=0)
    for cause in dict.fromkeys(cause for cause, _ in missing):
        colour = UNCOVERED if cause == "uncovered" else timeline.COLOURS[cause]  # type: ignore[index]
        faint = to_rgba(colour, 1.0 if cause == "uncovered" else 0.35)
        legend.append(Patch(facecolor=faint, label=cause if cause == "uncovered" else f"gap: {cause}"))
    locator = AutoDateLocator(minticks=4, maxticks=10)  # type: ignore[no-untyped-call]
    first.xaxis.set_major_locator(locator)
    formatter = ConciseDateFormatter(  # type: ignore[no-untyped-call]
        locator,
        formats=["%Y", "%Y-%m", "%m-%d", "%H:%M", "%H:%M", "%H:%M:%S"],
        zero_formats=["%Y", "%Y", "%Y-%m", "%m-%d", "%H:%M", "%H:%M:%S"],
        show_offset=False,
    )
    first.xaxis.set_major_formatter(formatter)
    first.set_xlim(*_times(np.array([shown.start, shown.end])))
    for axes in every:
        axes.yaxis.set_major_locator(MaxNLocator(6))
    _head(figure, shown.title, legend)


def _head(figure: Figure, title: str, legend: list[Patch]) -> None:
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    figure.legend(handles=legend, loc="outside lower left", ncols=8, fontsize=8, handlelength=1.2, columnspacing=1.4)


def _units(lake: Lake, shown: Range) -> tuple[str, str]:
    """Of prices and sizes, as far as the venue's listing tells."""
    [(quote, base)] = lake.connection.execute(
        "SELECT any_value(quote), any_value(base) FROM instruments WHERE feed = ? AND symbol = ?",
        [shown.feed, shown.symbol],
    ).fetchall()
    return quote or "the venue's unit", base or "the venue's unit"


def _nothing(shown: Range, what: str) -> Permanent:
    return Permanent(
        f"{shown.feed} has no {what} of {shown.symbol} from {written.when(shown.start)} to {written.when(shown.end)}: "
        "`ssmd data list` shows what there is"
    )


def _times(ns: Any) -> Any:
    return np.asarray(ns, dtype="int64").astype("datetime64[ns]")


def _floats(values: Any) -> Any:
    return np.ma.filled(np.ma.asarray(values, dtype=float), np.nan)


def _step(ms: int) -> str:
    for unit, length in (("h", 3_600_000), ("min", 60_000), ("s", 1000)):
        if ms >= length:
            return f"{ms // length} {unit}"
    return f"{ms} ms"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
