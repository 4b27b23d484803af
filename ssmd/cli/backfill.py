"""`ssmd backfill`: trades that gaps swallowed, fetched from the venue."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssmd.cli import completing
from ssmd.cli.as_json import AsJson, print_json
from ssmd.errors import Permanent

if TYPE_CHECKING:
    from ssmd.jobs import Backfilled


def backfill(
    feed: Annotated[
        str, typer.Argument(metavar="FEED", autocompletion=completing.feeds, help="The feed.", show_default=False)
    ],
    gap: Annotated[str, typer.Option("--gap", help="Only this gap, by its name in `ssmd gaps --json`.")] = "",
    start: Annotated[str, typer.Option("--start", help="A time instead of gaps: from (2026-11-20T14:00:00Z).")] = "",
    end: Annotated[str, typer.Option("--end", help="… to, both included.")] = "",
    symbol: Annotated[list[str] | None, typer.Option("--symbol", help="Only this instrument; may be repeated.")] = None,
    local: Annotated[bool, typer.Option("--local", help="Do it here, without a Temporal server.")] = False,
    json: AsJson = False,
    data: Annotated[Path, typer.Option("--data", help="The data folder.")] = Path("data"),
) -> None:
    """Fetch the trades that closed gaps swallowed from the venue.

    Their days are rolled up anew. Books cannot be fetched.

    \b
    ssmd backfill kalshi
    ssmd backfill kalshi --start 2026-11-20T14:00:00Z --end 2026-11-20T15:00:00Z --symbol KXBTCD-26NOV20-T98000
    """
    import asyncio  # noqa: PLC0415

    from ssmd import config, jobs, service  # noqa: PLC0415
    from ssmd.cli import job  # noqa: PLC0415

    if bool(start) != bool(end):
        raise Permanent("a time needs both --start and --end")
    if gap and start:
        raise Permanent("name a gap with --gap, or a time with --start and --end, not both")
    missing = jobs.Missing(config.load_feed(feed).name, symbol or [], start, end, gap)
    addresses = service.addresses(data, None)  # the archiver takes what is fetched
    if local:
        filled = job.here("Backfill", missing, jobs.Backfilled, data)
    else:
        again = f"ssmd backfill {feed}" + (f" --gap {gap}" if gap else f" --start {start} --end {end}" if start else "")
        filled = asyncio.run(
            job.by_temporal("Backfill", missing, missing.backfill_id, jobs.Backfilled, addresses, again)
        )
    if json:
        print_json(filled)
    else:
        _tell(filled)
    if filled.failed:
        raise typer.Exit(1)


def _tell(filled: "Backfilled") -> None:
    said = (
        f"{filled.feed}: {_count(filled.trades, 'missing trade')} archived, {_count(filled.repaired, 'gap')} repaired"
    )
    if filled.unrepairable:
        said += f", {filled.unrepairable:,} cannot be"
    typer.echo(said)
    if filled.rolled_up:
        typer.echo(f"rolled up anew: {', '.join(filled.rolled_up)}")
    for sentence in filled.failed:
        typer.echo(f"failed: {sentence}", err=True)
    if filled.more:
        typer.echo(f"{_count(filled.more, 'gap')} left: run it again", err=True)


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
