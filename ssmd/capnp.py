"""Normalized events as Cap'n Proto messages: `exchanges/schemas/events.capnp` says what is in them.

pycapnp reads them. It could write them as well, but looks up each field by its name: 3.3 us for a trade. So a function
is compiled for each kind of event, with the offsets that pycapnp found in the schema as constants, as namedtuples and
dataclasses compile theirs. It writes the same bytes in 0.85 us.
"""

import functools
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import capnp
import msgspec

from ssmd import config
from ssmd.errors import Permanent
from ssmd.events import BookDelta, BookSnapshot, Event, Gap, Level, Status, Ticker, Trade

capnp.remove_import_hook()  # it would look for a schema at every import of anything

CACHED_BYTES_MAX = 24  # of one text: prices and sizes that repeat are short
CACHED_TEXTS_MAX = 1 << 16  # 20 MB
CACHED_HEADS_MAX = 1 << 15  # instruments of one kind of event: 10 MB

# What the schema's Event can be, by the name of the union's member.
_KINDS: dict[str, type[Event | Gap]] = {
    "trade": Trade,
    "ticker": Ticker,
    "bookSnapshot": BookSnapshot,
    "bookDelta": BookDelta,
    "status": Status,
    "gap": Gap,
}


class Message(msgspec.Struct, frozen=True):
    """What one message says. `(conn, n)` names the frame it came in, `item` its place there; `ts_recv` is in ns."""

    ts_recv: int
    feed: str
    conn: str
    n: int
    item: int
    event: Event | Gap


class Unreadable(Exception):
    """Bytes that are no message of ours."""


def schema_path() -> Path:
    """The schema belongs to this software, not to what is configured: it is the application tree's own."""
    return config.application_folder() / "exchanges" / "schemas" / "events.capnp"


@functools.cache
def _root() -> Any:
    """The schema's Event, as pycapnp knows it."""
    path = schema_path()
    try:
        return capnp.load(str(path)).Event
    except (OSError, capnp.KjException) as e:
        raise Permanent(f"{path} cannot be read as a Cap'n Proto schema ({e}): restore it") from e


class _Field(NamedTuple):
    """A field of the schema. `form`: text, texts, pairs, enum, maybe (a number or nothing), or a number's type."""

    name: str
    attribute: str  # the event's
    form: str
    offset: int  # of a pointer among the pointers; of a number in its own size, from the start of the numbers
    tag_offset: int = 0  # of what says, in two bytes, whether there is a number
    enumerants: Mapping[str | None, int] = {}


@functools.cache
def _fields(kind: str | None) -> tuple[_Field, ...]:
    """The fields of a kind of event (None: those that all have), in the order in which they are written."""
    schema = _root().schema
    if kind is None:
        return tuple(_field(schema, f) for f in schema.node.struct.fields if f.name not in _KINDS)
    own = schema.fields[kind].schema
    return tuple(_field(own, f) for f in own.node.struct.fields)


def _field(schema: Any, proto: Any) -> _Field:
    attribute = re.sub("[A-Z]", lambda capital: f"_{capital[0].lower()}", proto.name)
    if proto.which() == "group":
        group = schema.fields[proto.name].schema.node.struct
        return _Field(proto.name, attribute, "maybe", group.fields[1].slot.offset, group.discriminantOffset)
    form = str(proto.slot.type.which())
    enumerants: dict[str | None, int] = {}
    if form == "list":
        form = {"text": "texts", "struct": "pairs"}[str(proto.slot.type.list.elementType.which())]
    elif form == "enum":
        enumerants = dict(schema.fields[proto.name].schema.enumerants)
        if "unknown" in enumerants:
            enumerants[None] = enumerants["unknown"]
    return _Field(proto.name, attribute, form, proto.slot.offset, enumerants=enumerants)


# -------------------------------------------------------------------------------------------------------- writing

# What a pointer is but for its place: bits 0-1 a list or a struct, 2-31 the words between it and what it points at,
# 32-34 the size of the list's elements and 35-63 their number, or 32-47 the struct's words and 48-63 its pointers.
_BYTES, _POINTERS, _STRUCTS = (1 | size << 32 for size in (2, 6, 7))
_FORMATS = {"int64": "q", "uint64": "Q", "uint32": "I", "enum": "H"}
_ZEROS = tuple(bytes(8 - length) for length in range(8))  # behind a text: at least one, to a whole word
_SELDOM_TWICE = {"tradeId", "detail", "gap", "evidence"}  # texts that it would be in vain to remember
# How what a pointer leads to is made of `value`: the pointer, its words << 2, its bytes.
_POINTED = {
    "text": ("pointer, words, part = texts[value]",),
    "texts": ("pointer, words, part = list_of_texts(value)",),
    "pairs": ("pointer, words, part = list_of_pairs(value)",),
}
_NEW_TEXT = (
    "part = value.encode()",
    "length = len(part)",
    f"pointer, words = {_BYTES} | length + 1 << 35, (length >> 3) + 1 << 2",
    "part += zeros[length & 7]",
)

