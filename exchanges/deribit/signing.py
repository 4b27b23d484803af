"""Signed requests: HMAC-SHA256 with the client secret, over time, nonce and what is asked.

Two forms (docs.deribit.com/articles/authentication): the header `Authorization: deri-hmac-sha256 …` signs one HTTP
request; the grant `client_signature` of public/auth signs time, nonce and free data, and is answered with a token.
"""

import hashlib
import hmac
import secrets
from dataclasses import replace

from exchanges.port import Request
from ssmd.errors import Permanent

SCHEME = "deri-hmac-sha256"
SIGNED_GRANT = "client_signature"
REST_ROOT = "/api/v2"  # what every endpoint's path begins with; it is signed, too


class Key:
    """An API key: its client id, and its client secret, which never shows."""

    __slots__ = ("_secret", "id")

    def __init__(self, key_id: str, secret: bytes) -> None:
        """Raises Permanent if `secret` cannot be a client secret; the message does not hold it."""
        secret = secret.strip()
        if not secret or not secret.isascii() or any(c <= 32 or c == 127 for c in secret):
            raise Permanent(
                f"the secret of Deribit key {key_id} is no client secret: give the one line of letters and digits "
                "that Deribit showed when the key was made (asymmetric keys are not supported)"
            )
        self.id = key_id
        self._secret = secret

    def headers(self, method: str, path: str, now_ns: int) -> dict[str, str]:
        """The header for one attempt, fresh each time; `path` starts at /api/v2 and has its query, if there is one."""
        timestamp, nonce = str(now_ns // 1_000_000), secrets.token_hex(8)
        signature = self.signature(request_text(timestamp, nonce, method, path))
        return {"Authorization": f"{SCHEME} id={self.id},ts={timestamp},nonce={nonce},sig={signature}"}

    def signed(self, request: Request, now_ns: int) -> Request:
        """A request for a token is signed in its parameters, any other in its header."""
        if request.query.get("grant_type") == SIGNED_GRANT:
            return replace(request, query=self.client_signature(now_ns, request.query.get("scope", "")))
        return replace(request, headers=self.headers(request.method, REST_ROOT + request.target, now_ns))

    def client_signature(self, now_ns: int, scope: str = "", data: str = "") -> dict[str, str]:
        """The parameters of public/auth that prove who we are without sending the secret."""
        timestamp, nonce = str(now_ns // 1_000_000), secrets.token_hex(8)
        return {
            "grant_type": SIGNED_GRANT,
            "client_id": self.id,
            "timestamp": timestamp,
            "nonce": nonce,
            "data": data,
            "signature": self.signature(grant_text(timestamp, nonce, data)),
            **({"scope": scope} if scope else {}),
        }

    def signature(self, text: bytes) -> str:
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()

    def __repr__(self) -> str:
        return f"Key(id={self.id!r})"

    def __reduce__(self) -> str:
        raise TypeError("a client secret is not to be pickled")


def request_text(timestamp: str, nonce: str, method: str, uri: str, body: str = "") -> bytes:
    """What the header signs: path and query, but no host."""
    return f"{timestamp}\n{nonce}\n{method}\n{uri}\n{body}\n".encode()


def grant_text(timestamp: str, nonce: str, data: str) -> bytes:
    """What `client_signature` signs; there is no newline at its end."""
    return f"{timestamp}\n{nonce}\n{data}".encode()
