"""Lines of one shape, taken apart without decoding: the values that decoding gives, or none at all."""

from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from activities import alike
from activities.replay import _Way
from exchanges.kalshi import venue
from tests.lake.archives import GOLD, SILVER

CHANNELS = ("orderbook_delta", "ticker", "trade")
KIND = pa.decimal128(18, 6)
Values = dict[str, Any]


def line(channel: str, value: Values) -> bytes:
    """As Kalshi's frames are archived."""
    book = '"price_dollars":"%(price)s","delta_fp":"%(size)s","side":"%(side)s","ts":"2026-08-11T01:00:00.%(us)06dZ"'
    quote = '"price_dollars":"%(price)s","yes_bid_dollars":"0.0000","yes_ask_dollars":"%(price)s",'
    quote += '"yes_bid_size_fp":"0.00","yes_ask_size_fp":"%(size)s","last_trade_size_fp":"%(size)s",'
    quote += '"volume_fp":"%(size)s","open_interest_fp":"1.00","dollar_volume":%(us)d,"ts":1786410916'
    trade = '"trade_id":"%(text)s","yes_price_dollars":"%(price)s","count_fp":"%(size)s","taker_side":"%(side)s",'
    trade += '"taker_outcome_side":"%(side)s","ts":1786410916'
    own = {"orderbook_delta": book, "ticker": quote, "trade": trade}[channel]
    numbered = '{"seq":%(seq)d,"ts_recv":%(ts_recv)d,"conn":"%(conn)s","n":%(n)d,"frame":{"type":"' + channel
    whole = numbered + '","sid":2,"msg":{"market_ticker":"%(symbol)s",' + own + ',"ts_ms":%(ms)d}}}\n'
    return (whole % value).encode()


VALUE: Values = {"seq": 7, "ts_recv": 1_786_410_915_579_000_123, "conn": "kalshi-0-7f3a", "n": 42, "symbol": GOLD}
VALUE |= {"price": "0.5100", "size": "7.25", "side": "no", "text": "a-b", "us": 123, "ms": 1_786_410_916_130}

ascii_texts = st.text(st.characters(codec="ascii", exclude_characters='"\\'))
values = st.fixed_dictionaries(
    {
        "seq": st.integers(0, 10**9),
        "ts_recv": st.integers(0, 2**63 - 1),
        "conn": st.sampled_from(["kalshi-0-7f3a", "kalshi-1-7f3b", "k"]),
        "n": st.integers(0, 10**10),
        "symbol": st.sampled_from([GOLD, SILVER, "M"]) | ascii_texts,
        "price": st.from_regex(r"\A-?[0-9]{1,12}\.[0-9]{4}\Z"),
        "size": st.from_regex(r"\A-?[0-9]{1,14}\.[0-9]{2}\Z"),
        "side": st.sampled_from(["yes", "no"]),
        "text": st.sampled_from(["", "a", "519cd4cc-4c5e-438d-aae7-0ff2504b60b5"]),
        "us": st.integers(0, 999_999),
        "ms": st.integers(0, 9_000_000_000_000),
    }
)


def way(channel: str) -> _Way:
    bulk = venue.events("2026-08-11").bulk(channel)  # type: ignore[attr-defined]
    return _Way(bulk)


def taken_apart(channel: str, raw: bytes) -> list[list[Any]] | None:
    """Envelope and columns of each line, without decoding; None if they are for others to read."""
    this = way(channel)
    assert this.alike is not None
    try:
        lines = this.lines_alike(raw)
        made: dict[str, Any] = {"ts_recv": pa.array(lines.whole("ts_recv")), "conn": lines.repeated("conn")}
        made |= {"n": pa.array(lines.whole("n"))}
        for name, value in this.alike(lines).items():
            made[name] = alike.column(value, KIND)
    except Exception:
        return None
    return [made[name].to_pylist() for name in sorted(made)]


def decoded(channel: str, raw: bytes) -> list[list[Any]]:
    """The same by decoding each."""
    this = way(channel)
    lines = this.decode(raw)
    made = {name: [getattr(line, name) for line in lines] for name in ("ts_recv", "conn", "n")}
    for name, found in this.columns([line.frame for line in lines]).values.items():
        made[name] = list(found)
        if name == "ts_event" and channel == "orderbook_delta":
            made[name] = [ns(str(text)) for text in found]
        elif name not in {"symbol", "ts_event", "side", "trade_id"}:
            made[name] = [None if text is None else Decimal(text) for text in found]
    return [made[name] for name in sorted(made)]


def ns(text: str) -> int:
    return int(pa.scalar(text).cast(pa.timestamp("us", "UTC")).cast(pa.int64()).as_py()) * 1000


