"""What each view and each of its columns means: one place for `ssmd data schema`, the shell and the documentation.

Types are the views' own (`described`), because a feed's precision decides how many decimals its prices and sizes have.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from ssmd.tables import COMMON, Meaning

if TYPE_CHECKING:
    import duckdb


class View(NamedTuple):
    """A view's rows in one line, and its columns."""

    said: str
    columns: Mapping[str, Meaning]


class Column(NamedTuple):
    """A column as a connection has it."""

    name: str
    type: str
    unit: str
    meaning: str


_DATE = Meaning("the UTC day of ts_recv, by which files are chosen: name it in conditions")
_PRICE, _SIZE = "quote currency", "the venue's size unit"


def _table(said: str, **own: Meaning) -> View:
    """A table of the rollup's: `date` stands after `feed`."""
    common: dict[str, Meaning] = {}
    for name, meaning in COMMON.items():
        common |= {name: meaning} | ({"date": _DATE} if name == "feed" else {})
    return View(said, common | own)


_VERSION = {
    "feed": Meaning("the feed"),
    "symbol": Meaning("the venue's id"),
    "valid_from": Meaning("when the venue first answered so", "ns"),
    "valid_to": Meaning("when it first answered otherwise; null: it is the latest version", "ns"),
    "change": Meaning("what made it a version: listed, changed or delisted"),
}
_RECORD = {"raw": Meaning("the venue's own record", "JSON")}
_INSTRUMENT = {
    **_VERSION,
    "status": Meaning("upcoming, open, paused, closed, settled or delisted"),
    "kind": Meaning("spot, perpetual, future, option, combo, binary, scalar or other"),
    "series": Meaning("the words by which a feed's plan finds it"),
    "base": Meaning("what is traded, where the venue says"),
    "quote": Meaning("what it is paid in, where the venue says"),
    "event": Meaning("the event that its outcome is of (prediction markets)"),
    "title": Meaning("its name for people"),
    "tick_size": Meaning("the price's finest step", _PRICE),
    "lot_size": Meaning("the size's step", _SIZE),
    "contract_size": Meaning("what one contract is of"),
    "strike": Meaning("an option's strike", _PRICE),
    "ts_open": Meaning("when trading begins", "ns"),
    "ts_close": Meaning("when trading ends", "ns"),
    "ts_expiry": Meaning("when it expires", "ns"),
    "ts_settled": Meaning("when it was settled", "ns"),
    "settlement_value": Meaning("what it was settled at", _PRICE),
    **_RECORD,
}
_FEE = {
    **_VERSION,
    "symbol": Meaning("an instrument, or a series where `of` says so"),
    "of": Meaning("instrument, or series: then all instruments of it"),
    "volume": Meaning("the turnover of 30 days from which on it holds", "USD"),
    "maker": Meaning("fee of who rested in the book; negative: a rebate", "fraction of basis"),
    "taker": Meaning("fee of who crossed it", "fraction of basis"),
    "basis": Meaning("what it is a fraction of: value (price x size), amount (size) or p(1-p)"),
    "since": Meaning("from when on it holds, where the venue says", "ns"),
    **_RECORD,
}

