"""`ssmd verify`: every byte kept of a day is looked at again."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssmd.cli import completing
from ssmd.cli.as_json import print_json
from ssmd.cli.printing import print_table
from ssmd.cli.where import DataPlace, where
from ssmd.errors import Permanent

if TYPE_CHECKING:
    from ssmd import jobs

EXIT_FINDINGS = 1


def verify(
    feed: Annotated[
        str, typer.Argument(metavar="FEED", autocompletion=completing.feeds, help="The feed.", show_default=False)
    ],
    date: Annotated[
        str,
        typer.Argument(
            metavar="DATE", autocompletion=completing.dates, help="The UTC day: YYYY-MM-DD, today, yesterday or all."
        ),
    ] = "all",
    local: Annotated[bool, typer.Option("--local", help="Do it here, without a Temporal server.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per day.")] = False,
    data: DataPlace = "data",
) -> None:
    """Read all that is kept of a day again, and say what is damaged.

    Its tables are made again, too, and what can mend the damage is told.

    Nothing is changed. Exit code 0: all is whole; 1: something is not; 2: it could not be looked at.

    \b
    ssmd verify kalshi
    ssmd verify kalshi 2026-11-20 --json
    """
    from ssmd import config, jobs  # noqa: PLC0415

    store = data if data.startswith("s3://") else ""
    name = config.load_feed(feed).name
    verified = []
    for day in _days(data, name, date):
        scrub = jobs.Scrub(name, day, store=store)
        verified.append(_verify(scrub, Path("data" if store else data), local or bool(store)))
        if json:
            print_json(verified[-1])
    if not json:
        _show(verified)
    if any(v.findings for v in verified):
        raise typer.Exit(EXIT_FINDINGS)


def _days(data: str, feed: str, said: str) -> list[str]:
    """The dates to look at: those of the archive and of the lake, or of the records in a store."""
    from ssmd.cli.rollup import utc_date  # noqa: PLC0415

    if said != "all":
        return [utc_date(said)]
    if data.startswith("s3://"):
        from ssmd import mirror, published  # noqa: PLC0415 - it, and what it needs, takes 0.4 s to load

        there = mirror.open_store(data)  # its records are not read yet: a damaged one is to be found, not in the way
        dates = {of for of_feed, of, _ in published.records(there) if of_feed == feed and of[:1].isdigit()}
    else:
        places = where(data)
        dates = {path.name for path in places.archive.glob(f"{feed}/????-??-??")}
        dates |= {path.name.removeprefix("date=") for path in places.lake.glob(f"days/feed={feed}/date=????-??-??")}
        data = str(places.archive)
    if not dates:
        raise Permanent(f"nothing of {feed} is archived in {data}: `ssmd data list` shows what is")
    return sorted(dates)


def _verify(day: "jobs.Scrub", data: Path, local: bool) -> "jobs.Verified":
    """Run the job by this folder's own platform, or here if there is none."""
    import asyncio  # noqa: PLC0415

    from ssmd import jobs, service  # noqa: PLC0415
    from ssmd.cli import job  # noqa: PLC0415

    addresses = None
    if not local:
        try:
            addresses = service.addresses(data, None)
        except Permanent:
            typer.echo("no platform is running on this data folder: verifying here", err=True)
    if addresses is not None:
        again = f"ssmd verify {day.feed} {day.date}"
        return asyncio.run(job.by_temporal("VerifyArchive", day, day.verify_id, jobs.Verified, addresses, again))
    return job.here("VerifyArchive", day, jobs.Verified, data)


def _show(verified: "Sequence[jobs.Verified]") -> None:
    """A table of what was found, what mends it, and one sentence."""

    # The journal, instruments and fees are looked at with each day: what is said of them is said once.
    found = sorted({f for v in verified for f in v.findings}, key=lambda f: (f.path, f.where))
    days = f"{verified[0].feed} {verified[0].date}" + (f" to {verified[-1].date}" if len(verified) > 1 else "")
    looked = (
        f"{sum(v.frames for v in verified):,} frames in {sum(v.segments for v in verified):,} segments, "
        f"{sum(v.lake_files for v in verified):,} table files, {sum(v.hours_made_again for v in verified):,} hours "
        f"of tables made again, {max(v.journal_records for v in verified):,} journal records, "
        f"{max(v.versions for v in verified):,} versions of instruments and fees"
    )
    if not found:
        typer.echo(f"{days} is whole: {looked}")
        return
    rows = [(f.path, f.where or "-", f.mend, f.what) for f in found]
    print_table([("file", "where", "mend", "what"), *rows], right=set())
    typer.echo("")
    for mend, advice in sorted({(f.mend, f.advice) for f in found}):
        typer.echo(f"{mend}: {advice}")
    more = sum(v.more for v in verified)
    count = f"{len(found)} findings" + (f" and {more:,} more" if more else "")
    typer.echo(f"{days} is damaged: {count} in {looked}")
