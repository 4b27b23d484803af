"""A whole configuration folder, looked at file by file and across files."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
from pydantic import BaseModel

from ssmd import config, schedules
from ssmd.config import Environment, Feed
from ssmd.errors import Permanent
from ssmd.gitops import layout, references, schemas
from ssmd.gitops.findings import Finding
from ssmd.gitops.reading import Document, parse, read
from ssmd.gitops.schemas import Schema

MODELS: dict[str, type[BaseModel]] = {"feeds": Feed, "environments": Environment, "schemas": Schema}
SINGULAR = {"feeds": "feed", "environments": "environment", "schemas": "schema"}


@dataclass
class Checked:
    """What was looked at. Counts are of files."""

    findings: list[Finding] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


def check(folder: Path, paths: Sequence[Path] = (), *, keys: bool = False, data: Path = Path("data")) -> Checked:
    """Every file of a configuration folder, or the named files and folders in one. Raises Permanent if there is none.

    `keys`: also whether each key is there, readable by its owner alone, and such as the venue makes them.
    """
    chosen = [p for path in paths for p in _files_of(path)] or list(_files(folder))
    done = Checked()
    for path in chosen:
        kind = path.parent.name
        done.counts[kind] = done.counts.get(kind, 0) + 1
        done.findings += document(path, keys=keys, data=data).findings
    return done


def document(path: Path, text: str | None = None, *, keys: bool = False, data: Path = Path("data")) -> Document[Any]:
    """One file of a configuration folder with all its findings; `text` is looked at instead of what it holds."""
    kind = path.parent.name
    model = MODELS[kind]
    try:
        found: Document[Any] = read(model, path) if text is None else parse(model, text, path)
    except OSError as e:
        return Document(path, findings=[Finding(str(path), 1, 1, "", f"cannot be read ({e.strerror})", "mend that")])
    if path.suffix != ".yaml":
        found.findings.insert(0, Finding(str(path), 1, 1, "", "would not be found", f"rename it to {path.stem}.yaml"))
    elif isinstance(found.value, Feed):
        _feed(found)
    elif isinstance(found.value, Schema):
        schemas.check(found)
    elif isinstance(found.value, Environment):
        _environment(found, path.parent.parent)
        if keys and not found.findings:
            _keys(found, path.parent.parent, data)
    return found


def _files(folder: Path) -> Iterable[Path]:
    if not any((folder / kind).is_dir() for kind in MODELS):
        raise Permanent(
            f"{folder} holds no configuration (no feeds/, environments/ or schemas/): `ssmd init` makes one"
        )
    for kind in MODELS:
        yield from sorted(p for p in (folder / kind).glob("*.y*ml") if p.suffix in {".yaml", ".yml"})


def _files_of(path: Path) -> list[Path]:
    path = path.absolute()  # not resolved: feeds/ may be a link to another folder's
    if path.is_dir():
        if path.name in MODELS and not any((path / kind).is_dir() for kind in MODELS):
            return sorted(path.glob("*.yaml")) + sorted(path.glob("*.yml"))
        return list(_files(path))
    if not path.exists():
        raise Permanent(f"{path} does not exist: name a configuration file or folder")
    if path.parent.name not in MODELS:
        raise Permanent(f"{path} is in none of the folders feeds/, environments/ and schemas/: name a file in one")
    return [path]


# --------------------------------------------------------------------------------------------------- across files


def _feed(found: Document[Feed]) -> None:
    feed = found.value
    assert feed is not None
    venues = venue_folders()
    if feed.venue not in venues:
        found.refuse(("venue",), f"there is no venue {feed.venue!r}", f"write one of {', '.join(venues)}")
    for i, version in enumerate(feed.versions):
        if not version.endpoints:
            found.refuse(("versions", i, "endpoints"), "has no endpoint", "add one: `production: {ws: …, rest: …}`")
        if config.SIMULATOR in version.endpoints:
            found.refuse(
                ("versions", i, "endpoints", config.SIMULATOR), "is the name of the simulated venue", "choose another"
            )
        if not version.channels:
            found.refuse(("versions", i, "channels"), "is empty", "name what is to be subscribed to")
        for j, channel in enumerate(version.channels):
            if channel in version.channels[:j]:
                found.refuse(("versions", i, "channels", j), f"{channel} is named twice", "keep one of them")


def venue_folders() -> list[str]:
    """The venues that this software speaks with: folders of exchanges/ that have a grammar."""
    folder = config.application_folder() / "exchanges"
    return sorted(p.parent.name for p in folder.glob("*/__init__.py"))


def _environment(found: Document[Environment], folder: Path) -> None:
    environment = found.value
    assert environment is not None
    for i, plan in enumerate(environment.feeds):
        _plan(found, i, plan, folder)
    if environment.schedules:
        try:
            schedules.planned(environment, config.application("workflows.runner").inputs())
        except Permanent as e:
            told = str(e).partition(": ")[2]  # it names the file and its line, as it finds them itself
            at, _, why = told.partition(": ")
            problem, _, remedy = why.partition(": ")
            found.refuse(tuple(at.split(".")), problem, remedy or "see docs/schedules.md")
    if "schema_" in environment.model_fields_set:
        _promise(found, environment.schema_, folder)


def _plan(found: Document[Environment], i: int, plan: config.EnvironmentFeed, folder: Path) -> None:
    """A feed of an environment fits the feed's own file."""
    path = folder / "feeds" / f"{plan.feed}.yaml"
    try:
        feed = read(Feed, path).value
    except OSError:
        known = ", ".join(sorted(p.stem for p in (folder / "feeds").glob("*.yaml"))) or "none"
        found.refuse(
            ("feeds", i, "feed"), f"there is no feed {plan.feed!r}", f"write one of {known}, or `ssmd feed create` it"
        )
        return
    if feed is None:
        return  # told where it stands
    version = feed.at(date.today())
    if plan.endpoint != config.SIMULATOR and plan.endpoint not in version.endpoints:
        known = ", ".join([*version.endpoints, config.SIMULATOR])
        found.refuse(
            ("feeds", i, "endpoint"), f"feed {plan.feed} has no endpoint {plan.endpoint!r}", f"write one of {known}"
        )
    if version.signed and plan.key is None:
        found.refuse(
            ("feeds", i),
            f"feed {plan.feed} needs a key",
            f"name it with `ssmd env add-key {found.path.stem} {plan.feed} --id … --secret …`",
        )


