"""The frame: one WebSocket frame, one archive line, its bytes untouched.

A *message* is what travels through journal and NATS; a *line* is the message with the stream sequence
it was archived from put in front. Both are one JSON object on one line, made by concatenation so that the
venue's bytes are copied and never re-encoded:

    {"seq":812,"ts_recv":1786410915579000123,"conn":"kalshi-0-…","n":42,"frame":{"type":"trade",…}}
"""

import base64
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

import msgspec

BLANK = b" \t\r\n"
_LINE = b'{"seq":%d,%s'

# Our own channels; a venue's channel never starts with an underscore.
SESSION = "_session"
GAP = "_gap"
BAD = "_bad"
BACKFILL = "_backfill"
# Where a venue's answers to commands go: acknowledgements, errors, heartbeats.
CONTROL = "control"
# The symbol of frames that belong to no single instrument.
ALL = "all"


class Line(msgspec.Struct, frozen=True, gc=False):
    """One archive line (or message, then `seq` is 0), decoded without touching the frame inside.

    `ts_recv` is nanoseconds since the epoch; `(conn, n)` is the frame's identity.
    """

    ts_recv: int  # ns since the epoch, right after our socket read
    conn: str  # the connection, for ever unique
    n: int  # the frame's number on it, from 1 without holes, our own rows included
    seq: int = 0  # of the NATS stream, when it was archived; where it came from, no more
    frame: msgspec.Raw = msgspec.Raw(b"")  # the venue's JSON, byte for byte
    text: str | None = None  # instead of `frame`: a text that is no JSON on one line
    b64: str | None = None  # instead of `frame`: bytes that are no UTF-8
    head: str = ""  # white space before the frame
    tail: str = ""  # white space after it
    reason: str | None = None  # why it is quarantined (channel `_bad`)

    def wire(self) -> bytes:
        """The exact bytes the venue sent."""
        if self.b64 is not None:
            return base64.b64decode(self.b64)
        if self.text is not None:
            return self.text.encode()
        return self.head.encode() + bytes(self.frame) + self.tail.encode()


def message(ts_recv: int, conn: bytes, n: int, wire: bytes, *, bad: str | None = None, json: bool = True) -> bytes:
    """What is journalled and published for one frame.

    `json` says that the wire text is known to be one valid JSON value; `bad` is why it was quarantined.
    """
    if json and bad is None and wire[:1] in b"{[" and wire[-1:] in b"}]" and wire.isascii() and b"\n" not in wire:
        return b'{"ts_recv":%d,"conn":"%s","n":%d,"frame":%s}' % (ts_recv, conn, n, wire)
    reason = b"" if bad is None else b'"reason":%s,' % msgspec.json.encode(bad)
    return b'{"ts_recv":%d,"conn":"%s","n":%d,%s%s}' % (ts_recv, conn, n, reason, _body(wire, json))


def line(seq: int, msg: bytes) -> bytes:
    """The archive line of a message, without its newline."""
    return _LINE % (seq, msg[1:])


def lines(seqs: Iterable[int], messages: Iterable[bytes]) -> list[bytes]:
    """The archive lines of messages, without their newlines."""
    return [_LINE % (seq, msg[1:]) for seq, msg in zip(seqs, messages, strict=True)]


def _body(wire: bytes, json: bool) -> bytes:
    try:
        text = wire.decode()
    except UnicodeDecodeError:
        return b'"b64":"%s"' % base64.b64encode(wire)
    core = wire.strip(BLANK)
    if not json or not core or b"\n" in core or b"\r" in core:
        return b'"text":%s' % msgspec.json.encode(text)
    start = len(wire) - len(wire.lstrip(BLANK))
    head, tail = wire[:start], wire[start + len(core) :]
    return b"%s%s" % (_blank(b"head", head) + _blank(b"tail", tail), b'"frame":%s' % core)


def _blank(key: bytes, blank: bytes) -> bytes:
    return b'"%s":%s,' % (key, msgspec.json.encode(blank.decode())) if blank else b""


def rest(request: str, status: int, body: bytes, meanwhile: Sequence[bytes] = ()) -> bytes:
    """The frame that stands for a venue's HTTP answer to a request of ours; `request` is its method and target.

    A body that is no JSON becomes a JSON text. `meanwhile` are frames of the WebSocket that belong to the answer.
    """
    try:
        _check(body)
        body.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        body = msgspec.json.encode(body.decode(errors="replace"))
    more = b',"meanwhile":[%b]' % b",".join(meanwhile) if meanwhile else b""
    return b'%b%b,"status":%d,"body":%b%b}' % (_REST, msgspec.json.encode(request), status, body, more)


def is_rest(wire: bytes) -> bool:
    """Whether a frame is an answer to a request of ours, and did not come through the WebSocket."""
    return wire.startswith(_REST)


_REST = b'{"rest":'
_check = msgspec.json.Decoder(msgspec.Raw).decode
_decode = msgspec.json.Decoder(Line).decode
_decode_lines = msgspec.json.Decoder(Line).decode_lines


def parse(raw: bytes) -> Line:
    """A message or archive line. Raises msgspec.DecodeError if it is neither."""
    return _decode(raw)


def parse_lines(raw: bytes) -> list[Line]:
    """Whole archive lines, newline-delimited."""
    return _decode_lines(raw)


def conn_id(feed: str, number: int, now_ns: int, random: int) -> str:
    """A connection's name, for ever unique: feed, place in the connector, start in ms, four random digits."""
    return f"{feed}-{number}-{now_ns // 1_000_000:011x}-{random & 0xFFFF:04x}"


_OURS = re.compile(r"(.+-[0-9]+)-[0-9a-f]{11,}-[0-9a-f]{4}")


@lru_cache(1 << 14)
def place(conn: str) -> str:
    """Feed and place in the connector: what a connection and its successors have in common. Empty if not ours."""
    match = _OURS.fullmatch(conn)
    return "" if match is None else match[1]


def opened_ms(conn: str) -> int:
    """When a connection was opened, in ms since the epoch: the inverse of `conn_id`. 0 if it is not one of ours."""
    try:
        return int(conn.rsplit("-", 2)[-2], 16)
    except (IndexError, ValueError):
        return 0
