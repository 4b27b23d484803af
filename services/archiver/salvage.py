"""What is left of an archive file that is no longer as it was committed: its whole gzip members, and which frames."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ssmd import frames

CHUNK = 64 << 10


@dataclass(frozen=True)
class Kept:
    """The undamaged beginning of a file."""

    bytes: int
    raw_bytes: int
    members: int
    crc32: int
    lines: list[frames.Line]


def salvage(path: Path, committed_bytes: int) -> Kept:
    """The whole members within the committed length, up to the first that is damaged."""
    kept_bytes = raw_bytes = members = checksum = 0
    lines: list[frames.Line] = []
    for compressed, raw in _members(path, committed_bytes):
        try:
            found = frames.parse_lines(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            break
        lines += found
        kept_bytes += len(compressed)
        raw_bytes += len(raw)
        members += 1
        checksum = zlib.crc32(compressed, checksum)
    return Kept(kept_bytes, raw_bytes, members, checksum, lines)


def _members(path: Path, committed_bytes: int) -> Iterator[tuple[bytes, bytes]]:
    """Each whole gzip member: its bytes, and what it holds."""
    with path.open("rb") as file:
        left = committed_bytes
        rest = b""
        while True:
            member = zlib.decompressobj(31)
            raw, taken = [], []
            while not member.eof:
                chunk = rest or file.read(min(CHUNK, left))
                if not rest:
                    left -= len(chunk)
                rest = b""
                if not chunk:
                    return
                try:
                    raw.append(member.decompress(chunk))
                except zlib.error:
                    return
                rest = member.unused_data
                taken.append(chunk[: len(chunk) - len(rest)])
            yield b"".join(taken), b"".join(raw)
