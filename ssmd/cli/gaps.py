"""`ssmd gaps`: the gap ledger."""

from typing import TYPE_CHECKING, Annotated

import typer

from ssmd import written
from ssmd.cli import completing
from ssmd.cli.as_json import print_json
from ssmd.cli.printing import print_table
from ssmd.cli.where import DataPlace, where

if TYPE_CHECKING:
    from ssmd.events import Gap

EVIDENCE_CHARACTERS_MAX = 100
SYMBOLS_SHOWN_MAX = 2


def gaps(
    feed: Annotated[
        str | None, typer.Argument(metavar="FEED", autocompletion=completing.feeds, help="The feed (else: all).")
    ] = None,
    date: Annotated[
        str | None, typer.Option(help="Only gaps that touch this UTC day: YYYY-MM-DD, today or yesterday.")
    ] = None,
    only_open: Annotated[bool, typer.Option("--open", help="Only gaps that are still open.")] = False,
    data: DataPlace = "data",
    json: Annotated[bool, typer.Option("--json", help="One JSON array, times in ns.")] = False,
) -> None:
    """List what is missing: when, which instruments, why, is it over.

    \b
    ssmd gaps kalshi --date yesterday
    ssmd gaps --open --json
    """
    import time  # noqa: PLC0415

    from ssmd import ledger  # noqa: PLC0415
    from ssmd.cli.rollup import utc_date  # noqa: PLC0415

    places = where(data)
    day = None if date is None else utc_date(date)
    rows = [gap for one in ledger.recorded(places.archive, feed) for gap in one.gaps]
    rows = [gap for gap in rows if not only_open or gap.end is None]
    rows = sorted((gap for gap in rows if day is None or _touches(gap, day)), key=lambda gap: (gap.start, gap.gap))
    if json:
        print_json([_record(gap) for gap in rows])
        return
    _show(rows, time.time_ns())
    if not rows:
        what = "gap is open" if only_open else "gap is known"
        typer.echo(f"no {what} of {feed or 'any feed'}{f' on {day}' if day else ''}", err=True)


def _touches(gap: "Gap", date: str) -> bool:
    from ssmd import coverage  # noqa: PLC0415
    from ssmd.clock import DAY_NS  # noqa: PLC0415

    start = coverage.midnight(date)
    return gap.start < start + DAY_NS and (gap.end is None or gap.end >= start)


def _show(rows: list["Gap"], now_ns: int) -> None:

    lines = [("feed", "start (UTC)", "duration", "cause", "symbols", "conn", "state", "evidence")]
    for gap in rows:
        lasted = written.length(max((now_ns if gap.end is None else gap.end) - gap.start, 0))
        lines.append(
            (
                gap.feed,
                written.when(gap.start),
                f"{lasted} …" if gap.end is None else lasted,
                gap.cause,
                _symbols(gap),
                gap.conn,
                state(gap),
                written.shortened(gap.evidence, EVIDENCE_CHARACTERS_MAX),
            )
        )
    print_table(lines, right={2})


def state(gap: "Gap") -> str:
    """open, closed, repaired (its trades are) or unrepairable."""
    if gap.repair:
        return "repaired" if gap.repaired else "unrepairable"
    return "open" if gap.end is None else "closed"


def _symbols(gap: "Gap") -> str:
    """Their names if they are few; none means every instrument of the connection."""
    if not gap.symbols:
        return "all"
    return ", ".join(gap.symbols) if len(gap.symbols) <= SYMBOLS_SHOWN_MAX else f"{len(gap.symbols):,}"


def _record(gap: "Gap") -> dict[str, object]:
    return {
        "feed": gap.feed,
        "gap": gap.gap,
        "start": gap.start,
        "end": gap.end,
        "seconds": None if gap.end is None else (gap.end - gap.start) / 1e9,
        "cause": gap.cause,
        "symbols": gap.symbols,
        "conn": gap.conn,
        "state": state(gap),
        "evidence": gap.evidence,
        "repair": gap.repair,
    }
