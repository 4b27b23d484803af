"""Keys as an environment names them: where they should be, and whether they are; never what they are."""

import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ssmd import config
from ssmd.config import Environment, Feed, KeyReference
from ssmd.errors import Permanent
from ssmd.gitops.findings import Loc, dotted
from ssmd.gitops.reading import read

_DAY_SECONDS = 86_400
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True)
class Part:
    """One reference, `env:NAME` or `file:PATH`, and where the environment's file has it. An id is no secret."""

    loc: Loc
    reference: str
    secret: bool = True

    @property
    def variable(self) -> str | None:
        kind, _, where = self.reference.partition(":")
        return where if kind == "env" else None

    def path(self, data: Path) -> Path | None:
        kind, _, where = self.reference.partition(":")
        return Path(where.replace("{data}", str(data))).expanduser() if kind == "file" else None

    def present(self, data: Path) -> bool:
        path = self.path(data)
        return bool(os.environ.get(self.variable or "")) if path is None else path.is_file()

    def wrong(self, data: Path) -> tuple[str, str] | None:
        """The problem and its remedy; None if it can be used."""
        path = self.path(data)
        if path is None:
            if self.present(data):
                return None
            return f"the variable {self.variable} is not set", f"export {self.variable}=… where ssmd runs"
        if not path.is_file():
            return f"{path} does not exist", "put it there with `ssmd key set`"
        if not os.access(path, os.R_OK):
            return f"{path} cannot be read", "change its owner"
        if self.secret and path.stat().st_mode & _OTHERS:
            return f"{path} can be read by others", f"chmod 600 {path}"
        return None

    def age_days(self, data: Path) -> int | None:
        """Since the file was written; None for a variable, which tells no age."""
        path = self.path(data)
        if path is None or not path.is_file():
            return None
        return int((time.time() - path.stat().st_mtime) // _DAY_SECONDS)


@dataclass(frozen=True)
class Key:
    """What an environment signs in with: `name` is the feed's, or the dotted path of another field."""

    environment: str
    name: str
    loc: Loc
    parts: tuple[Part, ...]
    feed: Feed | None = None
    simulated: bool = False
    dated: bool = False  # its file says when it was made, or ends

    @property
    def made_by_up(self) -> bool:
        """The first `ssmd up` makes it, for a simulated venue to know."""
        return self.simulated and all(p.reference.startswith("file:{data}/") for p in self.parts)

    @property
    def rotate_days(self) -> int | None:
        auth = None if self.feed is None or self.simulated else self.feed.at(date.today()).auth
        return None if auth is None else auth.rotate_days

    @property
    def method(self) -> str | None:
        """How it signs; None if nobody says so."""
        auth = None if self.feed is None else self.feed.at(date.today()).auth
        return None if auth is None else auth.method

    def refused(self, data: Path) -> tuple[str, str] | None:
        """Why the venue's grammar does not take it, or that it is too old; the problem and its remedy."""
        if self.feed is not None:
            loaded = KeyReference(id=self.parts[0].reference, secret=self.parts[1].reference).load(data)
            try:
                well_formed(self.feed.venue, *loaded)
            except Permanent as e:
                problem, _, remedy = str(e).partition(": ")
                return problem, remedy or "put the right one there with `ssmd key set`"
        ages = [age for age in (p.age_days(data) for p in self.parts if p.secret) if age is not None]
        if ages and self.rotate_days is not None and max(ages) > self.rotate_days:
            return f"is {max(ages)} days old", "make a new one at the venue, then `ssmd key rotate`"
        return None


def keys(environment: Environment, folder: Path) -> list[Key]:
    """All keys of an environment, in the order of its file."""
    return list(_found(environment, (), environment, folder))


def key(environment: Environment, name: str, folder: Path) -> Key:
    """One key, by its feed or field. Raises Permanent, naming those that there are."""
    known = keys(environment, folder)
    for k in known:
        if k.name == name:
            return k
    names = ", ".join(k.name for k in known) or "none"
    raise Permanent(
        f"environment {environment.name} has no key {name!r}: it has {names}; "
        f"`ssmd env add-key {environment.name} FEED --id … --secret …` names one"
    )


def well_formed(venue: str, key_id: str, secret: bytes) -> Any:
    """A venue's key. Raises Permanent if that is none, without showing it."""
    return config.application(f"exchanges.{venue}").venue.key(key_id, secret)


def _found(value: Any, loc: Loc, environment: Environment, folder: Path) -> Iterator[Key]:
    if isinstance(value, KeyReference):
        parts = Part((*loc, "id"), value.id, secret=False), Part((*loc, "secret"), value.secret)
        if len(loc) == 3 and loc[0] == "feeds" and isinstance(loc[1], int):
            plan = environment.feeds[loc[1]]
            feed = _feed(folder / "feeds" / f"{plan.feed}.yaml")
            dated = value.created is not None or value.expires is not None
            yield Key(environment.name, plan.feed, loc, parts, feed, plan.endpoint == config.SIMULATOR, dated)
        else:
            yield Key(environment.name, dotted(loc[:-1]), loc, parts)
    elif isinstance(value, BaseModel):
        for name, info in type(value).model_fields.items():
            yield from _found(getattr(value, name), (*loc, info.alias or name), environment, folder)
    elif isinstance(value, (list, tuple)):
        for i, one in enumerate(value):
            yield from _found(one, (*loc, i), environment, folder)
    elif isinstance(value, dict):
        for name, one in value.items():
            yield from _found(one, (*loc, str(name)), environment, folder)
    elif isinstance(value, str) and value.startswith(("env:", "file:")):
        yield Key(environment.name, dotted(loc), loc, (Part(loc, value),))


def _feed(path: Path) -> Feed | None:
    try:
        return read(Feed, path).value
    except OSError:
        return None
