"""JSON files that carry their own checksum, so that no flipped bit in a manifest or a cursor passes for news.

The last key of the object is the SHA-256 of everything before it:

    {"feed":"kalshi", … ,
     "sha256": "…"
    }
"""

import hashlib
from typing import TypeVar

import msgspec

T = TypeVar("T")

_TAIL_BYTES = len(b',\n "sha256": "') + 64 + len(b'"\n}\n')


class WrongChecksum(msgspec.DecodeError):
    """The file is JSON, but not what was written."""


def encode(value: msgspec.Struct, *, indent: int = -1) -> bytes:
    """The content of a file for `value` (a struct with at least one field); `indent` -1 is compact."""
    text = msgspec.json.encode(value)
    if indent >= 0:
        text = msgspec.json.format(text, indent=indent)
    body = text.removesuffix(b"}").rstrip()
    return body + _tail(body)


def decode(data: bytes, kind: type[T]) -> T:
    """The value in a file's content. Raises msgspec.DecodeError if a single bit of it is not as it was written."""
    try:
        if data[-_TAIL_BYTES:] != _tail(data[:-_TAIL_BYTES]):
            _without_checksum(data, kind)
        return msgspec.json.decode(data, type=kind)
    except UnicodeDecodeError as e:  # msgspec lets this one through
        raise msgspec.DecodeError(str(e)) from e


def _without_checksum(data: bytes, kind: type) -> None:
    """Let pass only what was written before files had checksums: such a file has no key that we do not know."""
    known = {f.encode_name for f in msgspec.structs.fields(kind)}
    if not msgspec.json.decode(data, type=dict[str, msgspec.Raw]).keys() <= known:
        raise WrongChecksum("its checksum is not that of its content")


def _tail(body: bytes) -> bytes:
    return b',\n "sha256": "%s"\n}\n' % hashlib.sha256(body).hexdigest().encode()
