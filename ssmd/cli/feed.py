"""`ssmd feed`: what venues offer, as we subscribe to it."""

from datetime import date
from typing import Annotated

import typer

from ssmd.cli import completing, folder
from ssmd.cli.as_json import AsJson, print_json
from ssmd.cli.printing import print_table
from ssmd.errors import Permanent

app = typer.Typer(no_args_is_help=True, help="What venues offer, as we subscribe to it.", rich_markup_mode=None)

Name = Annotated[
    str, typer.Argument(metavar="FEED", autocompletion=completing.feeds, help="The feed.", show_default=False)
]


@app.command("list")
def list_(json: AsJson = False, config: folder.Config = None) -> None:
    """List all feeds.

    \b
    ssmd feed list
    """
    from ssmd.config import load_feed  # noqa: PLC0415

    feeds = [load_feed(name) for name in folder.names("feeds")]
    if json:
        print_json([feed.model_dump(mode="json") for feed in feeds])
        return
    lines = [("feed", "venue", "versions", "in force since", "endpoints", "key", "title")]
    for feed in feeds:
        now = feed.at(date.today())
        endpoints, key = ", ".join(now.endpoints), "required" if now.signed else "no"
        count, since = str(len(feed.versions)), str(now.effective_from)
        lines.append((feed.name, feed.venue, count, since, endpoints, key, feed.title))
    print_table(lines, right={2})


@app.command()
def show(
    name: Name,
    at: Annotated[str | None, typer.Option(metavar="DATE", help="As it is on this day (else: today).")] = None,
    json: AsJson = False,
    config: folder.Config = None,
) -> None:
    """Show a feed as it is on a day.

    \b
    ssmd feed show kalshi
    ssmd feed show kalshi --at 2026-04-01 --json
    """
    from ssmd.config import load_feed  # noqa: PLC0415
    from ssmd.gitops import editing  # noqa: PLC0415

    feed = load_feed(name)
    version = feed.at(date.today() if at is None else editing.day(at))
    if json:
        print_json(feed.model_dump(mode="json", exclude={"versions"}) | {"version": version.model_dump(mode="json")})
        return
    others = [str(v.effective_from) for v in feed.versions if v is not version]
    calendar = "the venue's own, if it has one"
    if version.calendar is not None:
        of = version.calendar
        calendar = f"{len(of.closures)} closures a week, {len(of.closed_dates)} closed days ({of.timezone})"
    told = {
        "feed": f"{feed.name}: {feed.title}",
        "venue": feed.venue,
        "in force since": f"{version.effective_from}" + (f" (others: {', '.join(others)})" if others else ""),
        "channels": ", ".join(version.channels),
        "precision": f"{feed.precision.price} digits of prices, {feed.precision.size} of sizes",
        "key": "required" if version.signed else "not required",
        "calendar": calendar,
    }
    told |= {f"endpoint {n}": f"{e.ws}  {e.rest}" for n, e in version.endpoints.items()}
    told |= {n.replace("_", " "): str(v) for n, v in version.limits.model_dump(exclude_none=True).items()}
    for what, value in told.items():
        typer.echo(f"{what:<26}{value}")


@app.command()
def create(
    name: Name,
    venue: Annotated[str | None, typer.Option(metavar="NAME", help="A folder of exchanges/.")] = None,
    title: Annotated[str | None, typer.Option(metavar="TEXT", help="For readers.")] = None,
    ws: Annotated[str | None, typer.Option(metavar="URL", help="Its WebSocket.")] = None,
    rest: Annotated[str | None, typer.Option(metavar="URL", help="Its REST service.")] = None,
    endpoint: Annotated[str, typer.Option(metavar="NAME", help="What these two are called.")] = "production",
    channel: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Subscribed to; repeatable.")] = None,
    effective_from: Annotated[str | None, typer.Option(metavar="DATE", help="From when (else: today).")] = None,
    price_digits: Annotated[int, typer.Option(metavar="N", help="Digits after the point of prices.")] = 8,
    size_digits: Annotated[int, typer.Option(metavar="N", help="Digits after the point of sizes.")] = 8,
    signed: Annotated[bool, typer.Option("--signed", help="The handshake needs a key.")] = False,
    json: AsJson = False,
    config: folder.Config = None,
) -> None:
    """Make a feed: one that comes with ssmd by its name alone, or a new one of a venue that ssmd speaks with.

    \b
    ssmd feed create deribit
    ssmd feed create kraken-beta --venue kraken --title "Kraken, beta" \\
      --ws wss://beta-ws.kraken.com/v2 --rest https://api.kraken.com --channel trade
    """
    from ssmd.gitops import starting  # noqa: PLC0415

    path = folder.path_of("feeds", name)
    given = {"--venue": venue, "--title": title, "--ws": ws, "--rest": rest, "--channel": channel}
    known = starting.own_feeds() / path.name
    if not any(given.values()) and known.is_file() and known.resolve() != path.resolve():
        starting.copied(known, path)
    elif path.exists():
        raise Permanent(f"{path} is there already: change it with `ssmd feed update {name}`, or choose another name")
    else:
        missing = [option for option, value in given.items() if not value]
        if missing:
            ours = ", ".join(sorted(p.stem for p in starting.own_feeds().glob("*.yaml")))
            raise Permanent(f"a new feed needs {', '.join(missing)}; those that come with ssmd need no option: {ours}")
        text = starting.feed(
            name,
            venue=str(venue),
            title=str(title),
            ws=str(ws),
            rest=str(rest),
            endpoint=endpoint,
            channels=channel or [],
            since=_day(effective_from),
            price=price_digits,
            size=size_digits,
            signed=signed,
        )
        starting.create(path, text)
    folder.told(path, "made", "`ssmd env create` or `ssmd env update` runs it", json)


