"""Whether a file holds something that looks like a secret. It is never repeated, only where it stands."""

import math
import re
from collections import Counter
from collections.abc import Iterator

_PATTERNS = (
    (re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY"), "a private key"),
    (re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"), "an AWS access key"),
    (re.compile(r"\beyJ[\w-]{10,}\.[\w-]{10,}\."), "a signed token (JWT)"),
    (
        re.compile(
            r"(?i)\b(secret|password|passphrase|api_?key|token)[\"']?\s*[:=]\s*[\"']?(?!env:|file:)[^\s\"'{}\[\],#…]{8,}"
        ),
        "a secret in clear",
    ),
    (re.compile(r"(?i)\b(secret|private|wallet|key)\b.*\b(0x)?[0-9a-f]{64}\b"), "a private key in hexadecimal digits"),
)
_USERINFO = re.compile(r"//[^/\s:@]+:[^/\s:@]+@")
_ADDRESS = re.compile(r"https?://[^\s?]+")  # its path is long, and random where it names a commit
_TOKEN = re.compile(r"[A-Za-z0-9+/_=-]{40,}")
_ENTROPY_BITS_MIN = 4.2  # of each character; random base64 of that length has more, words have less
_KEY_FILES = (".pem", ".key", ".der", ".p12", ".pfx", ".jks")


def found(name: str, data: bytes) -> Iterator[tuple[int, str]]:
    """The line (from 1) and what it seems to hold."""
    if name.lower().endswith(_KEY_FILES):
        yield 1, "a key file"
        return
    if b"\0" in data:
        yield 1, "something that is no text"
        return
    for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
        what = _in(line)
        if what is not None:
            yield number, what


def _in(line: str) -> str | None:
    if "sha256" in line.lower():
        return None
    for pattern, what in _PATTERNS:
        if pattern.search(line):
            return what
    if _USERINFO.search(line):
        return "a password in an address"
    return "a long random text, as secrets are" if any(map(_random, _TOKEN.findall(_ADDRESS.sub("", line)))) else None


def _random(token: str) -> bool:
    kinds = [any(map(test, token)) for test in (str.islower, str.isupper, str.isdigit)]
    if not all(kinds):
        return False
    counts = Counter(token)
    bits = -sum(n / len(token) * math.log2(n / len(token)) for n in counts.values())
    return bits >= _ENTROPY_BITS_MIN