@pytest.mark.parametrize("channel", CHANNELS)
def test_frames_as_the_venue_sends_them_are_taken_apart(channel: str) -> None:
    several = [VALUE, VALUE | {"n": 43, "side": "yes", "price": "0.0000", "size": "-123456.00"}, VALUE | {"n": 1234567}]
    raw = b"".join(line(channel, value) for value in several)
    assert taken_apart(channel, raw) == decoded(channel, raw)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(CHANNELS), st.lists(values, min_size=1, max_size=5), st.data())
def test_whatever_the_bytes_are_a_value_is_what_decoding_gives(
    channel: str, several: list[Values], data: st.DataObject
) -> None:
    raw = bytearray(b"".join(line(channel, value) for value in several))
    for _ in range(data.draw(st.integers(0, 2))):
        place = data.draw(st.integers(0, len(raw) - 1))
        byte = data.draw(st.sampled_from(b'"\\,:{}[]-+.eE0123456789 \n\r\ttn\x00\x80Z') | st.integers(0, 255))
        how = data.draw(st.sampled_from(["change", "insert", "delete", "twice"]))
        if how == "twice":  # a piece of the line again
            end = data.draw(st.integers(place, min(len(raw), place + 40)))
            raw[place:place] = raw[place:end]
        else:
            raw[place : place + (how != "insert")] = b"" if how == "delete" else bytes([byte])
    found = taken_apart(channel, bytes(raw))
    assert found is None or found == decoded(channel, bytes(raw))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"n":42', b'"m":42'),
        (b'"n":42', b'"n":042'),
        (b'"n":42', b'"n":4x'),
        (b'"n":42', b'"n":-4'),
        (b'"n":42', b'"n":'),
        (b'"n":42', b'"n":18446744073709551616'),
        (b'"seq":7', b'"seq":0x7'),
        (b"frame", b"f\\u0072ame"),
        (b'"type":"orderbook_delta"', b'"type":"orderbook_deltb"'),
        (b'"side":"no"', b'"side":"na"'),
        (b'"side":"no"', b'"side":""'),
        (b"0.5100", b"0.510"),
        (b"0.5100", b"0.51000"),
        (b"0.5100", b".5100"),
        (b"0.5100", b"0x5100"),
        (b"0.5100", b"+0.5100"),
        (b"0.5100", b"--0.5100"),
        (b"0.5100", b"0.51e0"),
        (b"0.5100", b""),
        (b"0.5100", b"99999999999999.5100"),
        (GOLD.encode(), b"KXM-\xc3\x89"),
        (GOLD.encode(), b"A\\nB"),
        (GOLD.encode(), b"A\nB"),
        (GOLD.encode(), b"A\x01B"),
        (b"}}}\n", b"}}}"),
        (b"}}}\n", b"}}} \n"),
        (b"}}}\n", b"}}}\n\n"),
        (b"01:00:00", b"01-00-00"),
    ],
)
def test_one_line_out_of_the_ordinary_and_others_read_them_all(old: bytes, new: bytes) -> None:
    usual, odd = line("orderbook_delta", VALUE), line("orderbook_delta", VALUE).replace(old, new)
    assert odd != usual
    assert taken_apart("orderbook_delta", usual * 3) is not None
    assert taken_apart("orderbook_delta", usual * 2 + odd + usual) is None
    assert taken_apart("orderbook_delta", usual * 2 + odd) is None


@pytest.mark.parametrize("odd", [b'"x":[1,2]', b'"side":"no"', b'"x": 1', b'"x":"a b"', b'"x.y":"a"'])
def test_a_first_line_out_of_the_ordinary_has_no_shape(odd: bytes) -> None:
    usual = line("orderbook_delta", VALUE)
    with pytest.raises(alike.Unlike):
        alike.Shape(usual.replace(b'"side":"no"', b'"side":"no",' + odd), msgspec.Struct)


@pytest.mark.parametrize("number", [1, 12345678, 123456789, 12345678901234567, 2**63 - 1])
def test_the_first_number_of_the_first_line_is_read_or_left_to_others(number: int) -> None:
    class Named(msgspec.Struct):
        n: int

    raw = b'{"n":%d}\n{"n":123456789012345678}\n{"n":7}\n' % number
    try:
        found = alike.Lines(alike.Shape(raw[: raw.index(b"\n") + 1], Named), raw).whole("n").tolist()
    except alike.Unlike:
        found = None
    assert found in (None, [number, 123456789012345678, 7])


def test_of_a_number_that_may_not_be_just_any_there_is_no_shape() -> None:
    class Checked(msgspec.Struct):
        n: msgspec.Meta | float

    with pytest.raises(alike.Unlike, match="looked at"):
        alike.Shape(b'{"n":1}\n', Checked)
    assert alike.Shape(b'{"other":1}\n', Checked).parts[0].name == "other"
