"""A page of trades as the archive keeps it: what was asked, the answer's bytes, and which of its trades were missing.

    {"backfill":{"symbol":"…","start":…,"end":…,"asked":…,"new":[0,3],…},"rest":"GET /…","status":200,"body":{…}}

The trades are read from it again by the venue's grammar, so that the tables rest on the venue's own bytes.
"""

from collections.abc import Sequence

import msgspec

from exchanges.port import TradesRequest, Unparsable, Venue
from ssmd.errors import SsmdError
from ssmd.events import Trade


class Page(msgspec.Struct, frozen=True):
    """`asked` is when (ns); `new` are places, among the page's trades of the asked time, of those that were missing."""

    symbol: str
    start: int
    end: int
    asked: int
    new: list[int]
    method: str
    path: str
    query: dict[str, str]
    host: str = ""


class _Frame(msgspec.Struct):
    backfill: Page
    body: msgspec.Raw


_decode = msgspec.json.Decoder(_Frame).decode


def frame(request: TradesRequest, asked_ns: int, new: Sequence[int], body: bytes) -> bytes:
    """The frame of a page."""
    page = Page(
        request.symbol,
        request.start_ns,
        request.end_ns,
        asked_ns,
        list(new),
        request.method,
        request.path,
        dict(request.query),
        request.host,
    )
    return b'{"backfill":%b,%b' % (msgspec.json.encode(page), request.answered(200, body)[1:])


def trades(venue: Venue, wire: bytes) -> list[Trade]:
    """The trades of a page's frame that were missing. Raises Unparsable."""
    try:
        found = _decode(wire)
        page = found.backfill
        request = TradesRequest(
            page.method, page.path, page.query, host=page.host, symbol=page.symbol, start_ns=page.start, end_ns=page.end
        )
        told = venue.trades_page(request, bytes(found.body)).trades
        return [told[i] for i in page.new]
    except (msgspec.DecodeError, UnicodeDecodeError, IndexError, SsmdError) as e:
        raise Unparsable(f"no page of trades: {e}") from e