def _promise(found: Document[Environment], named: str, folder: Path) -> None:
    """Subscribers who read by the schema that the environment names understand what this software writes."""
    name, _, number = named.partition("@")
    path = folder / "schemas" / f"{name}.yaml"
    try:
        schema = read(Schema, path).value
    except OSError:
        known = ", ".join(sorted(p.stem for p in (folder / "schemas").glob("*.yaml"))) or "none"
        found.refuse(("schema",), f"there is no schema {name!r}", f"write one of {known}, or `ssmd schema register` it")
        return
    if schema is None:
        return  # told where it stands
    version = next((v for v in schema.versions if v.version == int(number)), None)
    if version is None or version.status == "draft":
        known = ", ".join(f"{name}@{v.version}" for v in schema.versions if v.status != "draft") or "none yet"
        problem = "does not exist" if version is None else "is a draft"
        found.refuse(("schema",), f"{named} {problem}", f"write a version that is promised: {known}")
        return
    file = path.parent / version.file
    own = config.application_folder() / "exchanges" / "schemas" / "events.capnp"
    try:
        if schemas.sha256(file) == schemas.sha256(own) or schemas.sha256(file) != version.sha256:
            return  # the same, or told where the schema stands
        broken = next(layout.breaking(layout.layout(file), layout.layout(own)), None)
    except Permanent:
        return  # told where the schema stands
    if broken is not None:
        found.refuse(
            ("schema",),
            f"readers of {named} would not understand what this software writes: {broken}",
            "name a schema that fits it",
        )


# ----------------------------------------------------------------------------------------------------------- keys


def _keys(found: Document[Environment], folder: Path, data: Path) -> None:
    environment = found.value
    assert environment is not None
    for key in references.keys(environment, folder):
        if key.made_by_up and not any(part.present(data) for part in key.parts):
            continue  # made by the first `ssmd up`
        for part in key.parts:
            wrong = part.wrong(data)
            if wrong is not None:
                found.refuse(part.loc, *wrong)
                break
        else:
            refused = key.refused(data)
            if refused is not None:
                found.refuse(key.loc, *refused)


def rows(done: Checked) -> bytes:
    """For other programs: one JSON object."""
    return msgspec.json.encode({"files": done.counts, "findings": [f.row for f in done.findings]})
