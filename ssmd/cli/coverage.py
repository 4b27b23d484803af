"""`ssmd coverage`: what of a day is there, for each instrument."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssmd import written
from ssmd.cli import completing
from ssmd.cli.as_json import print_json
from ssmd.cli.printing import print_table
from ssmd.cli.where import DataPlace, where
from ssmd.errors import Permanent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ssmd.coverage import Coverage, Day
    from ssmd.timeline import Window

SHOWN = 20


def coverage(
    feed: Annotated[
        str, typer.Argument(metavar="FEED", autocompletion=completing.feeds, help="The feed.", show_default=False)
    ],
    date: Annotated[
        str,
        typer.Argument(
            metavar="DATE",
            autocompletion=completing.dates,
            help="The UTC day: YYYY-MM-DD, today or yesterday.",
            show_default=False,
        ),
    ],
    every: Annotated[bool, typer.Option("--all", help=f"Every instrument (else: the worst {SHOWN}).")] = False,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Draw the day's timeline of each instrument.")
    ] = None,
    between: Annotated[
        str, typer.Option("--between", metavar="HH:MM-HH:MM", help="The part of the day that the picture shows.")
    ] = "00:00-24:00",
    json: Annotated[bool, typer.Option("--json", help="One JSON array, times in ns.")] = False,
    data: DataPlace = "data",
) -> None:
    """Say what of a day is covered, for each instrument, worst first.

    \b
    ssmd coverage kalshi today
    ssmd coverage kalshi yesterday --picture day.svg --between 14:00-16:00
    """
    import time  # noqa: PLC0415

    from ssmd import ledger  # noqa: PLC0415
    from ssmd.cli.rollup import utc_date  # noqa: PLC0415
    from ssmd.coverage import coverage as covered  # noqa: PLC0415

    if picture is not None and picture.suffix != ".svg":
        raise Permanent(f"cannot draw {picture}: pictures are SVG; name it {picture.with_suffix('.svg').name}")
    places = where(data)
    asked = utc_date(date)
    [recorded] = ledger.recorded(places.archive, feed)
    day = recorded.day(asked, time.time_ns())
    found = covered(day)
    if picture is not None:
        _draw(picture, day, found, _window(between, day))
    if json:
        print_json([_record(symbol, c) for c in found for symbol in c.symbols])
    else:
        _show(day, found, every)
    if picture is not None:
        typer.echo(f"the picture is {picture}", err=True)


def _show(day: "Day", found: "Sequence[Coverage]", every: bool) -> None:
    from ssmd.coverage import CONDITIONS  # noqa: PLC0415

    rows = [(symbol, c) for c in found for symbol in c.symbols]
    lines = [("symbol", "condition", "covered", "of the day", "gaps", "in gaps", "uncovered", "by cause")]
    for symbol, c in rows if every else rows[:SHOWN]:
        causes = ", ".join(f"{cause} {written.length(ns)}" for cause, ns in c.gap_ns_by_cause.items())
        lines.append(
            (
                symbol,
                c.condition,
                written.length(c.covered_ns),
                written.percent(c.covered_ns, c.day_ns),
                f"{len(c.gaps):,}",
                written.length(c.gap_ns),
                written.length(c.uncovered_ns),
                causes,
            )
        )
    print_table(lines, right={2, 3, 4, 5, 6})
    if not every and len(rows) > SHOWN:
        typer.echo(f"… and {len(rows) - SHOWN:,} more: --all shows them")
    counts = {name: sum(len(c.symbols) for c in found if c.condition == name) for name in CONDITIONS}
    said = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "none"
    lasted = written.length(day.end - day.start)
    typer.echo(f"\n{day.feed} {day.date} ({lasted} of it): {len(rows):,} instruments, {said}")


def _record(symbol: str, c: "Coverage") -> dict[str, object]:
    return {
        "symbol": symbol,
        "condition": c.condition,
        "covered_ns": c.covered_ns,
        "gap_ns": c.gap_ns,
        "uncovered_ns": c.uncovered_ns,
        "gap_ns_by_cause": c.gap_ns_by_cause,
        "gaps": [gap.gap for gap in c.gaps],
        "covered": c.covered,
    }


def _draw(picture: Path, day: "Day", found: "Sequence[Coverage]", window: "Window") -> None:
    from ssmd import durable, timeline  # noqa: PLC0415

    if not picture.parent.is_dir():
        raise Permanent(f"cannot write {picture}: there is no folder {picture.parent}")
    durable.replace(picture, timeline.svg(day, found, window).encode())


def _window(between: str, day: "Day") -> "Window":
    """HH:MM-HH:MM of the day."""
    import re  # noqa: PLC0415

    from ssmd.timeline import MINUTE_NS, Window  # noqa: PLC0415

    said = re.fullmatch(r"(\d\d):(\d\d)-(\d\d):(\d\d)", between)
    minutes = [int(x) for x in said.groups()] if said else []
    if said and minutes[1] < 60 and minutes[3] < 60:
        start, end = minutes[0] * 60 + minutes[1], minutes[2] * 60 + minutes[3]
        if start < end <= 24 * 60:
            return Window(day.start + start * MINUTE_NS, day.start + end * MINUTE_NS)
    raise Permanent(f"--between {between}: is no part of a day: write it as 14:00-15:30")
