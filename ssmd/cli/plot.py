"""`ssmd plot`: pictures of prices, books and coverage."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssmd.cli.as_json import AsJson, print_json
from ssmd.cli.where import DataPlace, where
from ssmd.errors import Permanent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ssmd.plot import Range

app = typer.Typer(help="Draw prices, books and coverage.", no_args_is_help=True, rich_markup_mode=None)

Feed = Annotated[str, typer.Argument(metavar="FEED", help="The feed.", show_default=False)]
Symbol = Annotated[str, typer.Argument(metavar="SYMBOL", help="The venue's instrument.", show_default=False)]
Date = Annotated[
    str | None,
    typer.Argument(metavar="DATE", help="The UTC day: YYYY-MM-DD, today or yesterday (else: --start, --end)."),
]
Start = Annotated[str | None, typer.Option(help="From when on: 2026-11-20T14:00, UTC.")]
End = Annotated[str | None, typer.Option(help="Until when.")]
To = Annotated[Path, typer.Option("--to", metavar="FILE", help="The picture: .png or .svg.", show_default=False)]


@app.command()
def price(
    feed: Feed,
    symbol: Symbol,
    to: To,
    date: Date = None,
    start: Start = None,
    end: End = None,
    json: AsJson = False,
    data: DataPlace = "data",
) -> None:
    """Prices of trades between the best bid and ask, and the volume; gaps are shaded.

    \b
    ssmd plot price kalshi KXBTCD-26FEB07-T98000 today --to price.png
    """
    _of_range("price", feed, symbol, date, start, end, data, to, json)


@app.command()
def depth(
    feed: Feed,
    symbol: Symbol,
    to: To,
    date: Date = None,
    start: Start = None,
    end: End = None,
    json: AsJson = False,
    data: DataPlace = "data",
) -> None:
    """How much stood at which price around the best ones, over time; gaps are shaded.

    \b
    ssmd plot depth kraken BTC/USD --start 2026-11-20T14:00 --end 2026-11-20T15:00 --to depth.png
    """
    _of_range("depth", feed, symbol, date, start, end, data, to, json)


@app.command()
def coverage(
    feed: Feed,
    month: Annotated[str, typer.Argument(metavar="MONTH", help="YYYY-MM; or today, for this one.", show_default=False)],
    to: To,
    json: AsJson = False,
    data: DataPlace = "data",
) -> None:
    """A month's calendar: of each day and instrument, what is covered, in gaps (and why), or not there.

    \b
    ssmd plot coverage kalshi 2026-11 --to november.svg
    """
    import re  # noqa: PLC0415
    import time  # noqa: PLC0415

    _check(to)
    from ssmd.clock import date_of  # noqa: PLC0415

    said = re.fullmatch(r"(\d{4})-(0[1-9]|1[0-2])", date_of(time.time_ns())[:7] if month == "today" else month)
    if said is None:
        raise Permanent(f"{month!r} is no month: write it as 2026-11")
    from ssmd import ledger, plot  # noqa: PLC0415

    [recorded] = ledger.recorded(where(data).archive, feed)
    _write(plot.month(recorded, int(said[1]), int(said[2]), time.time_ns()), to, json)


def _of_range(
    what: str,
    feed: str,
    symbol: str,
    date: str | None,
    start: str | None,
    end: str | None,
    data: str,
    to: Path,
    json: bool,
) -> None:
    import time  # noqa: PLC0415

    _check(to)
    shown_range = _range(date, start, end)
    from ssmd import lake, ledger, plot  # noqa: PLC0415

    places = where(data)
    [recorded] = ledger.recorded(places.archive, feed)
    shown: Range = plot.Range(feed, symbol, *shown_range)
    missing = plot.missing(recorded, shown, time.time_ns())
    with lake.open(places) as opened:
        draw = plot.price if what == "price" else plot.depth
        _write(draw(opened, shown, missing), to, json)


def _range(date: str | None, start: str | None, end: str | None) -> tuple[int, int]:
    from ssmd import moments  # noqa: PLC0415
    from ssmd.cli.rollup import utc_date  # noqa: PLC0415
    from ssmd.clock import DAY_NS  # noqa: PLC0415

    if date is not None and (start or end):
        raise Permanent("name a date, or --start and --end, not both")
    if date is not None:
        low = moments.ns_of(utc_date(date))
        return low, low + DAY_NS
    if start is None or end is None:
        raise Permanent("what is to be drawn? name a date (2026-11-20, today), or --start and --end")
    times = []
    for name, said in (("--start", start), ("--end", end)):
        try:
            times.append(moments.ns_of(said))
        except ValueError:
            raise Permanent(f"{name} {said!r} is no time: write it like 2026-11-20T14:00:00Z") from None
    if times[0] >= times[1]:
        raise Permanent(f"the range from {start} to {end} is empty: --end must be after --start")
    return times[0], times[1]


def _check(to: Path) -> None:
    """Whatever can be known to be wrong before there is something to draw."""
    if to.suffix not in {".png", ".svg"}:
        raise Permanent(f"cannot draw {to}: pictures are PNG or SVG; name it {to.with_suffix('.png').name}")
    if not to.parent.is_dir():
        raise Permanent(f"cannot write {to}: there is no folder {to.parent}")
    if importlib.util.find_spec("matplotlib") is None:
        raise Permanent("matplotlib, which draws, is not installed: run `pip install 'ssmd[plot]'`")


def _write(figure: "Figure", to: Path, json: bool) -> None:
    from ssmd import durable, plot  # noqa: PLC0415

    durable.replace(to, plot.drawn(figure, "svg" if to.suffix == ".svg" else "png"))
    print_json({"file": str(to)}) if json else typer.echo(f"the picture is {to}")
