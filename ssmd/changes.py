"""Changes of instruments as they are published on `{env}.secmaster.changes`: JSON, at least once, in order of a feed.

    {"feed":"kalshi","revision":12,"part":1,"parts":1,"changes":[
      {"symbol":"KXBTCD-…","change":"listed","status":"open","series":["KXBTCD"],"valid_from":1786410915579000123}]}

`revision` is that of the feed's instruments in the lake: whoever finds one missing reads them there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

CHANGES_PER_MESSAGE = 500  # some 200 bytes each; a NATS message may have 1 MB


class Change(msgspec.Struct, frozen=True):
    """A new version of an instrument; `change` is listed, changed or delisted, `valid_from` ns."""

    symbol: str
    change: str
    status: str
    series: list[str]
    valid_from: int


class Changes(msgspec.Struct, frozen=True):
    """Part of a revision's changes."""

    feed: str
    revision: int
    part: int
    parts: int
    changes: list[Change]


def messages(feed: str, rows: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """What is published of new versions (rows of the lake's `instruments`, of one revision or several)."""
    made = []
    for revision in sorted({row["revision"] for row in rows}):
        some = [
            Change(row["symbol"], row["change"], row["status"], row["series"] or [], row["valid_from"])
            for row in rows
            if row["revision"] == revision
        ]
        parts = [some[i : i + CHANGES_PER_MESSAGE] for i in range(0, len(some), CHANGES_PER_MESSAGE)]
        made += [
            msgspec.json.encode(Changes(feed, revision, number, len(parts), part))
            for number, part in enumerate(parts, 1)
        ]
    return made
