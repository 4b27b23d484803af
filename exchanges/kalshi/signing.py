"""Signed requests: RSA-PSS with SHA-256, MGF1-SHA256 and a salt as long as the digest, over time, method and path."""

import base64
from dataclasses import replace

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from exchanges.port import Request
from ssmd.errors import Permanent

REST_ROOT = "/trade-api/v2"  # what every endpoint's path begins with; it is signed, too
KEY_HEADER = "KALSHI-ACCESS-KEY"
TIMESTAMP_HEADER = "KALSHI-ACCESS-TIMESTAMP"
SIGNATURE_HEADER = "KALSHI-ACCESS-SIGNATURE"

_HASH = hashes.SHA256()
_PADDING = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=padding.PSS.DIGEST_LENGTH)


class Key:
    """An API key: its id and its RSA private key (PEM, PKCS#1 or PKCS#8), which never shows."""

    __slots__ = ("_private", "id")

    def __init__(self, key_id: str, pem: bytes) -> None:
        """Raises Permanent if `pem` holds no RSA private key; the message does not hold it either."""
        self.id = key_id
        self._private = _private_key(key_id, pem)

    def headers(self, method: str, path: str, now_ns: int) -> dict[str, str]:
        """Headers for one attempt, fresh each time: the venue refuses old ones. `path` starts at /trade-api."""
        timestamp = str(now_ns // 1_000_000)
        signature = self._private.sign(signed_text(timestamp, method, path), _PADDING, _HASH)
        return {
            KEY_HEADER: self.id,
            TIMESTAMP_HEADER: timestamp,
            SIGNATURE_HEADER: base64.b64encode(signature).decode(),
        }

    def signed(self, request: Request, now_ns: int) -> Request:
        return replace(request, headers=self.headers(request.method, REST_ROOT + request.path, now_ns))

    def __repr__(self) -> str:
        return f"Key(id={self.id!r})"

    def __reduce__(self) -> str:
        raise TypeError("a private key is not to be pickled")


def signed_text(timestamp: str, method: str, path: str) -> bytes:
    """What is signed: neither host nor query string is part of it."""
    return f"{timestamp}{method}{path.partition('?')[0]}".encode()


def verified(public: RSAPublicKey, signature: str, text: bytes) -> bool:
    """Whether `signature` (base64) is that of `text`."""
    try:
        public.verify(base64.b64decode(signature, validate=True), text, _PADDING, _HASH)
    except (InvalidSignature, ValueError):
        return False
    return True


def public_key(pem: bytes) -> RSAPublicKey:
    """Raises Permanent if `pem` holds no RSA public key."""
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPublicKey):
        raise Permanent(
            "the public key for Kalshi's simulator is no RSA key in PEM form: make it anew from the private key"
        )
    return key


def _private_key(key_id: str, pem: bytes) -> RSAPrivateKey:
    """Errors of the library are not chained: they may quote what they were given."""
    what = "is no private key in PEM form"
    try:
        key = serialization.load_pem_private_key(pem, password=None)
        if isinstance(key, RSAPrivateKey):
            return key
        what = "is a private key, but not an RSA one"
    except TypeError:
        what = "is protected by a password"
    except (ValueError, UnsupportedAlgorithm):
        pass
    raise Permanent(
        f"the secret of Kalshi key {key_id} {what}: give the unprotected RSA private key that Kalshi showed "
        "when the key was made (it begins with -----BEGIN PRIVATE KEY or -----BEGIN RSA PRIVATE KEY)"
    )
