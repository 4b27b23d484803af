"""Which tables are made of which channels, and by which code: asked of the grammars that the rollup uses."""

import importlib
from dataclasses import dataclass
from datetime import date

from activities import replay
from exchanges.port import Venue
from ssmd import __version__, config, frames

_OURS: dict[str, tuple[str, ...]] = {  # see `replay._Hour._meaning`
    frames.SESSION: ("sessions",),
    frames.GAP: ("gaps",),
    frames.BACKFILL: ("trades",),
}


@dataclass(frozen=True)
class Builder:
    """A channel of a feed's archive, and the tables that its frames become; none: they are in the archive alone.

    `code` is the version of ssmd and a digest of all that decides what the venue's frames become.
    """

    feed: str
    venue: str
    channel: str
    tables: tuple[str, ...]
    code: str


def builders(feed: str, day: date) -> list[Builder]:
    """What the rollup of that day makes of each channel. Raises Permanent if there is no such feed."""
    name = config.load_feed(feed).venue
    venue: Venue = importlib.import_module(f"exchanges.{name}").venue
    known = venue.events(day.isoformat()).channels()
    made = {channel: tuple(replay.TABLE_OF[kind] for kind in kinds) for channel, kinds in known.items()} | _OURS
    made[frames.BAD] = tuple(
        dict.fromkeys(table for channel, some in made.items() if channel[0] != "_" for table in some)
    )
    code = f"{__version__} {replay.software(name)}"
    return [Builder(feed, name, channel, some, code) for channel, some in sorted(made.items())]
