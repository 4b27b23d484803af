"""`ssmd secmaster`: the instruments of a feed, now and at any time in the past."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssmd import written
from ssmd.cli import completing
from ssmd.cli.as_json import AsJson, print_json
from ssmd.cli.printing import print_table
from ssmd.cli.when import nanoseconds
from ssmd.errors import Permanent

if TYPE_CHECKING:
    import duckdb

    from ssmd import jobs

app = typer.Typer(
    no_args_is_help=True,
    help="The instruments of a feed, now and at any time in the past.",
    rich_markup_mode=None,
)

SHOWN = 50
TITLE_CHARACTERS_MAX = 40
FeedName = Annotated[
    str, typer.Argument(metavar="FEED", autocompletion=completing.feeds, help="The feed.", show_default=False)
]
AnyFeed = Annotated[
    str | None,
    typer.Argument(metavar="FEED", autocompletion=completing.feeds, help="The feed (else: all).", show_default=False),
]
DataFolder = Annotated[Path, typer.Option("--data", help="The data folder.")]
AsOf = Annotated[
    str | None,
    typer.Option(
        "--as-of", metavar="TIME", help="What was known then (UTC): 2026-11-20, 2026-11-20T14:30 or ns since 1970."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON array, times in ns.")]

_COLUMNS = (
    "feed, symbol, status, kind, series, base, quote, event, title, tick_size, lot_size, contract_size, strike, "
    "ts_open, ts_close, ts_expiry, ts_settled, settlement_value, valid_from, valid_to, change"
)


@app.command()
def sync(
    feed: FeedName,
    full: Annotated[bool, typer.Option("--full", help="Also what is not open: not yet, paused, closed.")] = False,
    local: Annotated[bool, typer.Option("--local", help="Do it here, without a Temporal server.")] = False,
    json: AsJson = False,
    data: DataFolder = Path("data"),
) -> None:
    """Read the venue's instruments, write down what is new, changed or gone, and tell the connectors.

    Exit code 0: all was read; 1: some pages could not be, what was read is kept; 2: nothing was read.

    \b
    ssmd secmaster sync kalshi
    ssmd secmaster sync deribit --full --local
    """
    from ssmd import config, jobs  # noqa: PLC0415

    config.Places(data).check()
    job = jobs.Listing(config.load_feed(feed).name, full)
    again = f"ssmd secmaster sync {feed}{' --full' if full else ''}"
    done = run_sync("SyncSecmaster", job, job.sync_id, data, local, again)
    show_synced(done, "instruments", json)


@app.command("list")
def list_(
    feed: AnyFeed = None,
    status: Annotated[
        str | None, typer.Option(help="Only those: upcoming, open, paused, closed, settled, delisted.")
    ] = None,
    series: Annotated[str | None, typer.Option(help="Only those of a series.")] = None,
    as_of: AsOf = None,
    every: Annotated[
        bool, typer.Option("--all", help=f"Every one (else: those not settled or delisted, the first {SHOWN}).")
    ] = False,
    json: Json = False,
    data: DataFolder = Path("data"),
) -> None:
    """List instruments.

    \b
    ssmd secmaster list kalshi --status open
    ssmd secmaster list deribit --as-of 2026-11-20T14:30 --json
    """
    conditions, values = _of_feed(feed)
    if status is not None:
        conditions.append("status = ?")
        values.append(_known_status(status))
    elif not every:
        conditions.append("status NOT IN ('settled', 'delisted')")
    if series is not None:
        conditions.append("list_contains(series, ?)")
        values.append(series)
    _show(_rows(data, as_of, conditions, values), every, json)


@app.command()
def search(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Part of a symbol, title, event, base or quote.")],
    feed: Annotated[str | None, typer.Option(help="Only of this feed.")] = None,
    as_of: AsOf = None,
    every: Annotated[bool, typer.Option("--all", help=f"Every one (else: the first {SHOWN}).")] = False,
    json: Json = False,
    data: DataFolder = Path("data"),
) -> None:
    """Find instruments by a part of their name, whatever its case.

    Example: ssmd secmaster search btc --feed deribit
    """
    conditions, values = _of_feed(feed)
    conditions.append("contains(lower(concat_ws(' ', symbol, title, event, base, quote)), lower(?))")
    _show(_rows(data, as_of, conditions, [*values, text]), every, json)


@app.command()
def show(
    feed: FeedName,
    symbol: Annotated[str, typer.Argument(metavar="SYMBOL", help="The instrument.", show_default=False)],
    as_of: AsOf = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON array of versions, with the venue's records.")] = False,
    data: DataFolder = Path("data"),
) -> None:
    """Show an instrument and all its versions; with --as-of the one that was known then.

    Example: ssmd secmaster show kalshi KXBTCD-26NOV20-T98000
    """
    import msgspec  # noqa: PLC0415

    view = "instrument_versions" if as_of is None else None
    columns = f"{_COLUMNS}, raw"
    rows = _rows(data, as_of, ["feed = ?", "symbol = ?"], [feed, symbol], view, columns, "valid_from")
    if not rows:
        when = "" if as_of is None else f" as of {as_of}"
        raise Permanent(f"no instrument {symbol} of {feed} is known{when}: `ssmd secmaster search` finds by parts")
    if json:
        for row in rows:
            row["raw"] = msgspec.Raw(row["raw"].encode())
        echo_json(rows)
        return
    latest = rows[-1]
    for name, value in latest.items():
        if name not in {"raw", "valid_to", "change"} and value not in (None, []):
            typer.echo(f"{name:18}{_written(name, value)}")
    typer.echo("")

    lines = [("valid from (UTC)", "until", "change", "status", "what is different")]
    before: dict[str, Any] = {}
    for row in rows:
        until = "" if row["valid_to"] is None else written.when(row["valid_to"])
        different = _different(before, row) if before else ""
        lines.append((written.when(row["valid_from"]), until, row["change"], row["status"], different))
        before = row
    print_table(lines, right=set())


@app.command()
def stats(feed: AnyFeed = None, as_of: AsOf = None, json: Json = False, data: DataFolder = Path("data")) -> None:
    """Count instruments by feed and status, and say when the venue was asked last.

    Example: ssmd secmaster stats
    """
    from ssmd import config, versions  # noqa: PLC0415

    conditions, values = _of_feed(feed)
    rows = _rows(data, as_of, conditions, values, None, "feed, status, valid_from", "feed")
    asked = {m.feed: m for m in versions.manifests(config.Places(data).lake, versions.INSTRUMENTS)}
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        counts = found.setdefault(row["feed"], dict.fromkeys(STATUS, 0))
        counts[row["status"]] += 1
    if json:
        told = [
            {"feed": f, **counts, "synced_ns": asked[f].synced_ns, "whole_ns": asked[f].whole_ns}
            for f, counts in found.items()
        ]
        echo_json(told)
        return
    lines: list[tuple[str, ...]] = [("feed", *STATUS, "all", "asked last (UTC)", "whole", "full")]
    for name, counts in found.items():
        times = [_when(t) for t in (asked[name].synced_ns, asked[name].whole_ns, asked[name].full_ns)]
        lines.append((name, *(f"{n:,}" for n in counts.values()), f"{sum(counts.values()):,}", *times))
    print_table(lines, right=set(range(1, 8)))
    if not found:
        typer.echo(_nothing(feed), err=True)


# ------------------------------------------------------------------------------------------- shared with `ssmd fees`

STATUS = ("upcoming", "open", "paused", "closed", "settled", "delisted")


def run_sync(workflow: str, job: object, id_: str, data: Path, local: bool, again: str) -> "jobs.Synced":
    """Have it done by this folder's platform, or here."""
    import asyncio  # noqa: PLC0415

    from ssmd import jobs, service  # noqa: PLC0415
    from ssmd.cli import job as running  # noqa: PLC0415

    if not local:
        addresses = service.addresses(data, None)
        return asyncio.run(running.by_temporal(workflow, job, id_, jobs.Synced, addresses, again))
    return running.here(workflow, job, jobs.Synced, data)


