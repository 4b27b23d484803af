"""`ssmd fees`: what trading costs, now and at any time in the past."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ssmd import written
from ssmd.cli.as_json import AsJson
from ssmd.cli.printing import print_table
from ssmd.cli.secmaster import (
    SHOWN,
    AnyFeed,
    AsOf,
    DataFolder,
    FeedName,
    Json,
    echo_json,
    plain,
    records,
    run_sync,
    show_synced,
)
from ssmd.cli.when import nanoseconds
from ssmd.errors import Permanent

app = typer.Typer(
    no_args_is_help=True, help="What trading costs, now and at any time in the past.", rich_markup_mode=None
)

_COLUMNS = 'feed, symbol, "of", volume, maker, taker, basis, since, valid_from, valid_to, change'


@app.command()
def sync(
    feed: FeedName,
    local: Annotated[bool, typer.Option("--local", help="Do it here, without a Temporal server.")] = False,
    json: AsJson = False,
    data: DataFolder = Path("data"),
) -> None:
    """Read the venue's fees and write down what is new, changed or gone.

    Exit code 0: all was read; 1: some pages could not be, what was read is kept; 2: nothing was read.

    Example: ssmd fees sync kalshi
    """
    from ssmd import config, jobs  # noqa: PLC0415

    config.Places(data).check()
    job = jobs.FeeListing(config.load_feed(feed).name)
    done = run_sync("SyncFees", job, job.sync_id, data, local, f"ssmd fees sync {feed}")
    show_synced(done, "fees", json)


@app.command("list")
def list_(
    feed: AnyFeed = None,
    as_of: AsOf = None,
    every: Annotated[bool, typer.Option("--all", help=f"Every one (else: the first {SHOWN}).")] = False,
    json: Json = False,
    data: DataFolder = Path("data"),
) -> None:
    """List fees: fractions of price x size, of the size, or of size x p (1 - p).

    Example: ssmd fees list kraken --all
    """
    conditions, values = ["change <> 'delisted'"], []
    if feed is not None:
        conditions.append("feed = ?")
        values.append(feed)
    rows = _rows(data, as_of, conditions, values)
    if json:
        echo_json(rows)
        return
    _print(rows if every else rows[:SHOWN], versions=False)
    if not every and len(rows) > SHOWN:
        typer.echo(f"… and {len(rows) - SHOWN:,} more: --all shows them")
    if not rows:
        typer.echo(f"no fee is known: `ssmd fees sync {feed or 'FEED'}` reads them from the venue", err=True)


@app.command()
def show(
    feed: FeedName,
    symbol: Annotated[str, typer.Argument(metavar="SYMBOL", help="The instrument or series.", show_default=False)],
    as_of: AsOf = None,
    json: Json = False,
    data: DataFolder = Path("data"),
) -> None:
    """Show the fees of an instrument (or of a series), all versions; with --as-of those that were known then.

    Example: ssmd fees show kraken BTC/USD
    """
    view = "fee_versions" if as_of is None else None
    found = _rows(
        data,
        as_of,
        ["feed = ?", "(symbol = ? OR (\"of\" = 'series' AND symbol = ?))"],
        [feed, symbol, symbol.partition("-")[0]],
        view,
    )
    if not found:
        raise Permanent(f"no fee of {symbol} at {feed} is known: `ssmd fees list {feed}` shows what is")
    if json:
        echo_json(found)
    else:
        _print(found, versions=True)


def _rows(
    data: Path, as_of: str | None, conditions: list[str], values: list[str], view: str | None = None
) -> list[dict[str, Any]]:
    import duckdb  # noqa: PLC0415

    from ssmd import lake  # noqa: PLC0415

    source = view or ("fees" if as_of is None else f"fees_as_of({nanoseconds(as_of)})")
    select = f"SELECT {_COLUMNS} FROM {source} WHERE {' AND '.join(conditions)}"  # noqa: S608 - our own names
    try:
        return records(
            lake.connect(data).execute(f'{select} ORDER BY feed, symbol, "of", volume, since, valid_from', values)
        )
    except duckdb.InvalidInputException as e:  # a file that is not whole, in our own words
        raise Permanent(str(e).removeprefix("Invalid Input Error: ")) from e


def _print(rows: list[dict[str, Any]], *, versions: bool) -> None:

    heads = ("feed", "symbol", "of", "from volume", "maker", "taker", "basis", "since (UTC)")
    lines = [(*heads, "valid from (UTC)", "until", "change") if versions else heads]
    for row in rows:
        cells = (
            row["feed"],
            written.shortened(row["symbol"], 40),
            row["of"],
            plain(row["volume"]),
            plain(row["maker"]) or "-",
            plain(row["taker"]) or "-",
            row["basis"],
            "" if row["since"] is None else written.when(row["since"])[:16],
        )
        until = "" if row["valid_to"] is None else written.when(row["valid_to"])
        lines.append((*cells, written.when(row["valid_from"]), until, row["change"]) if versions else cells)
    print_table(lines, right={3, 4, 5})
