"""Message schemas as they are configured: a file for each version, pinned by its hash."""

import hashlib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ssmd.errors import Permanent
from ssmd.gitops import layout
from ssmd.gitops.reading import Document

Status = Literal["draft", "active", "deprecated"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class SchemaVersion(BaseModel):
    """One version: its file never changes once it is active."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = Field(ge=1)  # counted from 1
    file: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.capnp$")  # beside this one
    sha256: Sha256  # of the file
    status: Status = "draft"  # draft: not promised to anybody; deprecated: still read, no longer chosen


class Schema(BaseModel):
    """Messages that others read, in Cap'n Proto."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$")  # of the file as well
    title: str  # for readers
    compatibility: Literal["full", "none"] = "full"  # full: each version reads the messages of every other
    versions: list[SchemaVersion] = Field(min_length=1)  # upwards; at most one is active

    @model_validator(mode="after")
    def _in_order(self) -> "Schema":
        numbers = [v.version for v in self.versions]
        if numbers != sorted(set(numbers)):
            raise ValueError(f"versions are {numbers}: number them upwards, each once")
        files = [v.file for v in self.versions]
        if len(set(files)) < len(files):
            raise ValueError("two versions share a file: give each a file of its own")
        active = [v.version for v in self.versions if v.status == "active"]
        if len(active) > 1:
            raise ValueError(
                f"versions {' and '.join(map(str, active))} are active: keep the newest, make the others deprecated"
            )
        return self

    def version(self, number: int) -> SchemaVersion:
        for v in self.versions:
            if v.version == number:
                return v
        known = ", ".join(str(v.version) for v in self.versions)
        raise Permanent(f"schema {self.name} has no version {number}: it has {known}")


def sha256(path: Path) -> str:
    """The hash of a schema file. Raises Permanent if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as e:
        raise Permanent(f"cannot read {path} ({e.strerror}): name a Cap'n Proto schema file") from e


def check(document: Document[Schema]) -> None:
    """Files are there, are what was pinned, can be compiled, and break nothing that was promised before."""
    schema = document.value
    assert schema is not None, "only what could be read is checked further"
    before: tuple[int, layout.Layout] | None = None
    for i, v in enumerate(schema.versions):
        path = document.path.parent / v.file
        at = ("versions", i)
        if not path.is_file():
            document.refuse((*at, "file"), f"{v.file} does not exist", "restore it, or name the file that is meant")
            continue
        now = sha256(path)
        if now != v.sha256:
            document.refuse((*at, "sha256"), f"is not that of {v.file}, which has changed", _mend(v))
            continue
        try:
            compiled = layout.layout(path)
        except layout.Faulty as e:
            found = document.finding((*at, "file"), f"is no Cap'n Proto schema ({e.problem})", f"mend line {e.line}")
            document.findings.append(found)
            continue
        if v.status == "draft":
            continue
        if before is not None and schema.compatibility == "full":
            for broken in layout.breaking(before[1], compiled):
                document.refuse(
                    (*at, "file"),
                    f"version {v.version} breaks version {before[0]}: {broken}",
                    "add a new field with the next number and leave the old one as it is",
                )
        before = v.version, compiled


def _mend(version: SchemaVersion) -> str:
    if version.status == "draft":
        return "pin it with `ssmd schema hash NAME --pin`"
    return "restore the file (git checkout), and register the change with `ssmd schema add-version`"