def show_synced(done: "jobs.Synced", what: str, json: bool) -> None:
    """The result in a sentence, and one for each page that is missing."""
    if json:
        echo_json(done)
    elif done.note:
        typer.echo(f"nothing to read: {done.note}")
    else:
        new = ", ".join(f"{n:,} {word}" for word, n in (("new", done.listed), ("changed", done.changed)) if n)
        gone = f"{done.delisted:,} gone" if done.delisted else ""
        typer.echo(
            f"{done.feed}: {done.read:,} {what} read in {done.pages:,} page{'s' * (done.pages != 1)}: "
            f"{', '.join(filter(None, [new, gone])) or 'nothing has changed'}"
        )
    for one in done.unread:
        typer.echo(f"not read: {one.request}: {one.error}", err=True)
    if done.odd:
        typer.echo(f"{done.odd:,} records make no sense, the first: {done.odd_reason}", err=True)
    if not done.whole:
        typer.echo("some of it is missing, so nothing was taken for gone; what was read is kept", err=True)
        raise typer.Exit(1)


def records(relation: "duckdb.DuckDBPyConnection") -> list[dict[str, Any]]:
    """Rows by their columns' names."""
    names = [column[0] for column in relation.description or []]
    return [dict(zip(names, row, strict=True)) for row in relation.fetchall()]


