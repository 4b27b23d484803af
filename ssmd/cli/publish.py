"""`ssmd publish` and `ssmd restore`: a rolled-up day goes to object storage, and comes back."""

from pathlib import Path
from typing import Annotated

import typer

from ssmd.cli import completing
from ssmd.cli.as_json import AsJson, print_json
from ssmd.cli.printing import size
from ssmd.errors import Permanent


def publish(
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
    local: Annotated[bool, typer.Option("--local", help="Do it here, without a Temporal server.")] = False,
    env: Annotated[
        str | None,
        typer.Option(help="With --local, the environment whose storage it is (else: the data folder's own)."),
    ] = None,
    json: AsJson = False,
    data: Annotated[Path, typer.Option("--data", help="The data folder.")] = Path("data"),
) -> None:
    """Store a rolled-up day in the environment's object storage.

    Its segments and tables are stored, read back, and only then told to readers.

    \b
    ssmd publish kalshi yesterday
    ssmd publish kalshi 2026-11-20 --local --env local-s3
    """
    import asyncio  # noqa: PLC0415

    from ssmd import archive, config, jobs, service, tables  # noqa: PLC0415
    from ssmd.cli import job  # noqa: PLC0415
    from ssmd.cli.rollup import utc_date  # noqa: PLC0415

    day = jobs.Publication(config.load_feed(feed).name, utc_date(date))
    places = config.Places(data)
    places.check()
    try:
        manifest = archive.load_manifest(archive.manifest_path(places.archive, day.feed, day.date))
        rolled = tables.load_day(places.lake / tables.manifest_path(day.feed, day.date)).revision
    except FileNotFoundError:
        raise Permanent(
            f"{day.feed} {day.date} is not rolled up in {data}: `ssmd rollup {day.feed} {day.date}` first"
        ) from None
    if not manifest.sealed or rolled != manifest.revision:
        raise Permanent(
            f"{day.feed} {day.date} has more frames than its tables: `ssmd rollup {day.feed} {day.date}` first"
        )
    if local:
        published = job.here("PublishArchive", day, jobs.Published, data, env=env)
    else:
        again = f"ssmd publish {day.feed} {day.date}"
        addresses = service.addresses(data, env)
        published = asyncio.run(
            job.by_temporal("PublishArchive", day, day.publish_id, jobs.Published, addresses, again)
        )
    if json:
        print_json(published)
        return
    typer.echo(
        f"{published.feed} {published.date} is in {published.store}: revision {published.revision}, "
        f"{published.objects:,} objects ({published.new:,} new) of {size(published.bytes)}, all read back"
    )


def restore(
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
    local: Annotated[bool, typer.Option("--local", help="Do it here, without a Temporal server.")] = False,
    env: Annotated[
        str | None,
        typer.Option(help="With --local, the environment whose storage it is (else: the data folder's own)."),
    ] = None,
    json: AsJson = False,
    data: Annotated[Path, typer.Option("--data", help="The data folder.")] = Path("data"),
) -> None:
    """Bring back a day's files that `ssmd retention` removed here.

    Example: ssmd restore kalshi 2026-11-20
    """
    import asyncio  # noqa: PLC0415

    from ssmd import config, jobs, service  # noqa: PLC0415
    from ssmd.cli import job  # noqa: PLC0415
    from ssmd.cli.rollup import utc_date  # noqa: PLC0415

    day = jobs.Restoration(config.load_feed(feed).name, utc_date(date))
    config.Places(data).check()
    if local:
        restored = job.here("RestoreDay", day, jobs.Restored, data, env=env)
    else:
        again = f"ssmd restore {day.feed} {day.date}"
        addresses = service.addresses(data, env)
        restored = asyncio.run(job.by_temporal("RestoreDay", day, day.restore_id, jobs.Restored, addresses, again))
    if json:
        print_json(restored)
        return
    typer.echo(
        f"{restored.feed} {restored.date} is here: {restored.files:,} files came back from {restored.store} "
        f"({size(restored.bytes)})"
    )