VIEWS: Mapping[str, View] = {
    "raw": View(
        "every archived frame, byte for byte",
        {
            "feed": Meaning("the feed"),
            "date": _DATE,
            "channel": Meaning("the channel it is archived under; _session, _gap and _bad are ours"),
            "seq": Meaning("its place in the NATS stream it was archived from"),
            "ts_recv": COMMON["ts_recv"],
            "conn": COMMON["conn"],
            "n": COMMON["n"],
            "frame": Meaning("what the venue sent; null if that was no JSON of one line", "JSON"),
            "text": Meaning("what it sent instead, if it was text"),
            "b64": Meaning("what it sent instead, if it was not", "base64"),
            "head": Meaning("white space before the frame"),
            "tail": Meaning("white space after it"),
            "reason": Meaning("why it is quarantined; null: it is not"),
        },
    ),
    "trades": _table(
        "one trade a row",
        price=Meaning("the price, exact", _PRICE),
        size=Meaning("how much, exact", _SIZE),
        side=Meaning("the taker's: buy or sell; null if the venue does not say"),
        trade_id=Meaning("the venue's id; null if it has none"),
    ),
    "tickers": _table(
        "best prices and statistics as the venue told them; null: not told in this frame",
        last=Meaning("the last trade's price", _PRICE),
        last_size=Meaning("its size", _SIZE),
        bid=Meaning("the best bid", _PRICE),
        bid_size=Meaning("how much is bid there", _SIZE),
        ask=Meaning("the best offer", _PRICE),
        ask_size=Meaning("how much is offered there", _SIZE),
        volume=Meaning("the volume that the venue counts (24 h, as a rule)", _SIZE),
        open_interest=Meaning("open contracts", _SIZE),
    ),
    "book_deltas": _table(
        "one level of a book changed",
        side=Meaning("bid or ask"),
        price=Meaning("the level", _PRICE),
        size=Meaning("what stands there now, 0: nothing; null where the venue tells `change`", _SIZE),
        change=Meaning("what was added to it; null where the venue tells `size`", _SIZE),
    ),
    "book_snapshots": _table(
        "a whole book, as deep as it was subscribed to",
        bids=Meaning("its bids, best first", f"{_PRICE}, {_SIZE}"),
        asks=Meaning("its offers, best first", f"{_PRICE}, {_SIZE}"),
    ),
    "status": _table(
        "something happened to an instrument or to the venue",
        status=Meaning("what, in the venue's word"),
        detail=Meaning("the venue's own message", "JSON"),
    ),
    "sessions": _table(
        "what became of a connection",
        type=Meaning("open, connected, alive (every 30 s) or close"),
        session=Meaning("the connection that it is about: not `conn` where its successor wrote the close"),
        detail=Meaning("endpoint, subscription, host, frames, reason", "JSON"),
    ),
    "gaps": _table(
        "what is missing, a row for each gap",
        gap=Meaning("the gap's name"),
        session=Meaning("the connection that missed it"),
        ts_start=Meaning("from when on something may be missing", "ns"),
        ts_end=Meaning("until when; null: it is open", "ns"),
        cause=Meaning("disconnect, sequence, checksum, stale, parse, overflow, restart, maintenance, lost, …"),
        symbols=Meaning("the instruments; none: all of the connection"),
        evidence=Meaning("what was seen"),
        repair=Meaning("what was done about it: backfill:… (its trades are there), unrepairable:… or nothing yet"),
    ),
    "coverage": View(
        "how much of a day is there of an instrument",
        {
            "feed": Meaning("the feed"),
            "date": Meaning("the UTC day"),
            "symbol": COMMON["symbol"]._replace(said="the venue's instrument id"),
            "covered_seconds": Meaning("how long it was listened to without a gap", "s"),
            "gap_seconds": Meaning("how long its gaps were", "s"),
            "gaps": Meaning("how many they were"),
            "condition": Meaning("available, degraded, missing or repaired"),
        },
    ),
    "instruments": View("what each venue lists now: the latest version of each instrument", _INSTRUMENT),
    "instrument_versions": View("all that it ever listed, from when until when", _INSTRUMENT),
    "fees": View("what trading costs now: the latest version of each fee", _FEE),
    "fee_versions": View("all that it ever cost, from when until when", _FEE),
}


def described(connection: "duckdb.DuckDBPyConnection", view: str) -> list[Column]:
    """A view's columns in their order, with the types that they have there."""
    meanings = VIEWS[view].columns
    rows = connection.execute(f'DESCRIBE "{view}"').fetchall()
    return [Column(name, kind, meanings[name].unit, meanings[name].said) for name, kind, *_ in rows]
