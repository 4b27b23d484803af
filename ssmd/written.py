"""How times, lengths of time and long texts are written for the eye."""

from datetime import UTC, datetime


def when(ts_ns: int) -> str:
    """A time as YYYY-MM-DD HH:MM:SS.mmm, UTC."""
    seconds, ns = divmod(ts_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{ns // 1_000_000:03d}"


def length(ns: int) -> str:
    """A length of time in its two largest units: 4 ms, 2.3 s, 1 m 05 s, 3 h 12 m, 2 d 04 h; never rounded up."""
    seconds = ns // 1_000_000_000
    if ns < 1_000_000_000:
        return "0 s" if ns == 0 else f"{max(ns // 1_000_000, 1)} ms"
    if seconds < 60:
        return f"{ns // 100_000_000 / 10:.1f} s"
    minutes, s = divmod(seconds, 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days} d {h:02d} h"
    return f"{hours} h {m:02d} m" if hours else f"{minutes} m {s:02d} s"


def shortened(text: str, characters_max: int) -> str:
    """The text on one line, cut with an ellipsis if it is too long."""
    line = " ".join(text.split())
    return line if len(line) <= characters_max else line[: characters_max - 1] + "…"


def percent(part: int, whole: int) -> str:
    """Two digits, cut off and not rounded: 100 % is whole."""
    if not whole:
        return "-"
    return "100 %" if part == whole else f"{part * 10_000 // whole / 100:.2f} %"