Encode = Callable[[Any, int, str, int, int], bytes]


class Encoder:
    """Writes the events of one feed."""

    def __init__(self, feed: str) -> None:
        self._encode = {event: _compiled(kind, feed) for kind, event in _KINDS.items()}

    def encode(self, event: Event | Gap, ts_recv: int, conn: str, n: int, item: int) -> bytes:
        """The message of an event of frame (conn, n). Raises struct.error if a number is too large for the schema."""
        return self._encode[type(event)](event, ts_recv, conn, n, item)


def _compiled(kind: str, feed: str) -> Encode:
    """The function that writes one kind of event.

    A message is one segment: its length, a pointer to the Event, its numbers, pointers and texts, then the struct of
    the kind likewise. A pointer counts from its own place, so all that comes after the Event's numbers is the same for
    every event of an instrument on a connection: `heads` keeps it.
    """
    schema = _root().schema
    event, own = schema.node.struct, schema.fields[kind].schema.node.struct
    member = schema.fields[kind].proto
    has_symbol = "symbol" in _KINDS[kind].__struct_fields__
    names = _NAMES.copy()

    given = {"tsRecv": "ts_recv", "tsEvent": "event.ts_event" if has_symbol else "None", "n": "n", "item": "item"}
    numbers = [number for f in _fields(None) if f.name in given for number in _numbers(f, given[f.name], names)]
    numbers.append((event.discriminantOffset * 2, "H", str(member.discriminantValue)))
    head_format, head_values = _section(numbers, event.dataWordCount)
    names["head"] = struct.Struct("<IIQ" + head_format).pack
    names["heads"] = _Heads(feed, event, member.slot.offset, own)

    numbers = []
    steps = []
    pointers, parts = ["0"] * own.pointerCount, []
    for f in _fields(kind):
        if f.form not in _POINTED:
            numbers += _numbers(f, f"event.{f.attribute}", names)
            continue
        i = f.offset
        pointers[i] = f"pointer_{i}"
        parts.append(f"part_{i}")
        steps += [
            f"value = event.{f.attribute}{'' if f.form == 'text' else ' or None'}",
            "if value is None:",
            f"    pointer_{i}, part_{i} = 0, b''",
            "else:",
            *(f"    {step}" for step in (_NEW_TEXT if f.name in _SELDOM_TWICE else _POINTED[f.form])),
            f"    pointer_{i}, part_{i} = pointer + at + {own.pointerCount - i - 1 << 2}, part",
            "    at += words",
        ]
    own_format, own_values = _section(numbers, own.dataWordCount)
    names["own"] = struct.Struct("<" + own_format + "Q" * own.pointerCount).pack
    source = [
        f"before, rest = heads[conn, {'event.symbol' if has_symbol else 'None'}]",
        "at = 0",
        *steps,
        f"fixed = own({', '.join(own_values + pointers)})",
        f"start = head(0, before + (at >> 2), {_struct_pointer(event)}, {', '.join(head_values)})",
        f"return join(({', '.join(['start', 'rest', 'fixed', *parts])}))",
    ]
    text = "\n    ".join(["def encode(event, ts_recv, conn, n, item):", *source])
    exec(compile(text, f"<{kind} of {schema_path().name}>", "exec"), names)  # noqa: S102 - of our own schema alone
    encode: Encode = names["encode"]
    return encode


_Number = tuple[int, str, str]  # where in bytes, its format, the expression that gives it


def _numbers(field: _Field, value: str, names: dict[str, Any]) -> Iterator[_Number]:
    """What a field puts among the numbers, if its value is given by the expression."""
    if field.form == "maybe":
        yield field.tag_offset * 2, "H", f"{value} is not None"
        yield field.offset * 8, "q", f"{value} or 0"
        return
    if field.form == "enum":
        names[f"{field.name}_"] = field.enumerants
        value = f"{field.name}_[{value}]"
    kind = _FORMATS[field.form]
    yield field.offset * struct.calcsize(kind), kind, value


def _section(numbers: list[_Number], words: int) -> tuple[str, list[str]]:
    """The format of a struct's numbers and the expressions in its order; what is between them is zero."""
    form, at = "", 0
    for offset, kind, _ in sorted(numbers):
        form += "x" * (offset - at) + kind
        at = offset + struct.calcsize(kind)
    return form + "x" * (words * 8 - at), [value for _, _, value in sorted(numbers)]


