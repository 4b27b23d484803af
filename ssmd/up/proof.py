"""Holds the simulator's log of what it sent against the archive: which frames are there, once, byte for byte."""

import zlib
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import msgspec

from ssmd import archive, frames
from ssmd.errors import Permanent

_OWN = frozenset({frames.SESSION, frames.GAP})  # what we add ourselves; no venue sent it


@dataclass(frozen=True)
class Proof:
    """What became of the frames that a simulated venue sent.

    `cut_off` were on their way when a connection ended: a replay sends those again on the next one, a live
    market cannot, and the ledger has a gap. `missing` counts recorded frames (of `tape`) that are nowhere.
    """

    sent: int = 0
    archived: int = 0
    cut_off: int = 0
    tape: int = 0
    missing: int = 0
    changed: int = 0
    twice: int = 0
    channels: dict[str, int] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        return not (self.missing or self.changed or self.twice)


class _Sent(msgspec.Struct, gc=False):
    """A line of the truth log: an archive line with the frame's place in the recording."""

    conn: str
    tape: int | None = None


def prove(truth: Path, tape: int, archive_folder: Path, feed: str, dates: Iterable[str]) -> Proof:
    """Compare a run's truth log with the archive of `dates`. `tape` is how many frames the recording has, 0 for none.

    Takes 12 bytes of memory per frame. Raises Permanent if a file is damaged.
    """
    sent, places = _read_truth(truth)
    found, channels, twice = _read_archive(archive_folder, feed, dates, sent)
    # A recording has lines that are no frames, so places go beyond its number of frames.
    covered = bytearray(1 + max((max(p, default=-1) for p in places.values()), default=-1))
    changed = cut_off = archived = 0
    for conn, checksums in sent.items():
        here = found.get(conn, array("I"))
        archived += len(here)
        cut_off += max(0, len(checksums) - len(here))
        changed += max(0, len(here) - len(checksums))
        for k, checksum in enumerate(here[: len(checksums)]):
            if checksum != checksums[k]:
                changed += 1
            elif (place := places[conn][k]) >= 0:
                covered[place] = 1
    return Proof(
        sent=sum(len(c) for c in sent.values()),
        archived=archived,
        cut_off=cut_off,
        tape=tape,
        missing=tape - sum(covered),
        changed=changed,
        twice=twice,
        channels=dict(channels.most_common()),
    )


def _read_truth(path: Path) -> "tuple[dict[str, array[int]], dict[str, array[int]]]":
    """Per connection, in the order sent: each frame's CRC-32, and its place in the recording (-1: it has none)."""
    checksums: dict[str, array[int]] = {}
    places: dict[str, array[int]] = {}
    decode = msgspec.json.Decoder(_Sent).decode
    with path.open("rb") as file:
        for raw in file:
            if not raw.endswith(b"\n"):
                break  # the simulator was killed while it wrote; that frame was never sent
            try:
                head, line = decode(raw), frames.parse(raw)
            except msgspec.DecodeError as e:
                raise Permanent(f"{path} is damaged ({e}): what was sent cannot be proved") from e
            checksums.setdefault(head.conn, array("I")).append(zlib.crc32(line.wire()))
            places.setdefault(head.conn, array("q")).append(-1 if head.tape is None else head.tape)
    return checksums, places


def _read_archive(
    folder: Path, feed: str, dates: Iterable[str], conns: Iterable[str]
) -> "tuple[dict[str, array[int]], Counter[str], int]":
    """Per connection, in order of `n`: each venue frame's CRC-32; frames per channel; how many are there twice.

    Answers to requests are no frames that a simulator sent.
    """
    numbered: dict[str, list[tuple[int, int]]] = {conn: [] for conn in conns}
    channels: Counter[str] = Counter()
    for channel, line in _lines(folder, feed, dates):
        if line.conn in numbered and not frames.is_rest(wire := line.wire()):
            numbered[line.conn].append((line.n, zlib.crc32(wire)))
            channels[channel] += 1
    found: dict[str, array[int]] = {}
    twice = 0
    for conn, pairs in numbered.items():
        pairs.sort()
        twice += sum(a[0] == b[0] for a, b in pairwise(pairs))
        found[conn] = array("I", (checksum for _, checksum in pairs))
    return found, channels, twice


def _lines(folder: Path, feed: str, dates: Iterable[str]) -> Iterator[tuple[str, frames.Line]]:
    for date in dates:
        manifest = archive.load_manifest(archive.manifest_path(folder, feed, date))
        for segment in manifest.segments:
            if segment.channel not in _OWN:
                for line in archive.read_segment(archive.day_folder(folder, feed, date) / segment.name):
                    yield segment.channel, line
