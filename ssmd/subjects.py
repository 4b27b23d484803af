"""Names on NATS: subjects, streams, and symbols as subject tokens."""

import re

from ssmd.frames import ALL

_UNSAFE = re.compile(rb"[^0-9A-Za-z_\-:=+,@#$!~&()]")


def token(symbol: str) -> str:
    """A symbol as one subject token: bytes that NATS or a shell would trip over become %XX."""
    if symbol == ALL:
        return "%61ll"  # a venue's own symbol of that name, not our "every instrument"
    if not symbol:
        raise ValueError("a symbol may not be empty")
    return _UNSAFE.sub(lambda m: b"%%%02X" % m[0][0], symbol.encode()).decode()


def symbol(token: str) -> str:
    """The symbol a token stands for: the inverse of `token`."""
    return re.sub(rb"%([0-9A-Fa-f]{2})", lambda m: bytes([int(m[1], 16)]), token.encode()).decode()


def frame(env: str, feed: str, channel: str, symbol: str | None, shard: int = 0) -> str:
    """Where a raw frame is published; `symbol` None is for frames of no single instrument."""
    return f"{prefix(env, feed, shard)}.json.{channel}.{ALL if symbol is None else token(symbol)}"


def normalized(env: str, feed: str, kind: str, symbol: str | None) -> str:
    """Where a normalized event is published; `kind` is trade, ticker, book or status. Core NATS: no stream keeps it."""
    return f"{prefix(env, feed)}.{kind}.{ALL if symbol is None else token(symbol)}"


def channel_of(subject: str) -> str:
    """The channel in a raw frame's subject."""
    return subject.rsplit(".", 2)[1]


def prefix(env: str, feed: str, shard: int = 0) -> str:
    """What the subjects of a feed's shard start with; the first one's have no number, as if it were the only one."""
    return f"{env}.{feed}.{shard}" if shard else f"{env}.{feed}"


def raw(env: str, feed: str, shards: int = 1) -> list[str]:
    """What a feed's raw frames are published under, of so many shards."""
    return [f"{prefix(env, feed, shard)}.json.>" for shard in range(shards)]


def stream(env: str, feed: str) -> str:
    """The JetStream stream that holds a feed's raw frames, of all its shards: a feed has one archive."""
    return prefix(env, feed).replace(".", "_").replace("-", "_").upper()


def ends(env: str, feed: str) -> str:
    """Where fast-ingest batches are ended: the stream takes it, nothing is stored, no subscriber to frames sees it."""
    return f"{prefix(env, feed)}.ends"


def archived(env: str, feed: str) -> str:
    """Where the archiver says which frames are safe (core NATS; a request to `.get` asks for all)."""
    return f"{prefix(env, feed)}.archived"


def replay(env: str, feed: str) -> str:
    """Where the connector answers requests for frames of its journal (core NATS)."""
    return f"{prefix(env, feed)}.replay"


def finish(env: str, feed: str) -> str:
    """Where the archiver is asked to finish a day's segments now, with all that the stream holds (core NATS)."""
    return f"{prefix(env, feed)}.finish"


def secmaster_changes(env: str) -> str:
    """Where changes of instruments are published, of all feeds (core NATS; see `ssmd.changes`)."""
    return f"{env}.secmaster.changes"


def seal(env: str, feed: str) -> str:
    """Where the archiver is asked to seal a day now (core NATS)."""
    return f"{prefix(env, feed)}.seal"
