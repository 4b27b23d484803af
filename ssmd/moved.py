"""Files that are no longer in a data folder because a store has them, and where they are read from instead.

    {archive}/{feed}/{date}/moved.json             of that day's segments
    {lake}/days/feed={feed}/date={date}/moved.json of that day's tables

Manifests stay where they are: what is known of a day does not depend on a network. A file that is named here counts as
moved whether or not it has been removed yet, so a crash in between costs nothing.
"""

from pathlib import Path

import msgspec

from ssmd import archive, checked_json, config, durable
from ssmd.errors import Permanent
from ssmd.storage import Object

NAME = archive.MOVED


class Moved(msgspec.Struct, frozen=True):
    """Which objects of which store stand for files that were here; paths as in the store."""

    store: str  # its address
    objects: list[Object] = []  # by their path in the store

    def of(self, path: str) -> Object | None:
        return next((o for o in self.objects if o.path == path), None)


def of_archive(places: config.Places, feed: str, date: str) -> Path:
    """Where it is said which of a day's segments have moved."""
    return archive.day_folder(places.archive, feed, date) / NAME


def of_lake(places: config.Places, feed: str, date: str) -> Path:
    """Where it is said which of a day's tables have moved."""
    from ssmd import tables  # noqa: PLC0415 - and Arrow with it, which the archiver does not need

    return (places.lake / tables.manifest_path(feed, date)).with_name(NAME)


def load(path: Path) -> Moved | None:
    """None where nothing has moved. Raises Permanent if the file is damaged."""
    try:
        return checked_json.decode(path.read_bytes(), Moved)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as e:
        raise Permanent(f"{path} is damaged ({e}): restore it from a copy") from e


def save(path: Path, moved: Moved) -> None:
    durable.replace(path, checked_json.encode(moved))


def names(folder: Path) -> set[str]:
    """The names of a day folder's segments that have moved."""
    found = load(folder / NAME)
    return {o.path.rpartition("/")[2] for o in found.objects} if found is not None else set()


def everything(places: config.Places) -> dict[str, tuple[str, Object]]:
    """Every file of a data folder that has moved, by its path there: to which store, as which object."""
    found: dict[str, tuple[str, Object]] = {}
    for pattern in (f"archive/*/*/{NAME}", f"lake/days/*/*/{NAME}"):
        for path in sorted(places.data.glob(pattern)):
            if (moved := load(path)) is not None:
                found |= {o.path: (moved.store, o) for o in moved.objects}
    return found
