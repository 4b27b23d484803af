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
LINES_OF_ONE_INCIDENT_MAX = 3  # more rows of one cause that overlap share a line


def gaps(
    feed: Annotated[
        str | None, typer.Argument(metavar="FEED", autocompletion=completing.feeds, help="The feed (else: all).")
    ] = None,
    date: Annotated[
        str | None, typer.Option(help="Only gaps that touch this UTC day: YYYY-MM-DD, today or yesterday.")
    ] = None,
    only_open: Annotated[bool, typer.Option("--open", help="Only gaps that are still open.")] = False,
    each: Annotated[bool, typer.Option("--each", help="A line for each, also of one incident's many.")] = False,
    data: DataPlace = "data",
    json: Annotated[bool, typer.Option("--json", help="One JSON array, times in ns.")] = False,
) -> None:
    """List what is missing: when, which instruments, why, is it over.

    Many rows of one cause that overlap share a line; `--each` and `--json` have each by itself.

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
    now_ns = time.time_ns()
    lines = [[gap] for gap in rows] if each else _lines(rows, now_ns)
    _show(lines, now_ns)
    if len(lines) < len(rows):
        typer.echo(f"{len(rows):,} rows in {len(lines):,} lines: --each lists each by itself", err=True)
    if not rows:
        what = "gap is open" if only_open else "gap is known"
        typer.echo(f"no {what} of {feed or 'any feed'}{f' on {day}' if day else ''}", err=True)


def _touches(gap: "Gap", date: str) -> bool:
    from ssmd import coverage  # noqa: PLC0415
    from ssmd.clock import DAY_NS  # noqa: PLC0415

    start = coverage.midnight(date)
    return gap.start < start + DAY_NS and (gap.end is None or gap.end >= start)


def _lines(rows: list["Gap"], now_ns: int) -> list[list["Gap"]]:
    """Rows that share a line. After an outage of a feed of hundreds of instruments each has a row of its own."""
    incidents: list[list[Gap]] = []
    latest: dict[tuple[str, ...], tuple[list[Gap], int]] = {}  # those of one kind that overlap, and until when
    for gap in rows:
        kind = (gap.feed, gap.conn, gap.cause, state(gap))
        incident, until = latest.get(kind, ([], 0))
        if not incident or gap.start > until:
            incident, until = [], 0
            incidents.append(incident)
        incident.append(gap)
        latest[kind] = incident, max(until, now_ns if gap.end is None else gap.end)
    lines = []
    for incident in incidents:
        lines += [incident] if len(incident) > LINES_OF_ONE_INCIDENT_MAX else [[gap] for gap in incident]
    return sorted(lines, key=lambda line: (line[0].start, line[0].gap))


def _show(lines: list[list["Gap"]], now_ns: int) -> None:
    table = [("feed", "start (UTC)", "duration", "cause", "symbols", "conn", "state", "evidence")]
    for line in lines:
        gap = line[0]
        ended = max(now_ns if one.end is None else one.end for one in line)
        lasted = written.length(max(ended - gap.start, 0))
        evidence = written.shortened(gap.evidence, EVIDENCE_CHARACTERS_MAX)
        table.append(
            (
                gap.feed,
                written.when(gap.start),
                f"{lasted} …" if gap.end is None else lasted,
                gap.cause,
                _symbols(line),
                gap.conn,
                state(gap),
                evidence if len(line) == 1 else f"{len(line):,} rows, the first: {evidence}",
            )
        )
    print_table(table, right={2})


def state(gap: "Gap") -> str:
    """open, closed, repaired (its trades are) or unrepairable."""
    if gap.repair:
        return "repaired" if gap.repaired else "unrepairable"
    return "open" if gap.end is None else "closed"


def _symbols(line: list["Gap"]) -> str:
    """Their names if they are few; none means every instrument of the connection."""
    if not all(gap.symbols for gap in line):
        return "all"
    symbols = dict.fromkeys(symbol for gap in line for symbol in gap.symbols)
    return ", ".join(symbols) if len(symbols) <= SYMBOLS_SHOWN_MAX else f"{len(symbols):,}"


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
