"""Signed spot requests: HMAC-SHA512 over the path and the SHA-256 of nonce and body, keyed with the decoded secret."""

import base64
import binascii
import hashlib
import hmac
from dataclasses import replace

from exchanges.port import Request
from ssmd.errors import Permanent

KEY_HEADER = "API-Key"
SIGNATURE_HEADER = "API-Sign"


class Key:
    """An API key: its public half and the private key (base64), which never shows."""

    __slots__ = ("_secret", "id")

    def __init__(self, key_id: str, secret: bytes) -> None:
        """Raises Permanent if `secret` is no base64; the message does not hold it."""
        self.id = key_id
        self._secret = decoded(key_id, secret, "Kraken")

    def headers(self, method: str, path: str, now_ns: int) -> dict[str, str]:
        """Headers for one attempt at `path`, whose body is that of `body` and nothing else."""
        return {KEY_HEADER: self.id, SIGNATURE_HEADER: signature(self._secret, path, nonce(now_ns), body(now_ns))}

    def signed(self, request: Request, now_ns: int) -> Request:
        """Of a request without parameters: the nonce is all of its form."""
        return replace(request, headers=self.headers(request.method, request.path, now_ns), body=body(now_ns))

    def __repr__(self) -> str:
        return f"Key(id={self.id!r})"

    def __reduce__(self) -> str:
        raise TypeError("a private key is not to be pickled")


def nonce(now_ns: int) -> str:
    """Milliseconds, as the venue's own clients have it: a finer one would lock those that share the key out."""
    return str(now_ns // 1_000_000)


def body(now_ns: int) -> bytes:
    """The form of a request that has no parameters."""
    return f"nonce={nonce(now_ns)}".encode()


def signature(secret: bytes, path: str, nonce: str, body: bytes) -> str:
    """Of a POST to `path` (from `/0` on) with this nonce in its body."""
    digest = hashlib.sha256(nonce.encode() + body).digest()
    return base64.b64encode(hmac.digest(secret, path.encode() + digest, "sha512")).decode()


def decoded(key_id: str, secret: bytes, venue: str) -> bytes:
    """The bytes that a secret in base64 stands for."""
    try:
        found = base64.b64decode(secret.strip(), validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if not found:
        raise Permanent(
            f"the secret of {venue} key {key_id} is no base64: give the private key as {venue} showed it "
            "when the key was made"
        )
    return found
