"""`ssmd data`: what the archive and the lake hold."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssmd.cli import completing
from ssmd.cli.as_json import AsJson, print_json
from ssmd.cli.export import export
from ssmd.cli.printing import print_frame, print_table, show_frame, size
from ssmd.cli.where import DataPlace, where
from ssmd.errors import Permanent

if TYPE_CHECKING:
    from ssmd.archive import Manifest
    from ssmd.views import Column

app = typer.Typer(no_args_is_help=True, help="What the archive and the lake hold.", rich_markup_mode=None)

DataFolder = Annotated[Path, typer.Option("--data", help="The data folder.")]


@app.command("list")
def list_(json: AsJson = False, data: DataPlace = "data") -> None:
    """List feeds and days: frames, size, whether sealed and rolled up, gaps.

    Example: ssmd data list
    """
    from ssmd import archive, tables  # noqa: PLC0415

    places = where(data)
    lake = {(day.feed, day.date): day.revision for day in tables.days(places.lake)}
    lines = [("feed", "date", "frames", "size", "sealed", "rolled up", "gaps")]
    days: list[dict[str, object]] = []
    for manifest in archive.manifests(places.archive):
        revision = lake.get((manifest.feed, manifest.date))
        rolled_up = "no" if revision is None else "yes" if revision == manifest.revision else "outdated"
        stored = sum(s.bytes for s in manifest.segments)
        gaps, still = _gaps(manifest)
        days.append(
            {
                "feed": manifest.feed,
                "date": manifest.date,
                "frames": manifest.frames,
                "bytes": stored,
                "sealed": manifest.sealed,
                "revision": manifest.revision,
                "rolled_up": rolled_up,
                "gaps": gaps,
                "gaps_open": still,
            }
        )
        lines.append(
            (
                manifest.feed,
                manifest.date,
                f"{manifest.frames:,}",
                size(stored),
                "yes" if manifest.sealed else "no",
                rolled_up,
                f"{gaps} ({still} open)" if still else str(gaps),
            )
        )
    if len(lines) == 1:
        fill = "`ssmd publish`" if data.startswith("s3://") else "`ssmd up`"
        typer.echo(f"{data} holds no archived day yet: {fill} fills it", err=True)
    if json:
        print_json(days)
    else:
        print_table(lines, right={2, 3})


@app.command()
def sample(
    feed: Annotated[str, typer.Argument(autocompletion=completing.feeds, help="The feed.", show_default=False)],
    channel: Annotated[
        str | None,
        typer.Argument(autocompletion=completing.channels, help="The channel (else: the first few of each)."),
    ] = None,
    date: Annotated[
        str | None, typer.Option(autocompletion=completing.dates, help="The day, YYYY-MM-DD (else: the last one).")
    ] = None,
    count: Annotated[int, typer.Option("-n", min=1, help="How many frames of a channel.")] = 3,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line; the frame is in `text`.")] = False,
    data: DataFolder = Path("data"),
) -> None:
    """Show a few archived frames as they were received.

    Example: ssmd data sample kalshi trade -n 5
    """
    from itertools import islice  # noqa: PLC0415

    from ssmd import archive, config  # noqa: PLC0415

    places = config.Places(data)
    places.check()
    manifest = _day(places.archive, feed, date)
    channels = sorted({s.channel for s in manifest.segments})
    if channel is not None and channel not in channels:
        known = ", ".join(channels) or "none"
        raise Permanent(f"{feed} {manifest.date} has no channel {channel!r} in the archive: it has {known}")
    folder = archive.day_folder(places.archive, feed, manifest.date)
    for name in channels if channel is None else [channel]:
        segments = [s for s in manifest.segments if s.channel == name]
        lines = (line for s in segments for line in archive.read_segment(folder / s.name, s))
        for line in islice(lines, count):
            if json:
                print_frame(name, line)
                continue
            show_frame(name, line.ts_recv, line.conn, line.n, line.wire(), line.reason)


@app.command()
def schema(
    table: Annotated[
        str | None, typer.Argument(metavar="TABLE", autocompletion=completing.views, help="A view (else: all).")
    ] = None,
    json: AsJson = False,
    data: DataPlace = "data",
) -> None:
    """Say what the views hold: columns, types, units, and what each means.

    \b
    ssmd data schema
    ssmd data schema trades --json
    """
    from ssmd import lake, views  # noqa: PLC0415

    if table is not None and table not in views.VIEWS:
        raise Permanent(f"there is no view {table}: there are {', '.join(views.VIEWS)}")
    with lake.connect(where(data)) as connection:
        found = {name: views.described(connection, name) for name in ([table] if table else views.VIEWS)}
    if json:
        print_json(
            [
                {"view": name, "meaning": views.VIEWS[name].said, "columns": [c._asdict() for c in columns]}
                for name, columns in found.items()
            ]
        )
        return
    for name, columns in found.items():
        if name != next(iter(found)):
            typer.echo("")
        show_schema(name, columns)


def show_schema(name: str, columns: "Sequence[Column]") -> None:
    """A view in one line, then a line for each of its columns."""
    from ssmd import views  # noqa: PLC0415

    typer.echo(f"{name}: {views.VIEWS[name].said}")
    print_table([(f"  {c.name}", c.type, c.unit, c.meaning) for c in columns], right=set())


@app.command()
def builders(
    feed: Annotated[
        str | None, typer.Argument(metavar="FEED", autocompletion=completing.feeds, help="The feed (else: all).")
    ] = None,
    date: Annotated[
        str, typer.Option(help="By the grammar of this UTC day: YYYY-MM-DD, today or yesterday.")
    ] = "today",
    json: AsJson = False,
) -> None:
    """Say which tables the rollup makes of which channels of a feed, and by which code.

    \b
    ssmd data builders kalshi
    ssmd data builders --json
    """
    from datetime import date as day  # noqa: PLC0415

    from ssmd import config  # noqa: PLC0415
    from ssmd.cli import folder  # noqa: PLC0415
    from ssmd.cli.rollup import utc_date  # noqa: PLC0415

    asked = day.fromisoformat(utc_date(date))
    of = config.application("activities.builders").builders
    found = [builder for name in ([feed] if feed else folder.names("feeds")) for builder in of(name, asked)]
    if json:
        print_json(found)
        return
    channels: dict[tuple[str, str, str], list[str]] = {}
    for b in found:
        for table in b.tables or ("(archive only)",):
            channels.setdefault((b.feed, table, b.code), []).append(b.channel)
    lines = [(name, table, code, ", ".join(some)) for (name, table, code), some in sorted(channels.items())]
    print_table([("feed", "table", "code", "made of"), *lines], right=set())


app.command()(export)


def _day(root: Path, feed: str, date: str | None) -> "Manifest":
    from ssmd import archive  # noqa: PLC0415

    dates = [m.date for m in archive.manifests(root, feed)]
    if not dates:
        feeds = ", ".join(sorted({m.feed for m in archive.manifests(root)})) or "nothing yet"
        raise Permanent(f"nothing of {feed!r} is archived in {root}: there is {feeds}")
    if date is not None and date not in dates:
        raise Permanent(f"{feed} has no archived day {date!r}: it has {', '.join(dates[-7:])}")
    return archive.load_manifest(archive.manifest_path(root, feed, date or dates[-1]))


def _gaps(manifest: "Manifest") -> tuple[int, int]:
    """How many gaps a day has, and how many of them are still open."""
    import msgspec  # noqa: PLC0415

    from ssmd.events import Gap  # noqa: PLC0415

    last = {gap.gap: gap for gap in (msgspec.json.decode(raw, type=Gap) for raw in manifest.gaps)}
    return len(last), sum(gap.end is None for gap in last.values())
