"""The signature is the documented one; the secret shows nowhere."""

import base64
import pickle

import pytest

from exchanges.kraken import signing, venue
from ssmd.errors import Permanent

# The example of Kraken's documentation of spot REST authentication.
SECRET = b"kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg=="
BODY = b"nonce=1616492376594&ordertype=limit&pair=XBTUSD&price=37500&type=buy&volume=1.25"
SIGNATURE = "4/dpxb3iT4tp/ZCVEwSnEsLxx0bqyhLpdfOpc6fn7OR8+UClSV5n9E6aSS8MPtnRfp32bAb0nmbRn6H8ndwLUQ=="


def test_the_documented_example_is_signed_as_documented() -> None:
    assert signing.signature(base64.b64decode(SECRET), "/0/private/AddOrder", "1616492376594", BODY) == SIGNATURE


def test_headers_are_for_the_body_that_goes_with_them() -> None:
    now_ns = 1_616_492_376_594_000_000
    headers = venue.key("id", SECRET + b"\n").headers("POST", "/0/private/Balance", now_ns)
    assert signing.body(now_ns) == b"nonce=1616492376594"
    assert headers == {
        "API-Key": "id",
        "API-Sign": signing.signature(
            base64.b64decode(SECRET), "/0/private/Balance", "1616492376594", b"nonce=1616492376594"
        ),
    }


@pytest.mark.parametrize("secret", [b"", b"  ", b"no base64!", b"-----BEGIN PRIVATE KEY-----", b"\xff"])
def test_a_secret_of_another_form_is_refused_without_being_shown(secret: bytes) -> None:
    with pytest.raises(Permanent, match="Kraken key K") as refused:
        venue.key("K", secret)
    assert "no base64!" not in str(refused.value) and "BEGIN" not in str(refused.value)


def test_the_secret_is_neither_printed_nor_pickled() -> None:
    key = venue.key("K", SECRET)
    assert repr(key) == "Key(id='K')"
    with pytest.raises(TypeError):
        pickle.dumps(key)
