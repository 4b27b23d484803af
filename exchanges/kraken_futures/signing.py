"""Signed futures requests: HMAC-SHA512 over the SHA-256 of data, nonce and path, keyed with the decoded secret."""

import base64
import hashlib
import hmac
from dataclasses import replace

from exchanges.kraken.signing import decoded
from exchanges.port import Request

KEY_HEADER = "APIKey"
SIGNATURE_HEADER = "Authent"
NONCE_HEADER = "Nonce"
NOT_SIGNED = "/derivatives"  # the part of a path that the signature leaves out


class Key:
    """An API key of Kraken Futures (spot keys are others); its private key never shows."""

    __slots__ = ("_secret", "id")

    def __init__(self, key_id: str, secret: bytes) -> None:
        """Raises Permanent if `secret` is no base64; the message does not hold it."""
        self.id = key_id
        self._secret = decoded(key_id, secret, "Kraken Futures")

    def headers(self, method: str, path: str, now_ns: int) -> dict[str, str]:
        """Headers for one attempt at `path`, without query and body."""
        nonce = str(now_ns // 1_000_000)
        return {
            KEY_HEADER: self.id,
            NONCE_HEADER: nonce,
            SIGNATURE_HEADER: signature(self._secret, path, nonce),
        }

    def signed(self, request: Request, now_ns: int) -> Request:
        return replace(request, headers=self.headers(request.method, request.path, now_ns))

    def answer(self, challenge: str) -> str:
        """What a private WebSocket feed wants to see of the `message` that it challenged us with."""
        return signed_challenge(self._secret, challenge)

    def __repr__(self) -> str:
        return f"Key(id={self.id!r})"

    def __reduce__(self) -> str:
        raise TypeError("a private key is not to be pickled")


def signature(secret: bytes, path: str, nonce: str, data: str = "") -> str:
    """`data` is query string or body, as sent."""
    text = data + nonce + path.removeprefix(NOT_SIGNED)
    return _hmac(secret, text)


def signed_challenge(secret: bytes, challenge: str) -> str:
    return _hmac(secret, challenge)


def _hmac(secret: bytes, text: str) -> str:
    return base64.b64encode(hmac.digest(secret, hashlib.sha256(text.encode()).digest(), "sha512")).decode()
