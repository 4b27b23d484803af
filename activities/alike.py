"""Lines that differ only in the values of their fields, taken apart into columns without an object for any value.

A venue writes the frames of a channel alike: the same fields in the same order. The `Shape` of one line says which of
its bytes are values. Where all other bytes of many lines are the same, they are the same JSON, and what stands between
is their values. Nothing is guessed: each byte of each line is either compared, or a digit of a plain number, or of a
text without a quote, an escape, or a control character. Lines of which that cannot be said are `Unlike`: others read
them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from activities import columns

Numbers = np.ndarray[Any, np.dtype[np.int64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
_Words = np.ndarray[Any, np.dtype[np.uint64]]

_VALUE = re.compile(rb'"(?P<key>[^"]*)"\s*:|"(?P<text>[^"]*)"|(?<=:)(?P<number>0|[1-9][0-9]*)(?=[,}])|[{}\[]')
_QUOTE, _MINUS, _POINT, _ZERO = b'"-.0'
_INT64_MAX = 2**63 - 1
_take: Any = pc.take
_buffer: Any = pa.py_buffer


class Unlike(Exception):
    """These lines are not of the shape, or one of them is out of the ordinary."""


class _Part(NamedTuple):
    """Bytes that are the same in all lines, and the value behind them; behind the last there is none.

    In each line the quote of number `quote` stands at `offset` of them; no `offset`: they end the line.
    """

    same: bytes
    quote: int
    offset: int | None
    name: str  # of the value: its keys with points between
    is_number: bool
    allowed: frozenset[str] | None  # texts that the value may be; None: any


class Shape:
    """What a line has in common with others. It is one that decodes as the msgspec type `kind`, else nothing holds."""

    def __init__(self, line: bytes, kind: Any) -> None:
        self.marks = line.count(b'"') + 1
        if sum(byte <= _QUOTE for byte in line) != self.marks or not line.endswith(b"\n"):
            raise Unlike("there are spaces")
        self.parts: list[_Part] = []
        keys: list[str] = []
        known: set[str] = set()
        begin = 0
        for found in _VALUE.finditer(line):
            if found["key"] is not None:
                keys[-1] = found["key"].decode()
                name = ".".join(keys)
                if name in known or "." in keys[-1]:
                    raise Unlike("a name stands for two fields")
                known.add(name)
            elif found[0] == b"{":
                keys.append("")
            elif found[0] == b"}":
                keys.pop()
            elif found[0] == b"[":
                raise Unlike("a list may have any length")
            else:
                is_number = found["number"] is not None
                allowed = _allowed(kind, keys, int if is_number else str)
                if allowed is None or len(allowed) > 1:
                    start, end = found.span("number" if is_number else "text")
                    self._add(line, begin, start, ".".join(keys), is_number, allowed)
                    begin = end
        self._add(line, begin, len(line), "", False, None)

    def _add(
        self, line: bytes, begin: int, end: int, name: str, is_number: bool, allowed: frozenset[str] | None
    ) -> None:
        offset = line.find(b'"', begin, end)
        self.parts.append(
            _Part(
                line[begin:end],
                line.count(b'"', 0, begin),
                None if offset < 0 else offset - begin,
                name,
                is_number,
                allowed,
            )
        )


def _allowed(kind: Any, keys: Sequence[str], of: type) -> frozenset[str] | None:
    """What may be in a field of a type, None if any text or whole number; so too where the type has no such field."""
    for key in keys:
        if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
            raise Unlike("a field is in something else than a struct")
        field = next((f for f in msgspec.structs.fields(kind) if f.encode_name == key), None)
        if field is None:
            return None
        kind = field.type
    kinds = get_args(kind) if get_origin(kind) in {Union, UnionType} else (kind,)
    if of in kinds:
        return None
    texts = frozenset(text for k in kinds if get_origin(k) is Literal for text in get_args(k))
    if of is str and texts:
        return texts
    raise Unlike("a value has to be looked at")


class Lines:
    """Many lines of a shape. Raises Unlike or IndexError where they are not."""

    def __init__(self, shape: Shape, raw: bytes) -> None:
        self._raw = raw
        self._bytes = np.frombuffer(raw, np.uint8)
        found = np.flatnonzero(self._bytes <= _QUOTE)
        self.count, rest = divmod(len(found), shape.marks)
        if rest or not self.count or not raw.isascii() or b"\\" in raw:
            raise Unlike
        marks = found.reshape(self.count, shape.marks)
        ends = marks[:, -1] + 1
        begins = np.concatenate(([0], ends[:-1]))
        self._spans: dict[str, tuple[Numbers, Numbers]] = {}
        self._digits: dict[str, list[_Words]] = {}
        self._repeated: dict[str, Any] = {}
        before, value_at = None, begins
        for part in shape.parts:
            at = ends - len(part.same) if part.offset is None else marks[:, part.quote] - part.offset
            if at[0] < 0 or self._gathered(at, f"V{len(part.same)}").tobytes() != part.same * self.count:
                raise Unlike
            if before is not None:
                self._spans[before.name] = value_at, at
                self._check(before)
            elif not np.array_equal(at, begins):
                raise Unlike
            before, value_at = part, at + len(part.same)
        if not np.array_equal(value_at, ends):
            raise Unlike

    def _gathered(self, at: Numbers, kind: str) -> Any:
        """What stands at each of these places."""
        places = len(self._raw) - np.dtype(kind).itemsize + 1
        return np.ndarray((max(places, 0),), kind, self._raw, strides=(1,))[at]

    def _check(self, part: _Part) -> None:
        if part.is_number:
            starts, ends = self._spans[part.name]
            length = ends - starts
            zeros = self._bytes[starts] == _ZERO
            if length.min() < 1 or (zeros.any() and length[zeros].max() > 1):
                raise Unlike("no whole number")
            self._digits[part.name] = self._words(starts, ends)
        elif part.allowed is not None and not part.allowed.issuperset(self.repeated(part.name).dictionary.to_pylist()):
            raise Unlike("a text that may not be there")

    # ---------------------------------------------------------------------------------------------------- columns

    def has_text(self, name: str) -> bool:
        return name in self._spans and name not in self._digits

    def texts(self, name: str) -> Any:
        starts, ends = self._spans[name]
        offsets = np.empty(2 * self.count, np.int32)
        offsets[0::2], offsets[1::2] = starts, ends
        with_between = pa.StringArray.from_buffers(2 * self.count - 1, _buffer(offsets), _buffer(self._raw))
        return _take(with_between, pa.array(np.arange(0, 2 * self.count, 2, dtype=np.int32)), boundscheck=False)

    def repeated(self, name: str) -> Any:
        """For texts of which there are few."""
        if name not in self._repeated:
            one = self._all_one(name)
            self._repeated[name] = self.texts(name).dictionary_encode() if one is None else one
        return self._repeated[name]

    def _all_one(self, name: str) -> Any:
        """As `repeated`, if they all are the same text: so it is with connections."""
        starts, ends = self._spans[name]
        text = self._raw[starts[0] : ends[0]]
        if not text or (ends - starts != len(text)).any():
            return None
        if self._gathered(starts, f"V{len(text)}").tobytes() != text * self.count:
            return None
        return pa.DictionaryArray.from_arrays(np.zeros(self.count, np.int32), pa.array([text.decode()]))

    def renamed(self, name: str, to: Mapping[str, str | None]) -> Any:
        found = self.repeated(name)
        names = pa.array([to[text] for text in found.dictionary.to_pylist()], pa.string())
        return _take(names, found.indices, boundscheck=False)

    def are(self, name: str, text: str) -> Mask:
        found = self.repeated(name)
        mask: Mask = np.array([t == text for t in found.dictionary.to_pylist()])[found.indices.to_numpy()]
        return mask

    def utc(self, name: str) -> Any:
        return columns.utc(self.texts(name))

    def whole(self, name: str, times: int = 1) -> Numbers:
        """Whole numbers, and so many times each."""
        words = self._digits[name]
        starts, ends = self._spans[name]
        if len(words) * _WORD > _NUMBER_DIGITS_MAX and (ends - starts).max() > _NUMBER_DIGITS_MAX:
            raise Unlike("a number is too large")
        numbers = _joined(words)
        if int(numbers.max()) * times > _INT64_MAX:
            raise Unlike("a number is too large")
        return numbers.astype(np.int64) * times

    def decimals(self, name: str) -> "Decimals":
        """Plain decimals, all with as many digits after the point as the first."""
        starts, ends = self._spans[name]
        minus = self._bytes[starts] == _MINUS
        signed = bool(minus.any())
        if signed:
            starts = starts + minus
        scale = len(self._raw[starts[0] : ends[0]].partition(b".")[2])
        digits = ends - starts - (scale > 0)
        most = int(digits.max())
        if digits.min() <= scale or most > _DECIMAL_DIGITS_MAX or scale > _SCALE_MAX:
            raise Unlike("no plain decimal, or a long one")
        if scale:
            word = self._gathered(ends - _WORD, "<u8")
            before = 8 * (_WORD - 1 - scale)  # the bits before the point
            if (((word >> np.uint64(before)) & np.uint64(0xFF)) != _POINT).any():
                raise Unlike("a decimal has its point elsewhere")
            whole, part = np.uint64((1 << before) - 1), np.uint64((1 << 64) - (1 << before + 8))
            word = (((word & whole) << np.uint64(8)) | (word & part)) ^ _ZEROS
            words = [_digits(word & _KEPT_BUT_POINT[digits])]
            if most >= _WORD:
                words += self._words(starts, np.maximum(ends - _WORD, starts))
            values = _joined(words, _WORD - 1).astype(np.int64)
        else:
            values = _joined(self._words(starts, ends)).astype(np.int64)
        return Decimals(np.where(minus, -values, values) if signed else values, scale)

    def _words(self, starts: Numbers, ends: Numbers) -> list[_Words]:
        """Digits, eight to a word with the last ones first, each digit a byte. Raises Unlike if they are none."""
        length = ends - starts
        longest = int(length.max())
        if length.min() < 0 or longest > _WORD * len(_KEPT):
            raise Unlike("a number is too large")
        words: list[_Words] = []
        for done, kept in zip(range(0, longest, _WORD), _KEPT, strict=False):
            at = ends - (_WORD + done)
            if at[0] < 0 and (length[at < 0] > done).any():
                raise Unlike("a word of digits would begin before the first line")
            words.append(_digits((self._gathered(at, "<u8") ^ _ZEROS) & kept[length]))
        return words


def _digits(word: _Words) -> _Words:
    """These, if each byte is one. Raises Unlike."""
    if (((word + _SIX_MORE) | word) & _HIGH).any():
        raise Unlike("no digit")
    return word


def _joined(words: list[_Words], last: int = 8) -> _Words:
    """The numbers of which these are the digits; the first word holds `last` of them."""
    value = _value(words[0])
    for place, word in enumerate(words[1:]):
        value = value + _value(word) * np.uint64(10 ** (last + _WORD * place))
    return value


_DECIMAL_DIGITS_MAX = 18  # fit into 64 bits with their sign
_NUMBER_DIGITS_MAX = 19  # fit without
_SCALE_MAX = 6  # the point and a digit before it are in the last word
_WORD = 8
_ZEROS = np.uint64(0x3030303030303030)
_SIX_MORE = np.uint64(0x7676767676767676)  # whatever is more than 9 reaches the high bit
_HIGH = np.uint64(0x8080808080808080)


def _last_bytes(counts: Iterable[int]) -> _Words:
    """For each count the mask of so many bytes of a word."""
    return np.array([(1 << 64) - (1 << 8 * (_WORD - n)) for n in counts], np.uint64)


# By the digits of a number: which bytes of its last word are of it, of the word before, of the one before that.
_KEPT = [_last_bytes(min(max(length - done, 0), _WORD) for length in range(25)) for done in (0, 8, 16)]
_KEPT_BUT_POINT = _last_bytes(min(length, _WORD - 1) for length in range(_DECIMAL_DIGITS_MAX + 1))


def _value(digits: _Words) -> _Words:
    """Of eight digits, the first in the lowest byte: neighbours are joined three times."""
    twos = (digits * np.uint64(10) + (digits >> np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
    fours = (twos * np.uint64(100) + (twos >> np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)
    return (fours * np.uint64(10_000) + (fours >> np.uint64(32))) & np.uint64(0xFFFFFFFF)


class Decimals:
    """Exact decimals: whole numbers of 10^-scale, where they are there."""

    def __init__(self, values: Numbers, scale: int, there: Mask | None = None) -> None:
        self._values = values
        self._scale = scale
        self._there = there

    def are(self, number: int) -> Mask:
        found: Mask = self._values == number * 10**self._scale
        return found

    def from_one(self) -> "Decimals":
        """1 - each."""
        return Decimals(10**self._scale - self._values, self._scale, self._there)

    def where(self, mask: Mask, other: Any) -> "Decimals":
        """These where the mask is, else the others, which have the same scale and are all there."""
        assert self._scale == other._scale and self._there is other._there is None
        return Decimals(np.where(mask, self._values, other._values), self._scale)

    def without(self, mask: Mask) -> "Decimals":
        there = ~mask if self._there is None else self._there & ~mask
        return Decimals(self._values, self._scale, there)

    def column(self, kind: Any) -> Any:
        """As a decimal type has them. Raises Unlike if any does not fit."""
        more = kind.scale - self._scale
        if more < 0 or int(np.abs(self._values).max()) * 10**more >= 10 ** min(kind.precision, _DECIMAL_DIGITS_MAX):
            raise Unlike("a decimal does not fit")
        halves = np.empty((len(self._values), 2), np.int64)
        np.multiply(self._values, 10**more, out=halves[:, 0])
        np.right_shift(halves[:, 0], 63, out=halves[:, 1])
        there = None if self._there is None else _buffer(np.packbits(self._there, bitorder="little"))
        return pa.Array.from_buffers(kind, len(halves), [there, _buffer(halves)])


def column(values: Any, kind: Any) -> Any:
    """What `Lines` gives, as an Arrow array."""
    if isinstance(values, Decimals):
        return values.column(kind)
    return pa.array(values) if isinstance(values, np.ndarray) else values
