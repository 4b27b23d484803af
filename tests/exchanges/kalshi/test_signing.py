"""A request's signature is the documented one, and the key behind it never shows."""

import base64
import pickle

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from exchanges.kalshi import venue
from exchanges.kalshi.signing import Key
from ssmd.errors import Permanent

PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PKCS8 = PRIVATE.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
PKCS1 = PRIVATE.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
)
NOW_NS = 1_786_410_915_579_000_123


def _verify(headers: dict[str, str], text: bytes, salt: int = 32) -> None:
    scheme = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=salt)
    signature = base64.b64decode(headers["KALSHI-ACCESS-SIGNATURE"])
    PRIVATE.public_key().verify(signature, text, scheme, hashes.SHA256())


@pytest.mark.parametrize("pem", [PKCS1, PKCS8], ids=["PKCS#1", "PKCS#8"])
def test_signature_is_pss_over_time_method_and_path_without_query(pem: bytes) -> None:
    headers = venue.key("a-key-id", pem).headers("GET", "/trade-api/v2/markets?limit=5", NOW_NS)
    assert headers["KALSHI-ACCESS-KEY"] == "a-key-id"
    assert headers["KALSHI-ACCESS-TIMESTAMP"] == "1786410915579"
    _verify(headers, b"1786410915579GET/trade-api/v2/markets")
    with pytest.raises(InvalidSignature):
        _verify(headers, b"1786410915579GET/trade-api/v2/markets?limit=5")
    with pytest.raises(InvalidSignature):
        _verify(headers, b"1786410915579GET/trade-api/v2/markets", salt=0)


def test_each_attempt_is_signed_anew() -> None:
    key = venue.key("a-key-id", PKCS8)
    first, second = (key.headers("GET", "/trade-api/ws/v2", NOW_NS) for _ in range(2))
    assert first["KALSHI-ACCESS-SIGNATURE"] != second["KALSHI-ACCESS-SIGNATURE"]


def test_a_key_does_not_show_its_secret() -> None:
    key = Key("a-key-id", PKCS8)
    line = PKCS8.splitlines()[5].decode()
    number = str(PRIVATE.private_numbers().d)
    for text in (repr(key), str(key), f"{key}", format(key)):
        assert "a-key-id" in text
        assert line not in text and number not in text
    assert not hasattr(key, "__dict__")
    with pytest.raises(TypeError):
        pickle.dumps(key)


SECRET = b"c2VjcmV0LXRoYXQtbXVzdC1ub3Qtc2hvdw=="
EC = ec.generate_private_key(ec.SECP256R1()).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
LOCKED = PRIVATE.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"pass")
)
PUBLIC = PRIVATE.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("pem", "why"),
    [
        (b"", "no private key in PEM form"),
        (SECRET, "no private key in PEM form"),
        (b"-----BEGIN PRIVATE KEY-----\n" + SECRET + b"\n-----END PRIVATE KEY-----\n", "no private key in PEM form"),
        (PKCS8[: len(PKCS8) // 2], "no private key in PEM form"),
        (b"\xff\xfe" + SECRET, "no private key in PEM form"),
        (EC, "not an RSA one"),
        (LOCKED, "protected by a password"),
        (PUBLIC, "no private key in PEM form"),
    ],
    ids=["empty", "text", "rubbish", "cut", "binary", "elliptic", "locked", "public"],
)
def test_a_secret_that_is_no_rsa_key_is_refused_without_quoting_it(pem: bytes, why: str) -> None:
    with pytest.raises(Permanent) as caught:
        venue.key("a-key-id", pem)
    error: BaseException | None = caught.value
    assert why in str(error) and "a-key-id" in str(error) and "\n" not in str(error)
    told = ""
    while error is not None:
        told += f"{error!r} {error} {error.args}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    for line in pem.splitlines():
        if len(line) > 20 and not line.startswith(b"-----"):
            assert line.decode(errors="replace") not in told