@app.command()
def update(
    name: Name,
    settings: folder.Settings = None,
    unset: folder.Unset = None,
    version: Annotated[
        str | None, typer.Option(metavar="DATE", help="The version to change (else: that in force).")
    ] = None,
    json: AsJson = False,
    config: folder.Config = None,
) -> None:
    """Change a feed; comments stay. Fields of a version are named as in it, others by their full path.

    \b
    ssmd feed update kalshi --set silence_seconds=10 --set limits.frame_bytes=8388608
    ssmd feed update kalshi --set title="Kalshi, all of it"
    """
    from ssmd.gitops.editing import Editor  # noqa: PLC0415

    if not settings and not unset:
        raise Permanent("nothing to change: give --set PATH=VALUE or --unset PATH")
    editor = Editor(folder.path_of("feeds", name))
    which = _version(name, version)
    for setting in settings or []:
        editor.assign(_placed(setting, which))
    for one in unset or []:
        editor.unset(_placed(one, which))
    folder.changed(editor.path, editor.text, json)


@app.command("add-version")
def add_version(
    name: Name,
    effective_from: Annotated[str, typer.Option(metavar="DATE", help="From this day on.", show_default=False)],
    settings: folder.Settings = None,
    unset: folder.Unset = None,
    json: AsJson = False,
    config: folder.Config = None,
) -> None:
    """Add a version with a date: as the one before it, but for what is set. The past stays as it was.

    \b
    ssmd feed add-version kalshi --effective-from 2027-01-01 --set endpoints.production.ws=wss://new.example/ws
    """
    from ssmd.config import load_feed  # noqa: PLC0415
    from ssmd.gitops.editing import Editor, day  # noqa: PLC0415

    since = day(effective_from)
    feed = load_feed(name)
    if any(v.effective_from == since for v in feed.versions):
        raise Permanent(f"feed {name} has a version from {since} already: change it with `ssmd feed update {name}`")
    editor = Editor(folder.path_of("feeds", name))
    before = feed.at(since)
    copied = editor.copied(f"versions.{before.effective_from}", "effective_from")
    copied["effective_from"] = since
    later = [i for i, v in enumerate(feed.versions) if v.effective_from > since]
    editor.append("versions", copied, min(later, default=None))
    for setting in settings or []:
        editor.assign(_placed(setting, str(since)))
    for one in unset or []:
        editor.unset(_placed(one, str(since)))
    folder.changed(editor.path, editor.text, json)


def _placed(path: str, version: str) -> str:
    """A path as it is typed, from the root of the file."""
    from ssmd.config import FeedVersion  # noqa: PLC0415

    first = path.partition("=")[0].partition(".")[0]
    return f"versions.{version}.{path}" if first in FeedVersion.model_fields else path


def _version(name: str, said: str | None) -> str:
    from ssmd.config import load_feed  # noqa: PLC0415

    feed = load_feed(name)
    if said is None:
        return str(feed.at(date.today()).effective_from)
    if said not in {str(v.effective_from) for v in feed.versions}:
        known = ", ".join(str(v.effective_from) for v in feed.versions)
        raise Permanent(f"feed {name} has no version from {said}: it has {known}; `ssmd feed add-version` adds one")
    return said


def _day(said: str | None) -> date:
    from ssmd.gitops import editing  # noqa: PLC0415

    return date.today() if said is None else editing.day(said)
