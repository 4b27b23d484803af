"""Keys: their signature, their secrecy, and what the venue says of a bad one."""

import base64
import hashlib
import hmac
import json
import pickle

import pytest

from exchanges.polymarket import rest
from exchanges.polymarket.signing import HEADERS, Key, signature
from exchanges.polymarket.simulator import PolymarketSimulator
from exchanges.port import Answer, Simulation
from ssmd.errors import Permanent

SECOND = 1_000_000_000
NOW = 1_786_410_915_579_000_000
SECRET = base64.urlsafe_b64encode(bytes(range(250, 256)) * 5 + b"\xfb\xff").decode()
PARTS = {"address": "0xabc", "secret": SECRET, "passphrase": "pass"}
ID = "a882ac20-0000-4000-8000-000000000001"


def key(key_id: str = ID, **more: str) -> Key:
    return Key(key_id, json.dumps({**PARTS, **more}).encode())


def test_the_signature_is_over_time_method_path_and_body() -> None:
    secret = base64.urlsafe_b64decode(SECRET)
    told = signature(secret, "1786410915", "GET", "/auth/api-keys?a=b")
    expected = hmac.new(secret, b"1786410915GET/auth/api-keys", hashlib.sha256).digest()
    assert told == base64.urlsafe_b64encode(expected).decode() and told.endswith("=")
    assert signature(secret, "1", "POST", "/order", '{"a":1}') != signature(secret, "1", "POST", "/order")


def test_headers_are_in_seconds_and_complete() -> None:
    headers = key().headers("GET", "/auth/api-keys", NOW)
    assert tuple(headers) == HEADERS and headers["POLY_TIMESTAMP"] == "1786410915" and headers["POLY_API_KEY"] == ID


def test_no_secret_shows() -> None:
    assert SECRET not in repr(key()) and "pass" not in repr(key())
    with pytest.raises(TypeError):
        pickle.dumps(key())


@pytest.mark.parametrize(
    "bad", [b"", b"{}", b"\xff", b'{"address":"0x1","secret":"@@","passphrase":"p"}', SECRET.encode()]
)
def test_what_is_no_key_says_so_without_showing_it(bad: bytes) -> None:
    with pytest.raises(Permanent) as error:
        Key(ID, bad)
    assert SECRET not in str(error.value) and error.value.__cause__ is None and ID in str(error.value)


@pytest.mark.parametrize(
    ("given", "late", "good"),
    [
        (key(), 0, True),
        (key(), 31, False),
        (key("another"), 0, False),
        (key(passphrase="wrong"), 0, False),
        (key(address="0xdef"), 0, False),
        (key(secret=base64.urlsafe_b64encode(b"x" * 32).decode()), 0, False),
    ],
)
def test_the_venue_tells_good_keys_from_bad(given: Key, late: int, good: bool) -> None:
    venue = PolymarketSimulator(Simulation(key_id=ID, public_key=json.dumps(PARTS).encode()))
    request = given.signed(rest.key_check(), NOW)
    lower = {name.lower(): value for name, value in request.headers.items()}
    answer = venue.answer(request.method, request.target, lower, NOW + late * SECOND)
    verdict = rest.key_verdict(answer, NOW)
    assert verdict.state == ("accepted" if good else "wrong")
    assert good or "Invalid api key" in verdict.said


def test_a_clock_that_is_off_is_told_by_the_venues_own() -> None:
    late = Answer(401, b"{}", {"Date": "Tue, 11 Aug 2026 01:20:00 GMT"})
    verdict = rest.key_verdict(late, NOW)
    assert verdict.state == "clock" and "off by -284 s" in verdict.said


def test_other_verdicts() -> None:
    verdicts = [rest.key_verdict(Answer(*a), NOW) for a in ((200, b'{"apiKeys":[]}'), (403, b"{}"), (503, b""))]
    assert [v.state for v in verdicts] == ["wrong", "under-privileged", "down"]
    for verdict, words in zip(verdicts, ("no key of it", "account or the place", "busy"), strict=True):
        assert words in verdict.said
