"""Signed requests: the query's percent-encoded text, signed by HMAC-SHA256 (hex), Ed25519 or RSA (base64)."""

import base64
import hashlib
import hmac
from dataclasses import replace
from urllib.parse import urlencode

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from exchanges.port import Request
from ssmd.errors import Permanent

KEY_HEADER = "X-MBX-APIKEY"
RECEIVE_WINDOW_MS = 5000

PublicKey = Ed25519PublicKey | RSAPublicKey


class Key:
    """An API key: its id, and the secret text (HMAC) or private key (PEM) that Binance knows it by; neither shows."""

    __slots__ = ("_secret", "id")

    def __init__(self, key_id: str, secret: bytes) -> None:
        """Raises Permanent if `secret` is neither; the message does not hold it."""
        self.id = key_id
        self._secret = _secret(key_id, secret)

    def headers(self, method: str, path: str, now_ns: int) -> dict[str, str]:
        """What a request carries beside its signature. The WebSockets of market data need none."""
        return {KEY_HEADER: self.id}

    def signed(self, request: Request, now_ns: int) -> Request:
        """With time and signature; market data wants to know who asks, but no proof."""
        headers = self.headers(request.method, request.path, now_ns)
        if request.path.endswith("/historicalTrades"):
            return replace(request, headers=headers)
        query = {**request.query, "recvWindow": str(RECEIVE_WINDOW_MS), "timestamp": str(now_ns // 1_000_000)}
        query["signature"] = self.sign(urlencode(query).encode())
        return replace(request, query=query, headers=headers)

    def sign(self, text: bytes) -> str:
        secret = self._secret
        if isinstance(secret, bytes):
            return hmac_hex(secret, text)
        if isinstance(secret, Ed25519PrivateKey):
            return base64.b64encode(secret.sign(text)).decode()
        return base64.b64encode(secret.sign(text, padding.PKCS1v15(), hashes.SHA256())).decode()

    def __repr__(self) -> str:
        return f"Key(id={self.id!r})"

    def __reduce__(self) -> str:
        raise TypeError("a secret is not to be pickled")


def hmac_hex(secret: bytes, text: bytes) -> str:
    return hmac.new(secret, text, hashlib.sha256).hexdigest()


def verified(public: PublicKey, signature: str, text: bytes) -> bool:
    """Whether `signature` (base64) is that of `text`."""
    try:
        raw = base64.b64decode(signature, validate=True)
        if isinstance(public, Ed25519PublicKey):
            public.verify(raw, text)
        else:
            public.verify(raw, text, padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, ValueError):
        return False
    return True


def public_key(pem: bytes) -> PublicKey:
    """Raises Permanent if `pem` holds no Ed25519 or RSA public key."""
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey | RSAPublicKey):
        raise Permanent("the public key for Binance's simulator is no Ed25519 or RSA key in PEM form: make it anew")
    return key


def _secret(key_id: str, secret: bytes) -> bytes | Ed25519PrivateKey | RSAPrivateKey:
    """Errors of the library are not chained: they may quote what they were given."""
    text = secret.strip()
    if not text.startswith(b"-----BEGIN"):
        if text and text.isalnum():
            return text
        raise Permanent(
            f"the secret of Binance key {key_id} is no secret of Binance's: give the letters and digits that were "
            "shown when the key was made, or the private key (PEM) that belongs to the public key you registered"
        )
    try:
        key = serialization.load_pem_private_key(text, password=None)
        if isinstance(key, Ed25519PrivateKey | RSAPrivateKey):
            return key
        what = "is a private key, but neither an Ed25519 nor an RSA one"
    except TypeError:
        what = "is protected by a password"
    except (ValueError, UnsupportedAlgorithm):
        what = "is no private key in PEM form"
    raise Permanent(f"the secret of Binance key {key_id} {what}: give the unprotected Ed25519 or RSA private key")
