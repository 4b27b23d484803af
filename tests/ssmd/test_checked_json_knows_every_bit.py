"""A manifest or cursor with any bit not as it was written is refused, wherever the bit is."""

import msgspec
import pytest

from ssmd import checked_json
from ssmd.archive import Connection, Cursor, Manifest, PartState

MANIFEST = Manifest("kalshi", "2026-08-11", connections=[Connection("c", 1, 2, 2)], symbols={"Zürich": 2, "{}": 1})
CURSOR = Cursor("kalshi", "LOCAL_KALSHI", 812, parts=[PartState("2026-08-11", "trade", "trade_000.jsonl.gz")])
CASES = [(MANIFEST, 1), (MANIFEST, -1), (CURSOR, -1)]


@pytest.mark.parametrize(("value", "indent"), CASES)
def test_what_was_written_is_read(value: msgspec.Struct, indent: int) -> None:
    content = checked_json.encode(value, indent=indent)
    assert checked_json.decode(content, type(value)) == value
    assert "sha256" in msgspec.json.decode(content), "it is JSON for everybody else"


@pytest.mark.parametrize(("value", "indent"), CASES)
def test_every_flipped_bit_is_refused(value: msgspec.Struct, indent: int) -> None:
    content = checked_json.encode(value, indent=indent)
    passed_plainly = 0
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(msgspec.DecodeError):
            checked_json.decode(bytes(damaged), type(value))
        try:
            msgspec.json.decode(bytes(damaged), type=type(value))
            passed_plainly += 1
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
    assert passed_plainly > 500, "the control: JSON alone takes many of them"


@pytest.mark.parametrize(("value", "indent"), CASES)
def test_every_cut_is_refused(value: msgspec.Struct, indent: int) -> None:
    content = checked_json.encode(value, indent=indent)
    for length in range(len(content)):
        with pytest.raises(msgspec.DecodeError):
            checked_json.decode(content[:length], type(value))


def test_a_file_from_before_there_were_checksums_is_read() -> None:
    content = msgspec.json.format(msgspec.json.encode(MANIFEST), indent=1)
    assert checked_json.decode(content, Manifest) == MANIFEST
    strange = content.replace(b'"feed"', b'"feed":"kalshi","feee"')
    with pytest.raises(checked_json.WrongChecksum):
        checked_json.decode(strange, Manifest)
