"""Signed requests ("L2"): HMAC-SHA256 over time, method and path, keyed with the decoded secret of an API key."""

import base64
import binascii
import hashlib
import hmac
from dataclasses import replace

import msgspec

from exchanges.port import Request
from ssmd.errors import Permanent

HEADERS = ("POLY_ADDRESS", "POLY_SIGNATURE", "POLY_TIMESTAMP", "POLY_API_KEY", "POLY_PASSPHRASE")


class _Secret(msgspec.Struct):
    """The file that holds what Polymarket showed when the key was made, and whose wallet it belongs to."""

    address: str
    secret: str
    passphrase: str


class Key:
    """An API key: its id (a UUID), secret, passphrase and the wallet's address; only the id ever shows."""

    __slots__ = ("_address", "_passphrase", "_secret", "id")

    def __init__(self, key_id: str, secret: bytes) -> None:
        """Raises Permanent if `secret` is not {"address", "secret", "passphrase"}; the message holds none of it."""
        self.id = key_id
        try:
            parts = msgspec.json.decode(secret, type=_Secret)
            self._secret = base64.b64decode(parts.secret, altchars=b"-_", validate=True)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError, binascii.Error, RecursionError):
            parts = None
        if parts is None or not (self._secret and parts.address and parts.passphrase):
            raise Permanent(
                f'the secret of Polymarket key {key_id} is not {{"address": …, "secret": …, "passphrase": …}}: '
                "give the wallet's address and what Polymarket showed when the key was made (the secret in base64)"
            )
        self._address = parts.address
        self._passphrase = parts.passphrase

    def headers(self, method: str, path: str, now_ns: int) -> dict[str, str]:
        """Headers for one attempt, fresh each time; `path` without query, which is not signed (unconfirmed)."""
        timestamp = str(now_ns // 1_000_000_000)
        signed = signature(self._secret, timestamp, method, path)
        return dict(zip(HEADERS, (self._address, signed, timestamp, self.id, self._passphrase), strict=True))

    def signed(self, request: Request, now_ns: int) -> Request:
        return replace(request, headers=self.headers(request.method, request.path, now_ns))

    def __repr__(self) -> str:
        return f"Key(id={self.id!r})"

    def __reduce__(self) -> str:
        raise TypeError("a private key is not to be pickled")


def signature(secret: bytes, timestamp: str, method: str, path: str, body: str = "") -> str:
    """Base64 for URLs, with its `=` kept; `timestamp` in seconds."""
    text = f"{timestamp}{method}{path.partition('?')[0]}{body}".encode()
    return base64.urlsafe_b64encode(hmac.digest(secret, text, hashlib.sha256)).decode()