def echo_json(value: object) -> None:
    """Decimals as text without the zeros that fill them up."""
    print_json(_plain(value))


def plain(number: Any) -> str:
    """A decimal without the zeros that fill it up."""
    return "" if number is None else f"{number.normalize() + 0:f}"


def _plain(value: object) -> object:
    from decimal import Decimal  # noqa: PLC0415

    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return plain(value) if isinstance(value, Decimal) else value


# --------------------------------------------------------------------------------------------------------- inside


def _of_feed(feed: str | None) -> tuple[list[str], list[object]]:
    return ([], []) if feed is None else (["feed = ?"], [feed])


def _known_status(said: str) -> str:
    if said not in STATUS:
        raise Permanent(f"--status {said}: there is no such status; there are {', '.join(STATUS)}")
    return said


def _rows(
    data: Path,
    as_of: str | None,
    conditions: list[str],
    values: list[object],
    view: str | None = None,
    columns: str = _COLUMNS,
    order: str = "feed, symbol",
) -> list[dict[str, Any]]:
    """What is known, or was as of a time."""
    import duckdb  # noqa: PLC0415

    from ssmd import lake  # noqa: PLC0415

    source = view or ("instruments" if as_of is None else f"instruments_as_of({nanoseconds(as_of)})")
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    try:
        return records(
            lake.connect(data).execute(f"SELECT {columns} FROM {source} {where} ORDER BY {order}", values)  # noqa: S608
        )
    except duckdb.InvalidInputException as e:  # a file that is not whole, in our own words
        raise Permanent(str(e).removeprefix("Invalid Input Error: ")) from e


def _show(rows: list[dict[str, Any]], every: bool, json: bool) -> None:

    if json:
        echo_json(rows)
        return
    lines = [("feed", "symbol", "status", "kind", "series", "tick", "lot", "closes (UTC)", "settled at", "title")]
    for row in rows if every else rows[:SHOWN]:
        title = row["title"] or " ".join(filter(None, (row["base"], row["quote"])))
        lines.append(
            (
                row["feed"],
                written.shortened(row["symbol"], TITLE_CHARACTERS_MAX),
                row["status"],
                row["kind"],
                written.shortened(row["series"][0] if row["series"] else "", TITLE_CHARACTERS_MAX),
                plain(row["tick_size"]),
                plain(row["lot_size"]),
                "" if row["ts_close"] is None else written.when(row["ts_close"])[:16],
                plain(row["settlement_value"]),
                written.shortened(title, TITLE_CHARACTERS_MAX),
            )
        )
    print_table(lines, right={5, 6, 8})
    if not every and len(rows) > SHOWN:
        typer.echo(f"… and {len(rows) - SHOWN:,} more: --all shows them")
    if not rows:
        typer.echo(_nothing(None), err=True)


def _nothing(feed: str | None) -> str:
    return f"no such instrument is known: `ssmd secmaster sync {feed or 'FEED'}` reads them from the venue"


def _when(ts_ns: int) -> str:
    return written.when(ts_ns)[:19] if ts_ns else "never"


def _written(name: str, value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    if name.startswith("ts_") or name == "valid_from":
        return f"{written.when(value)} UTC"
    return value if isinstance(value, str) else plain(value)


def _different(before: dict[str, Any], row: dict[str, Any]) -> str:
    """The fields that changed, or that only the venue's own record did."""
    skipped = {"raw", "valid_from", "valid_to", "change"}
    names = [name for name, value in row.items() if name not in skipped and value != before[name]]
    if names:
        return ", ".join(f"{n}: {_written(n, row[n]) if row[n] is not None else 'none'}" for n in names)
    return "" if row["raw"] == before["raw"] else "the venue's record"
