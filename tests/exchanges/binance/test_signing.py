"""Signatures by Binance's published vector and by keys of each kind; a secret never shows."""

import pickle

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from exchanges.binance import signing, venue
from exchanges.port import Request
from ssmd.errors import Permanent

SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
QUERY = "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559"
NOW = 1_499_827_319_559_000_000


def pem(key: object) -> bytes:
    return key.private_bytes(  # type: ignore[attr-defined,no-any-return]
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_pem(key: object) -> bytes:
    return key.public_key().public_bytes(  # type: ignore[attr-defined,no-any-return]
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def test_the_published_vector() -> None:
    signed = "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"
    assert signing.Key("id", SECRET.encode() + b"\n").sign(QUERY.encode()) == signed


def test_the_signature_is_last_and_over_the_encoded_query() -> None:
    key = signing.Key("id", SECRET.encode())
    request = key.signed(Request("GET", "/api/v3/account/commission", {"symbol": "币USDT"}), NOW)
    text, _, signature = request.target.partition("?")[2].rpartition("&signature=")
    assert text == "symbol=%E5%B8%81USDT&recvWindow=5000&timestamp=1499827319559"
    assert signature == signing.hmac_hex(SECRET.encode(), text.encode())
    assert key.headers("GET", "/", NOW) == {"X-MBX-APIKEY": "id"}


@pytest.mark.parametrize("make", [Ed25519PrivateKey.generate, lambda: rsa.generate_private_key(65537, 2048)])
def test_private_keys_sign_what_their_public_halves_verify(make) -> None:  # type: ignore[no-untyped-def]
    private = make()
    key, public = signing.Key("id", pem(private)), signing.public_key(public_pem(private))
    assert signing.verified(public, key.sign(b"text"), b"text")
    assert not signing.verified(public, key.sign(b"text"), b"other")
    assert not signing.verified(public, "no base64!", b"text")


@pytest.mark.parametrize(
    "secret",
    [b"", b"  ", b"two words", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", b"\xff\xfe"],
)
def test_what_is_no_secret_is_refused_without_showing_it(secret: bytes) -> None:
    with pytest.raises(Permanent) as refused:
        venue.key("my-id", secret)
    assert "my-id" in str(refused.value) and refused.value.__cause__ is None
    assert not secret.strip() or secret.strip().decode(errors="replace") not in str(refused.value)


def test_keys_of_other_kinds_are_refused() -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(Permanent, match="neither an Ed25519 nor an RSA one"):
        signing.Key("id", pem(other))
    with pytest.raises(Permanent, match="no Ed25519 or RSA key"):
        signing.public_key(public_pem(other))


def test_a_secret_never_shows() -> None:
    key = signing.Key("id", SECRET.encode())
    assert SECRET not in repr(key) and not hasattr(key, "__dict__")
    with pytest.raises(TypeError):
        pickle.dumps(key)
