"""`ssmd status`: what runs, and what is kept, on one screen."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from ssmd.standing import FeedNow, Service, Standing

EXIT_RED = 1
NOT_A_TERMINAL_COLUMNS = 1000  # no sentence is broken where a program, or a file, reads it
PROBLEMS_MAX = 6


def status(
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="The data folder.")] = Path("data"),
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object, times in ns.")] = False,
) -> None:
    """Show what runs and what is kept. Exit code 1: something is red.

    Example: ssmd status --json
    """
    import asyncio  # noqa: PLC0415

    from ssmd import standing  # noqa: PLC0415

    found = asyncio.run(standing.look(data))
    if json:
        import msgspec  # noqa: PLC0415

        typer.echo(msgspec.json.encode({"red": found.red, **msgspec.to_builtins(found)}).decode())
    else:
        _show(found)
    if found.red:
        raise typer.Exit(EXIT_RED)


def _show(found: "Standing") -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from ssmd.up.status import size  # noqa: PLC0415

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=NOT_A_TERMINAL_COLUMNS)
    head = Text()
    head.append("ssmd", style="bold")
    head.append(f"  {found.environment or 'no environment'}  ")
    head.append(*(("runs", "bold green") if found.running else ("nothing runs", "bold yellow")))
    console.print(head)
    free = f"{size(found.free_bytes)} free of {size(found.total_bytes)}"
    console.print(
        f"data {found.data}, ", Text(free, style="red" if found.free_bytes < found.free_bytes_min else ""), sep=""
    )
    if found.servers:
        told = Text("servers ")
        for i, one in enumerate(found.servers):
            told.append(", " if i else "").append(one.name).append(" ").append(one.health, style=_style(one))
        console.print(told)
    if found.running and found.feeds:
        console.print()
        console.print(_feeds(found))
    if found.days:
        console.print()
        console.print(_days(found))
    problems = [p for s in (*found.servers, *(s for f in found.feeds for s in f.services)) for p in s.problems]
    told_below = [*found.troubles, *problems]
    for problem in told_below[:PROBLEMS_MAX]:
        console.print(Text(problem, style="red"))
    if len(told_below) > PROBLEMS_MAX:
        console.print(Text(f"and {len(told_below) - PROBLEMS_MAX} more: --json has them all", style="red"))
    if not found.running:
        still = [f"{feed.gaps_open} of {feed.feed}" for feed in found.feeds if feed.gaps_open]
        if still:
            console.print(f"\nopen gaps: {', '.join(still)}; the next start closes them", style="yellow")
        console.print(f"\nstart it with `ssmd up --data {found.data}`", style="dim")


def _style(one: "Service") -> str:
    return "green" if one.health == "healthy" else "red"


def _feeds(found: "Standing") -> "Table":
    from rich.text import Text  # noqa: PLC0415

    from ssmd import written  # noqa: PLC0415
    from ssmd.up.status import lag, size  # noqa: PLC0415

    table = _table(("feed", "", "services"), ("frames/s", "last frame", "lag", "journal", "open gaps"))
    for feed in found.feeds:
        age = None if feed.last_frame_at is None else max(0, found.at - feed.last_frame_at)
        table.add_row(
            feed.feed,
            Text(
                {True: "live", False: "away", None: "-"}[feed.connected], style="red" if feed.connected is False else ""
            ),
            _services(feed),
            "-" if feed.frames_per_second is None else f"{feed.frames_per_second:,.0f}",
            "-" if age is None else f"{written.length(age)} ago",
            lag(feed.lag_ms),
            "-" if feed.journal_bytes is None else size(feed.journal_bytes),
            Text(str(feed.gaps_open), style="red" if feed.gaps_open else ""),
        )
    return table


def _services(feed: "FeedNow") -> "Text":
    """How many are well; which are not is told below."""
    from rich.text import Text  # noqa: PLC0415

    well = sum(s.health == "healthy" for s in feed.services)
    if well < len(feed.services):
        return Text(f"{well} of {len(feed.services)} healthy", style="red")
    return Text(f"{well} healthy", style="green") if well else Text("-")


def _days(found: "Standing") -> "Table":
    table = _table(("feed", "day", "sealed", "rolled up", "published"), ("frames",))
    for day in found.days:
        sealed = "yes" if day.sealed else "no"
        table.add_row(day.feed, day.date, sealed, day.rolled_up, day.published or "-", f"{day.frames:,}")
    return table


def _table(left: tuple[str, ...], right: tuple[str, ...]) -> "Table":
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for name in left:
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    for name in right:
        table.add_column(name, justify="right", no_wrap=True, overflow="ellipsis")
    return table
