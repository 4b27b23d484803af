"""`ssmd rollup` and `ssmd seal`: a day of frames becomes a day of tables."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssmd.cli import completing
from ssmd.cli.as_json import AsJson, print_json
from ssmd.errors import Permanent, Transient

if TYPE_CHECKING:
    from ssmd import jobs
    from ssmd.config import Addresses

FeedName = Annotated[
    str, typer.Argument(metavar="FEED", autocompletion=completing.feeds, help="The feed.", show_default=False)
]
DayName = Annotated[
    str,
    typer.Argument(
        metavar="DATE",
        autocompletion=completing.dates,
        help="The UTC day: YYYY-MM-DD, today or yesterday.",
        show_default=False,
    ),
]
DataFolder = Annotated[Path, typer.Option("--data", help="The data folder.")]

CONNECT_SECONDS = 5.0
SEAL_SECONDS = 120.0  # the archiver first archives all that the stream holds


def rollup(
    feed: FeedName,
    date: DayName,
    local: Annotated[bool, typer.Option("--local", help="Do it here, without a Temporal server.")] = False,
    seal: Annotated[bool, typer.Option("--seal", help="Seal the day now instead of waiting until it is over.")] = False,
    json: AsJson = False,
    data: DataFolder = Path("data"),
) -> None:
    """Make a day's tables from its frames.

    Waits until the day is sealed, verifies it, rolls it up, publishes the tables.

    \b
    ssmd rollup kalshi yesterday
    ssmd rollup kalshi today --seal
    """
    from ssmd import archive, config, jobs  # noqa: PLC0415
    from ssmd.cli import job  # noqa: PLC0415

    day = jobs.Day(config.load_feed(feed).name, utc_date(date), seal)
    places = config.Places(data)
    places.check()
    manifest = archive.manifest_path(places.archive, day.feed, day.date)
    if not manifest.exists() and not seal:
        dates = ", ".join(m.date for m in archive.manifests(places.archive, feed)) or "none"
        raise Permanent(
            f"nothing of {feed} is archived for {day.date} in {places.archive}: archived days are {dates}; "
            "--seal archives and seals what has come so far"
        )
    if not seal and not archive.load_manifest(manifest).sealed:
        _tell(f"{feed} {day.date} is not sealed yet: waiting until it is over (--seal seals it now)")
    if local:
        if seal:
            _addresses(data)  # only this folder's own archiver can
        rolled = job.here("RollupDay", day, jobs.RolledUp, data)
    else:
        import asyncio  # noqa: PLC0415

        again = f"ssmd rollup {feed} {date}"
        rolled = asyncio.run(job.by_temporal("RollupDay", day, day.rollup_id, jobs.RolledUp, _addresses(data), again))
    if json:
        print_json(rolled)
        return
    rows = ", ".join(f"{count:,} {table}" for table, count in rolled.rows.items()) or "no rows"
    bad = sum(rolled.quarantined.values())
    typer.echo(
        f"{rolled.feed} {rolled.date}: {rolled.frames:,} frames became {rows}; {bad:,} quarantined\n"
        f"{places.lake / rolled.manifest}"
    )


def seal(feed: FeedName, date: DayName, json: AsJson = False, data: DataFolder = Path("data")) -> None:
    """Have the archiver seal a day now instead of when it is over.

    Example: ssmd seal kalshi today
    """
    import asyncio  # noqa: PLC0415

    from ssmd import config, jobs  # noqa: PLC0415

    day = jobs.Day(config.load_feed(feed).name, utc_date(date), seal=True)
    answer = asyncio.run(_seal(day, _addresses(data)))
    if json:
        print_json({"feed": day.feed, "date": day.date} | answer)
        return
    typer.echo(f"{day.feed} {day.date} is sealed: revision {answer['revision']}, {int(answer['frames']):,} frames")


def utc_date(said: str) -> str:
    """A UTC date as YYYY-MM-DD."""
    from datetime import UTC, date, datetime, timedelta  # noqa: PLC0415

    today = datetime.now(UTC).date()
    known = {"today": today, "yesterday": today - timedelta(days=1)}
    if said in known:
        return known[said].isoformat()
    try:
        if date.fromisoformat(said).isoformat() == said:
            return said
    except ValueError:
        pass
    raise Permanent(f"{said!r} is no date: write it as YYYY-MM-DD, as in {today}, or say today or yesterday")


def _addresses(data: Path) -> "Addresses":
    """Where this data folder's own platform listens."""
    from ssmd import service  # noqa: PLC0415

    return service.addresses(data, None)


def _tell(sentence: str) -> None:
    typer.echo(sentence, err=True)


# -------------------------------------------------------------------------------------------------------- by NATS


async def _seal(day: "jobs.Day", addresses: "Addresses") -> "dict[str, int]":
    """Ask the archiver; its answer."""
    import msgspec  # noqa: PLC0415
    from nats.errors import Error, NoRespondersError  # noqa: PLC0415

    from ssmd import broker, subjects  # noqa: PLC0415

    try:
        client = await broker.connect_once(addresses.nats, "ssmd", CONNECT_SECONDS)
        try:
            subject = subjects.seal(addresses.environment, day.feed)
            reply = await client.request(subject, msgspec.json.encode({"date": day.date}), timeout=SEAL_SECONDS)
        finally:
            await client.close()
    except NoRespondersError:
        raise Transient(f"no archiver of {day.feed} answers at {addresses.nats}: start it with `ssmd up`") from None
    except (Error, OSError, TimeoutError) as e:
        raise Transient(
            f"no NATS answers at {addresses.nats} ({e or type(e).__name__}): start it with `ssmd up`"
        ) from e
    answer = msgspec.json.decode(reply.data)
    if "error" in answer:
        raise Permanent(f"the archiver will not seal {day.feed} {day.date}: {answer['error']}")
    return dict(answer)