def _struct_pointer(node: Any) -> int:
    return int(node.dataWordCount << 32 | node.pointerCount << 48)


class _Texts(dict[str, tuple[int, int, bytes]]):
    """A text as (its pointer, its words << 2, its bytes with the zeros behind)."""

    def __missing__(self, text: str) -> tuple[int, int, bytes]:
        data = text.encode()
        made = _BYTES | len(data) + 1 << 35, (len(data) >> 3) + 1 << 2, data + _ZEROS[len(data) & 7]
        if len(data) <= CACHED_BYTES_MAX:
            if len(self) >= CACHED_TEXTS_MAX:
                self.clear()
            self[text] = made
        return made


_texts = _Texts()


class _Heads(dict[tuple[str, str | None], tuple[int, bytes]]):
    """Of a connection and symbol: the words of a message but for those behind its kind's pointers; pointers and texts
    of the Event."""

    def __init__(self, feed: str, event: Any, place: int, own: Any) -> None:
        super().__init__()
        self._feed = feed
        self._place = place  # of the pointer to the kind's struct
        self._pointers = event.pointerCount
        self._words = 1 + event.dataWordCount + event.pointerCount + own.dataWordCount + own.pointerCount
        self._own = _struct_pointer(own)

    def __missing__(self, of: tuple[str, str | None]) -> tuple[int, bytes]:
        texts: list[str | None] = [None] * self._pointers
        for f in _fields(None):
            if f.form == "text":
                texts[f.offset] = {"feed": self._feed, "conn": of[0], "symbol": of[1]}[f.name]
        pointers, words, parts = _array(texts)
        pointers[self._place] = self._own + words + (self._pointers - self._place - 1 << 2)
        made = self._words + (words >> 2), struct.pack(f"<{len(pointers)}Q", *pointers) + parts
        if len(self) >= CACHED_HEADS_MAX:
            self.clear()
        self[of] = made
        return made


def _array(texts: Sequence[str | None]) -> tuple[list[int], int, bytes]:
    """As many pointers, and behind them the texts: their words << 2, their bytes."""
    pointers, parts, at = [], [], 0
    for left, text in zip(range(len(texts) - 1, -1, -1), texts, strict=True):
        if text is None:
            pointers.append(0)
        else:
            pointer, words, part = _texts[text]
            pointers.append(pointer + at + (left << 2))
            parts.append(part)
            at += words
    return pointers, at, b"".join(parts)


def _list_of_texts(texts: Sequence[str]) -> tuple[int, int, bytes]:
    pointers, words, parts = _array(texts)
    count = len(pointers)
    return _POINTERS | count << 35, words + (count << 2), struct.pack(f"<{count}Q", *pointers) + parts


def _list_of_pairs(pairs: Sequence[Level]) -> tuple[int, int, bytes]:
    """Structs of two texts: before them a word that says how many, and of what shape."""
    pointers, words, parts = _array([text for pair in pairs for text in pair])
    count = len(pointers)
    shape = len(pairs) << 2 | 2 << 48
    return _STRUCTS | count << 35, words + (count + 1 << 2), struct.pack(f"<{count + 1}Q", shape, *pointers) + parts


# What the compiled functions refer to.
_NAMES: dict[str, Any] = {
    "texts": _texts,
    "zeros": _ZEROS,
    "list_of_texts": _list_of_texts,
    "list_of_pairs": _list_of_pairs,
    "join": b"".join,
}

# -------------------------------------------------------------------------------------------------------- reading


def decode(message: bytes) -> Message:
    """Raises Unreadable if the bytes are no message, or one that only a newer ssmd knows."""
    try:
        with _root().from_bytes(message) as root:
            kind = str(root.which())
            common = _values(root, None)
            own = _values(getattr(root, kind), kind)
    except (capnp.KjException, ValueError, KeyError) as e:
        raise Unreadable(f"{len(message)} bytes are no message of ours ({str(e).partition(chr(10))[0]})") from e
    event, said = _KINDS[kind], common | own
    return Message(
        common["ts_recv"],
        common["feed"],
        common["conn"],
        common["n"],
        common["item"],
        event(**{name: said[name] for name in event.__struct_fields__}),
    )


def _values(reader: Any, kind: str | None) -> dict[str, Any]:
    return {f.attribute: _value(reader, f) for f in _fields(kind)}


def _value(reader: Any, field: _Field) -> Any:
    value = getattr(reader, field.name)
    match field.form:
        case "text":
            return value if value or reader._has(field.name) else None
        case "texts":
            return list(value)
        case "pairs":
            return [(pair.price, pair.size) for pair in value]
        case "enum":
            return {number: name for name, number in field.enumerants.items()}[value.raw]  # None last
        case "maybe":
            return value.ns if value.which() == "ns" else None
        case _:
            return value
