"""How long it takes to write normalized events, beside pycapnp and the obvious way."""

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import capnp as pycapnp

from bench.figures import Measured, Row
from bench.size import Size
from exchanges.kalshi import venue
from services.normalizer.translation import Translation
from ssmd import capnp, frames, subjects
from ssmd.events import BookDelta, Event, Ticker, Trade

CALLS = 20_000
FEED = "kalshi"
TS = 1_786_410_915_579_000_123
CONN = frames.conn_id(FEED, 0, TS, 7)
SYMBOL = "KXBTCD-26AUG11-T98000"


def run(size: Size) -> Measured:
    encode = capnp.Encoder(FEED).encode
    root = pycapnp.load(str(capnp.schema_path())).Event
    trade_id = "0123abcd-1234-1234-1234-{:012d}".format
    made: dict[str, list[Event]] = {
        "trade": [Trade(SYMBOL, TS, f"0.{i % 99:02d}00", f"{i % 500}.00", "buy", trade_id(i)) for i in range(CALLS)],
        "bookDelta": [BookDelta(SYMBOL, TS, "bid", f"0.{i % 99:02d}00", None, f"{i % 500}.00") for i in range(CALLS)],
        "ticker": [Ticker(SYMBOL, TS, *[f"0.{i % 99:02d}00", f"{i % 500}.00"] * 4) for i in range(CALLS)],
    }
    rows = []
    for kind, events in made.items():
        ours = [microseconds(lambda e: encode(e, TS, CONN, 1, 0), events) for _ in range(size.rounds)]
        theirs = [microseconds(lambda e, k=kind: by_pycapnp(root, k, e, 1), events) for _ in range(size.rounds)]
        rows.append(Row(f"{kind} → Cap'n Proto", "µs", ours, "pycapnp", theirs, more_is_better=False))
    raw = [frame(n, event) for n, event in enumerate(made["trade"], 1)]
    subject = subjects.frame("local", FEED, "trade", SYMBOL)
    translations = [Translation("local", FEED, venue) for _ in range(size.rounds)]
    ours = [microseconds(lambda message, t=t: t.take(subject, message), raw) for t in translations]
    theirs = [microseconds(lambda message: obvious(root, message), raw) for _ in range(size.rounds)]
    rows.append(Row("raw frame of a trade → message", "µs", ours, "json and pycapnp", theirs, more_is_better=False))
    return Measured(rows)


def microseconds(each: Callable[[Any], object], given: Sequence[object]) -> float:
    """Of one call."""
    began = time.perf_counter()
    for one in given:
        each(one)
    return (time.perf_counter() - began) / len(given) * 1e6


def by_pycapnp(root: Any, kind: str, event: Any, n: int) -> bytes:
    message = root.new_message()
    message.tsRecv, message.tsEvent.ns, message.n = TS, event.ts_event, n
    message.feed, message.symbol, message.conn = FEED, event.symbol, CONN
    own = message.init(kind)
    if kind == "ticker":
        own.last, own.lastSize, own.bid, own.bidSize = event.last, event.last_size, event.bid, event.bid_size
        own.ask, own.askSize, own.volume, own.openInterest = (
            event.ask,
            event.ask_size,
            event.volume,
            event.open_interest,
        )
    elif kind == "trade":
        own.side, own.price, own.size, own.tradeId = event.side, event.price, event.size, event.trade_id
    else:
        own.side, own.price, own.change = event.side, event.price, event.change
    data: bytes = message.to_bytes()
    return data


def frame(n: int, trade: Trade) -> bytes:
    msg = {"market_ticker": SYMBOL, "trade_id": trade.trade_id, "yes_price_dollars": trade.price}
    msg |= {"count_fp": trade.size, "taker_side": "yes", "ts_ms": TS // 1_000_000}
    wire = json.dumps({"type": "trade", "sid": 1, "seq": n, "msg": msg}).encode()
    return frames.message(TS, CONN.encode(), n, wire)


def obvious(root: Any, raw: bytes) -> bytes:
    line = json.loads(raw)
    m = line["frame"]["msg"]
    side = {"yes": "buy", "no": "sell"}[m["taker_side"]]
    price, size = m["yes_price_dollars"], m["count_fp"]
    event = Trade(m["market_ticker"], m["ts_ms"] * 1_000_000, price, size, side, m["trade_id"])  # type: ignore[arg-type]
    return by_pycapnp(root, "trade", event, line["n"])
