"""A request's signature is the documented one, and the secret behind it never shows."""

import hashlib
import hmac
import pickle
import re

import pytest

from exchanges.deribit import venue
from exchanges.deribit.signing import Key
from ssmd.errors import Permanent

SECRET = b"AMANDASECRECT"
NOW_NS = 1_576_074_319_123_456_789


def _signed(text: str) -> str:
    return hmac.new(SECRET, text.encode(), hashlib.sha256).hexdigest()


def test_the_header_signs_time_nonce_method_and_uri() -> None:
    header = Key("AMANDA", SECRET).headers("GET", "/api/v2/private/get_account_summary?currency=BTC", NOW_NS)
    found = re.fullmatch(r"deri-hmac-sha256 id=AMANDA,ts=(\d+),nonce=(\w+),sig=(\w+)", header["Authorization"])
    assert found is not None and found[1] == "1576074319123"
    text = f"{found[1]}\n{found[2]}\nGET\n/api/v2/private/get_account_summary?currency=BTC\n\n"
    assert found[3] == _signed(text)


@pytest.mark.parametrize("data", ["", "some data"])
def test_a_client_signature_signs_time_nonce_and_data(data: str) -> None:
    params = Key("AMANDA", SECRET).client_signature(NOW_NS, "account:read", data)
    assert params["signature"] == _signed(f"1576074319123\n{params['nonce']}\n{data}")
    assert (params["grant_type"], params["client_id"], params["scope"]) == (
        "client_signature",
        "AMANDA",
        "account:read",
    )
    assert "AMANDASECRECT" not in str(params)


def test_the_signature_is_that_of_a_published_example() -> None:
    """hmac-sha256 of RFC 4231, test case 2: our use of it is the plain one."""
    key = Key("id", b"Jefe")
    assert key.signature(b"what do ya want for nothing?") == (
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )


def test_each_attempt_is_signed_anew() -> None:
    key = venue.key("id", SECRET)
    first, second = (key.headers("GET", "/x", NOW_NS) for _ in range(2))
    assert first != second


def test_a_key_does_not_show_its_secret() -> None:
    key = Key("an-id", SECRET + b"\n")
    for text in (repr(key), str(key), f"{key}"):
        assert "an-id" in text and SECRET.decode() not in text
    assert not hasattr(key, "__dict__")
    with pytest.raises(TypeError):
        pickle.dumps(key)


@pytest.mark.parametrize(
    "secret", [b"", b" \n", b"two words", b"-----BEGIN PRIVATE KEY-----\nMC4\n", "é".encode(), b"a\x00b"]
)
def test_what_cannot_be_a_secret_is_refused_without_showing_it(secret: bytes) -> None:
    with pytest.raises(Permanent, match="key an-id is no client secret") as caught:
        venue.key("an-id", secret)
    assert secret.strip() == b"" or secret.decode() not in str(caught.value)
