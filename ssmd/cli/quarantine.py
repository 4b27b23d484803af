"""`ssmd quarantine`: frames that our grammar did not know, kept byte for byte."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssmd import written
from ssmd.cli import completing
from ssmd.cli.as_json import AsJson, print_json
from ssmd.cli.printing import print_frame, print_table, show_frame
from ssmd.errors import Permanent

if TYPE_CHECKING:
    from ssmd.archive import Manifest
    from ssmd.frames import Line
    from ssmd.jobs import Replayed
    from ssmd.ledger import Recorded

app = typer.Typer(
    no_args_is_help=True, help="Frames that our grammar did not know, kept byte for byte.", rich_markup_mode=None
)

SAMPLE_CHARACTERS_MAX = 60
REASON_CHARACTERS_MAX = 70

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


@app.command("list")
def list_(
    feed: Annotated[
        str | None, typer.Argument(metavar="FEED", autocompletion=completing.feeds, help="The feed (else: all).")
    ] = None,
    date: Annotated[str | None, typer.Option(help="Only this UTC day: YYYY-MM-DD, today or yesterday.")] = None,
    json: AsJson = False,
    data: DataFolder = Path("data"),
) -> None:
    """List quarantined frames by day and reason, with one of them.

    Example: ssmd quarantine list kalshi
    """
    from ssmd import config, ledger  # noqa: PLC0415
    from ssmd.cli.rollup import utc_date  # noqa: PLC0415

    places = config.Places(data)
    places.check()
    day = None if date is None else utc_date(date)
    found = []
    for one in ledger.recorded(places.archive, feed):
        for manifest in one.manifests.values():
            counts = _counts(one, manifest)
            if counts and day in {None, manifest.date}:
                samples = _samples(places.archive, manifest, set(counts))
                found += [(one.feed, manifest.date, n, r, samples.get(r)) for r, n in sorted(counts.items())]
    if json:
        keys = ("feed", "date", "frames", "reason", "sample")
        print_json([dict(zip(keys, row, strict=True)) for row in found])
        return
    lines = [("feed", "date", "frames", "reason", "one of them")]
    for name, when, count, reason, sample in found:
        shown = "(in no finished segment yet)" if sample is None else sample
        lines.append((name, when, f"{count:,}", written.shortened(reason, REASON_CHARACTERS_MAX), shown))
    print_table(lines, right={2})
    if not found:
        typer.echo(f"nothing of {feed or 'any feed'}{f' on {day}' if day else ''} is in quarantine", err=True)


@app.command()
def show(
    feed: FeedName,
    date: DayName,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Only those whose reason has this text in it.")] = "",
    count: Annotated[int, typer.Option("-n", min=1, help="How many.")] = 5,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line; the frame is in `text`.")] = False,
    data: DataFolder = Path("data"),
) -> None:
    """Show quarantined frames as they were received.

    Example: ssmd quarantine show kalshi yesterday --reason JSON -n 20
    """
    from ssmd import config, frames, ledger  # noqa: PLC0415
    from ssmd.cli.rollup import utc_date  # noqa: PLC0415

    places = config.Places(data)
    places.check()
    [recorded] = ledger.recorded(places.archive, feed)
    manifest = recorded.manifest(utc_date(date))
    lines = (line for line in _bad(places.archive, manifest) if reason in (line.reason or ""))
    shown = 0
    for shown, line in enumerate(islice(lines, count), 1):  # noqa: B007
        if json:
            print_frame(frames.BAD, line)
            continue
        show_frame(frames.BAD, line.ts_recv, line.conn, line.n, line.wire(), line.reason)
    if not shown:
        known = ", ".join(sorted(_counts(recorded, manifest))) or "none"
        typer.echo(f"no such frame is in a finished segment of {feed} {manifest.date}; reasons: {known}", err=True)


@app.command()
def replay(
    feed: FeedName,
    date: DayName,
    rollup: Annotated[
        bool, typer.Option("--rollup", help="Then roll the day up again, so that they come into the tables.")
    ] = False,
    json: AsJson = False,
    data: DataFolder = Path("data"),
) -> None:
    """Say which quarantined frames today's grammar knows.

    \b
    ssmd quarantine replay kalshi 2026-11-20
    ssmd quarantine replay kalshi 2026-11-20 --rollup
    """
    from ssmd import config, jobs, ledger  # noqa: PLC0415
    from ssmd.cli import job  # noqa: PLC0415
    from ssmd.cli.rollup import utc_date  # noqa: PLC0415

    places = config.Places(data)
    places.check()
    day = jobs.Day(config.load_feed(feed).name, utc_date(date))
    [recorded] = ledger.recorded(places.archive, feed)
    if rollup and not recorded.manifest(day.date).sealed:
        raise Permanent(
            f"{feed} {day.date} is not sealed, so it cannot be rolled up: `ssmd seal {feed} {day.date}` first"
        )
    replayed = job.here("ReplayQuarantine", jobs.Quarantined(day.feed, day.date), jobs.Replayed, data)
    if json:
        print_json(replayed)
    else:
        _tell(replayed, rollup)
    if rollup:
        rolled = job.here("RollupDay", day, jobs.RolledUp, data)
        left = sum(rolled.quarantined.values())
        typer.echo(f"{feed} {day.date} is rolled up again: {rolled.frames:,} frames, {left:,} in quarantine", err=json)


def _tell(replayed: "Replayed", rollup: bool) -> None:

    lines = [("frames", "parse now", "as", "quarantined for")]
    for chance in replayed.reasons:
        channels = ", ".join(f"{channel} {count:,}" for channel, count in chance.parse_now.items())
        reason = written.shortened(chance.reason, REASON_CHARACTERS_MAX)
        lines.append((f"{chance.frames:,}", f"{sum(chance.parse_now.values()):,}", channels, reason))
    print_table(lines, right={0, 1})
    if replayed.more:
        typer.echo(f"… and {replayed.more:,} frames for other reasons")
    hint = "" if rollup or not replayed.parse_now else ": --rollup takes them into the tables"
    typer.echo(
        f"\n{replayed.feed} {replayed.date}: {replayed.parse_now:,} of {replayed.frames:,} quarantined frames "
        f"would parse now{hint}"
    )


def _counts(recorded: "Recorded", manifest: "Manifest") -> dict[str, int]:
    """Quarantined frames by reason; the archiver's cursor knows also what is in no finished segment yet."""
    state = recorded.cursor.days.get(manifest.date) if recorded.cursor is not None else None
    return manifest.quarantined if state is None else state.quarantined


def _bad(root: Path, manifest: "Manifest") -> "Iterator[Line]":
    from ssmd import archive, frames  # noqa: PLC0415

    folder = archive.day_folder(root, manifest.feed, manifest.date)
    for segment in manifest.segments:
        if segment.channel == frames.BAD:
            yield from archive.read_segment(folder / segment.name, segment)


def _samples(root: Path, manifest: "Manifest", reasons: set[str]) -> dict[str, str]:
    """A frame for each reason, shortened."""
    found: dict[str, str] = {}
    for line in _bad(root, manifest):
        reason = line.reason or "unknown"
        if reason not in found:
            text = line.wire()[: 4 * SAMPLE_CHARACTERS_MAX].decode(errors="backslashreplace")
            found[reason] = written.shortened(text, SAMPLE_CHARACTERS_MAX)
            if found.keys() >= reasons:
                break
    return found
