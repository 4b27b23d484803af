"""A day's coverage as a picture: one line of time for each instrument, drawn as SVG without any library.

Covered time is solid, gaps have their cause's colour, what is uncovered stays blank, what has not come yet is hatched.
The band on top is all instruments together: at each moment, the share of them that is covered or in a gap.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from xml.sax.saxutils import escape, quoteattr

from ssmd.clock import SECOND_NS
from ssmd.coverage import CONDITIONS, Coverage, Day, Span
from ssmd.events import GapCause
from ssmd.written import length, percent

Kind = TypeVar("Kind", bound=str)

ROWS_MAX = 40
MINUTE_NS = 60 * SECOND_NS
HOUR_NS = 60 * MINUTE_NS

# Okabe and Ito's palette and its darker neighbours: to be told apart by most colour-blind eyes, and in print.
COVERED = "#9ccabb"
COLOURS: dict[GapCause, str] = {
    "disconnect": "#d55e00",
    "restart": "#e69f00",
    "sequence": "#cc4c93",
    "checksum": "#882255",
    "stale": "#c9b400",
    "parse": "#7a5bb5",
    "overflow": "#0072b2",
    "retention": "#56b4e9",
    "maintenance": "#8c8c8c",
    "lost": "#1b1b1b",
    "refused": "#7f4f24",
}
CONDITION_COLOURS = {"missing": "#1b1b1b", "degraded": "#d55e00", "repaired": "#0072b2", "available": "#2f8f73"}
TICKS_NS = [n * SECOND_NS for n in (1, 2, 5, 10, 30)] + [n * MINUTE_NS for n in (1, 2, 5, 10, 30, 60, 120, 180, 360)]

WIDTH = 1280
LEFT, RIGHT = 268, 210  # room for names, and for figures
TOP, BAND, ROW, BAR = 132, 44, 20, 12
PLOT = WIDTH - LEFT - RIGHT
GAP_WIDTH_MIN = 2.0  # a gap of a millisecond is still to be seen
COVERED_WIDTH_MIN = 0.5
NAME_CHARACTERS_MAX = 34
INK, FAINT, GRID = "#20262b", "#68737b", "#e4e8ea"


@dataclass(frozen=True)
class Window:
    """The stretch of time shown."""

    start: int
    end: int

    def x(self, ts: int) -> float:
        return LEFT + PLOT * (min(max(ts, self.start), self.end) - self.start) / (self.end - self.start)


def svg(day: Day, found: Sequence[Coverage], window: Window) -> str:
    """The picture of `found` (worst first), up to ROWS_MAX instruments of it."""
    rows = [(symbol, c) for c in found for symbol in c.symbols][:ROWS_MAX]
    count = sum(len(c.symbols) for c in found)
    causes = [cause for cause in COLOURS if any(cause == g.cause for c in found for g in c.gaps)]
    band_y = TOP + 8
    rows_y = band_y + BAND + 22
    bottom = rows_y + ROW * len(rows) + 4
    height = bottom + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="Inter, Helvetica, Arial, sans-serif" font-size="12" fill="{INK}">',
        '<defs><pattern id="later" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        f'<rect width="6" height="6" fill="#fafbfb"/><rect width="1.5" height="6" fill="{GRID}"/></pattern></defs>',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        *_heading(day, found, count, len(rows)),
        *_legend(causes, later=day.end < window.end),
        *_axis(window, TOP, bottom),
        *_band(day, found, window, count, band_y),
    ]
    for number, (symbol, c) in enumerate(rows):
        parts += _row(symbol, c, day, window, rows_y + number * ROW)
    if not rows:
        parts.append(_text(LEFT, rows_y + 4, "no instrument is known of that day", FAINT))
    return "\n".join([*parts, "</svg>", ""])


def _heading(day: Day, found: Sequence[Coverage], count: int, shown: int) -> list[str]:
    of = {condition: sum(len(c.symbols) for c in found if c.condition == condition) for condition in CONDITIONS}
    conditions = ", ".join(f"{n:,} {condition}" for condition, n in of.items() if n) or "nothing"
    which = f"{count:,} instruments" if shown == count else f"the worst {shown} of {count:,} instruments"
    known = len({gap.gap for c in found for gap in c.gaps})
    gaps = "no gaps" if not known else "1 gap" if known == 1 else f"{known:,} gaps"
    right = WIDTH - RIGHT
    return [
        f'<text x="24" y="40" font-size="22" font-weight="600">{escape(day.feed)}'
        f'<tspan font-weight="400" fill="{FAINT}" dx="10">{day.date} UTC</tspan></text>',
        _text(24, 62, f"{which}: {conditions}; {gaps}", FAINT),
        _text(right + 84, TOP - 8, "covered", FAINT, anchor="end"),
        _text(right + 144, TOP - 8, "in gaps", FAINT, anchor="end"),
        _text(right + 186, TOP - 8, "gaps", FAINT, anchor="end"),
    ]


def _legend(causes: Iterable[GapCause], *, later: bool) -> list[str]:
    entries = [(COVERED, "covered"), *((COLOURS[cause], cause) for cause in causes), ("none", "uncovered")]
    if later:
        entries.append(("url(#later)", "not yet"))
    x, parts = 24.0, []
    for fill, name in entries:
        edge = ' stroke="#b9c2c7"' if fill == "none" or fill.startswith("url") else ""
        parts.append(f'<rect x="{x + 0.5:g}" y="78.5" width="15" height="11" rx="2" fill="{fill}"{edge}/>')
        parts.append(_text(x + 22, 88, name))
        x += 22 + 7 * len(name) + 20
    return parts


def _axis(window: Window, top: int, bottom: int) -> list[str]:
    labels_max = 13 if window.end - window.start >= 10 * MINUTE_NS else 9  # with seconds they are wider
    step = next((t for t in TICKS_NS if (window.end - window.start) / t <= labels_max), TICKS_NS[-1])
    parts = []
    ts = -(-window.start // step) * step
    while ts <= window.end:
        x = window.x(ts)
        parts.append(f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}" stroke="{GRID}"/>')
        parts += [_text(x, y, _clock(ts, window, step), FAINT, anchor="middle") for y in (top - 8, bottom + 18)]
        ts += step
    return parts


def _clock(ts: int, window: Window, step: int) -> str:
    """The time of day; the midnight that ends the day is 24:00."""
    seconds = (ts - window.start) // SECOND_NS + window.start // SECOND_NS % 86_400
    text = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}"
    return text if step >= MINUTE_NS else f"{text}:{seconds % 60:02d}"


def _band(day: Day, found: Sequence[Coverage], window: Window, count: int, y: int) -> list[str]:
    """All instruments together: a column of pixels says which share of them was covered, and which in gaps."""
    parts = [
        _text(LEFT - 14, y + BAND / 2 + 4, "all instruments", anchor="end", weight="600"),
        _frame(y, BAND),
        *_later(day, window, y, BAND),
    ]
    if not count:
        return parts
    columns = PLOT
    shares: dict[str, list[float]] = defaultdict(lambda: [0.0] * columns)
    for c in found:
        weight = len(c.symbols) / count
        for span in c.covered:
            _fill(shares["covered"], span, window, weight)
        for cause, span in c.in_gaps:
            _fill(shares[cause], span, window, weight)
    base = [float(y + BAND)] * columns
    for kind, fill in [("covered", COVERED), *COLOURS.items()]:
        if kind in shares:
            tops = [b - BAND * share for b, share in zip(base, shares[kind], strict=True)]
            parts.append(_area(base, tops, fill))
            base = tops
    parts += [_mark(cause, span, window, y + BAND + 2, 4, "") for cause, span in _marks(found, window)]
    right = WIDTH - RIGHT
    whole = sum(c.day_ns * len(c.symbols) for c in found) or 1
    covered = sum(c.covered_ns * len(c.symbols) for c in found)
    in_gaps = sum(c.gap_ns * len(c.symbols) for c in found)
    known = len({gap.gap for c in found for gap in c.gaps})
    middle = y + BAND / 2 + 4
    return [
        *parts,
        _text(right + 84, middle, percent(covered, whole), anchor="end", weight="600"),
        _text(right + 144, middle, percent(in_gaps, whole), anchor="end", weight="600"),
        _text(right + 186, middle, f"{known:,}", anchor="end", weight="600"),
    ]


def _marks(found: Sequence[Coverage], window: Window) -> list[tuple[GapCause, Span]]:
    """When some instrument was in a gap, of whatever length."""
    return _joined({entry for c in found for entry in c.in_gaps}, window)


def _fill(columns: list[float], span: Span, window: Window, weight: float) -> None:
    low, high = window.x(span[0]) - LEFT, window.x(span[1]) - LEFT
    first, last = int(low), min(int(high), len(columns) - 1)
    for i in range(first, last + 1):
        columns[i] += weight * max(min(high, i + 1) - max(low, i), 0)


def _area(base: list[float], tops: list[float], fill: str) -> str:
    """A band between two rows of column heights; columns of equal height are one step."""
    there, back = [], []
    for i, (low, high) in enumerate(zip(base, tops, strict=True)):
        if 0 < i < len(base) - 1 and all(r[i] == r[i - 1] == r[i + 1] for r in (base, tops)):
            continue
        there.append(f"{LEFT + i} {high:.2f} {LEFT + i + 1} {high:.2f}")
        back.append(f"{LEFT + i + 1} {low:.2f} {LEFT + i} {low:.2f}")
    return f'<path d="M{" ".join(there)} {" ".join(reversed(back))}Z" fill="{fill}"/>'


def _row(symbol: str, c: Coverage, day: Day, window: Window, y: int) -> list[str]:
    bar = y + (ROW - BAR) // 2
    middle = y + ROW / 2 + 4
    name = symbol if len(symbol) <= NAME_CHARACTERS_MAX else symbol[: NAME_CHARACTERS_MAX - 1] + "…"
    right = WIDTH - RIGHT
    parts = [
        f'<g><title>{escape(symbol)}: {c.condition}</title><circle cx="{LEFT - 11}" cy="{y + ROW / 2:g}" r="3.5" '
        f'fill="{CONDITION_COLOURS[c.condition]}"/>{_text(LEFT - 21, middle, name, anchor="end", size=11)}</g>',
        _frame(bar, BAR),
        *_later(day, window, bar, BAR),
    ]
    points = [(g.cause, (g.start, g.start)) for g in c.gaps if g.end is not None and g.end <= g.start]
    for _, (start, end) in _joined((("covered", span) for span in c.covered), window):
        if start < window.end and window.start < end:
            x, width = window.x(start), max(window.x(end) - window.x(start), COVERED_WIDTH_MIN)
            parts.append(f'<rect x="{x:.2f}" y="{bar}" width="{width:.2f}" height="{BAR}" fill="{COVERED}"/>')
    evidence = {(gap.cause, max(gap.start, day.start)): gap.evidence for gap in c.gaps}
    parts += [
        _mark(cause, span, window, bar, BAR, evidence.get((cause, span[0]), ""))
        for cause, span in _joined([*c.in_gaps, *points], window)
    ]
    return [
        *parts,
        _text(right + 84, middle, percent(c.covered_ns, c.day_ns), anchor="end", size=11),
        _text(right + 144, middle, length(c.gap_ns) if c.gap_ns else "–", anchor="end", size=11),
        _text(right + 186, middle, f"{len(c.gaps):,}" if c.gaps else "–", anchor="end", size=11),
    ]


def _joined(entries: Iterable[tuple[Kind, Span]], window: Window) -> list[tuple[Kind, Span]]:
    """Spans of one kind that the eye could not tell apart, as one; gaps are drawn over what is covered."""
    found: defaultdict[Kind, list[Span]] = defaultdict(list)
    least = (window.end - window.start) / PLOT / 2
    for kind, (start, end) in sorted(entries, key=lambda entry: entry[1]):
        spans = found[kind]
        if spans and start - spans[-1][1] < least:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((start, end))
    return [(kind, span) for kind, spans in found.items() for span in spans]


def _mark(cause: GapCause, span: Span, window: Window, y: float, height: float, evidence: str) -> str:
    if span[1] < window.start or window.end < span[0]:
        return ""
    x = window.x(span[0])
    width = max(window.x(span[1]) - x, GAP_WIDTH_MIN)
    x = min(x, LEFT + PLOT - width)
    told = f"{cause}, {length(span[1] - span[0])}" + (f": {evidence}" if evidence else "")
    return (
        f'<rect x="{x:.2f}" y="{y:g}" width="{width:.2f}" height="{height:g}" fill="{COLOURS[cause]}">'
        f"<title>{escape(told)}</title></rect>"
    )


def _frame(y: float, height: float) -> str:
    return (
        f'<rect x="{LEFT - 0.5}" y="{y - 0.5:g}" width="{PLOT + 1}" height="{height + 1:g}" fill="none" '
        f'stroke="{GRID}"/>'
    )


def _later(day: Day, window: Window, y: float, height: float) -> list[str]:
    if day.end >= window.end:
        return []
    x = window.x(day.end)
    return [f'<rect x="{x:.2f}" y="{y:g}" width="{LEFT + PLOT - x:.2f}" height="{height:g}" fill="url(#later)"/>']


def _text(
    x: float, y: float, text: str, fill: str = INK, *, anchor: str = "start", size: int = 12, weight: str = "400"
) -> str:
    style = "" if size == 12 else f' font-size="{size}"'
    style += "" if weight == "400" else f' font-weight="{weight}"'
    style += "" if fill == INK else f' fill="{fill}"'
    style += "" if anchor == "start" else f" text-anchor={quoteattr(anchor)}"
    return f'<text x="{x:.1f}" y="{y:.1f}"{style}>{escape(text)}</text>'
