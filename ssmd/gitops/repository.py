"""Configuration in git: what has changed, in the words of the models, and commits of it alone."""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssmd.errors import Permanent
from ssmd.gitops import checks, layout, leaks
from ssmd.gitops.editing import IDENTITIES
from ssmd.gitops.findings import SECRET_FIELDS, Finding
from ssmd.gitops.reading import parse
from ssmd.gitops.schemas import Schema

TIMEOUT_SECONDS = 60
OURS = (*checks.MODELS, ".gitignore", "README.md")  # what a commit of the configuration may hold
_PLAIN_MAX = 100  # characters of a value that is shown


@dataclass(frozen=True)
class Change:
    """`field` empty: the whole file. None: was not, or is no longer, there. `breaks`: others cannot read on."""

    file: str
    field: str
    old: str | None
    new: str | None
    breaks: bool = False

    def __str__(self) -> str:
        what = f"{self.field}: " if self.field else ""
        if self.breaks:
            return f"! {what}{self.new}"
        if self.old is None:
            return f"+ {what}{self.new}"
        if self.new is None:
            return f"- {what}{self.old}"
        return f"~ {what}{self.old} -> {self.new}"


class Repository:
    """The git work tree that a configuration folder is in. Raises Permanent if it is in none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        if not self.folder.is_dir():
            raise Permanent(f"{folder} is no folder: name a configuration folder")
        try:
            self.prefix = self.git("rev-parse", "--show-prefix").rstrip("\n")
        except Permanent as e:
            if "not a git repository" not in str(e):
                raise
            raise Permanent(f"{folder} is in no git repository: run `git init` there, or `ssmd init`") from None

    def git(self, *arguments: str, index: Path | None = None) -> str:
        """What git says. Raises Permanent with its complaint."""
        return self._git(*arguments, index=index).decode(errors="surrogateescape")

    def _git(self, *arguments: str, index: Path | None = None) -> bytes:
        known = os.environ | ({"GIT_INDEX_FILE": str(index)} if index else {})
        try:
            ended = subprocess.run(
                ["git", "-C", str(self.folder), *arguments],
                capture_output=True,
                check=False,
                timeout=TIMEOUT_SECONDS,
                env=known,
                stdin=subprocess.DEVNULL,
            )
        except FileNotFoundError:
            raise Permanent("git is not installed: install it, for configuration is kept in git") from None
        except subprocess.TimeoutExpired:
            raise Permanent(f"git {arguments[0]} did not end in {TIMEOUT_SECONDS} s: see what holds it") from None
        if ended.returncode:
            said = " ".join(ended.stderr.decode(errors="replace").split()) or ended.stdout.decode(errors="replace")
            raise Permanent(f"git {arguments[0]}: {' '.join(said.split()) or 'failed'}")
        return ended.stdout

    def known(self, ref: str) -> bool:
        with contextlib.suppress(Permanent):
            self.git("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
            return True
        return False

    def before(self, ref: str) -> dict[str, bytes]:
        """The files at `ref`, by their path in the folder; none, if nothing has been committed yet."""
        if not self.known(ref):
            if ref == "HEAD":
                return {}
            raise Permanent(f"git knows no {ref!r}: name a commit, a branch or a tag")
        names = self.git("ls-tree", "-r", "-z", "--name-only", ref, "--", *checks.MODELS).split("\0")
        return {n: self._git("cat-file", "blob", f"{ref}:{self.prefix}{n}") for n in names if n and _configures(n)}

    def now(self) -> dict[str, bytes]:
        """The files that are there, by their path in the folder."""
        files = [p for kind in checks.MODELS for p in sorted((self.folder / kind).rglob("*")) if p.is_file()]
        names = {str(p.relative_to(self.folder)): p for p in files}
        return {n: p.read_bytes() for n, p in names.items() if _configures(n)}

    def commit(self, message: str) -> tuple[str, list[str]]:
        """Commit what has changed in the configuration, and nothing else that is staged.

        The commit's short name and the files in it, none if nothing had changed. Raises Permanent, and leaves
        everything as it was, if a file seems to hold a secret or git refuses.
        """
        if not message.strip():
            raise Permanent("-m: is empty: say why the configuration changes")
        with tempfile.TemporaryDirectory() as aside:
            index = Path(aside) / "index"
            if self.known("HEAD"):
                self.git("read-tree", "HEAD", index=index)
            there = [name for name in OURS if (self.folder / name).exists() or self._tracks(name)]
            self.git("add", "--all", "--", *there, index=index)
            changed = self._staged(index)
            if not changed:
                return "", []
            for name in changed:
                self._refuse_secrets(name, index)
            self.git("commit", "--quiet", "-m", message, index=index)
        self.git("reset", "--quiet", "--", *there)
        return self.git("rev-parse", "--short", "HEAD").strip(), changed

    def _tracks(self, name: str) -> bool:
        return bool(self.git("ls-files", "--", name).strip())

    def _staged(self, index: Path) -> list[str]:
        """Paths in the folder that differ from the last commit."""
        if self.known("HEAD"):
            told = self.git("diff", "--cached", "--no-renames", "--name-only", "-z", "--relative", "HEAD", index=index)
        else:
            told = self.git("ls-files", "-z", index=index)
        return [name for name in told.split("\0") if name]

    def _refuse_secrets(self, name: str, index: Path) -> None:
        if not self.git("ls-files", "--", name, index=index).strip():
            return  # removed
        data = self._git("cat-file", "blob", f":{self.prefix}{name}", index=index)
        for line, what in leaks.found(name, data):
            raise Permanent(
                f"{self.folder / name}:{line}: seems to hold {what}: nothing was committed; "
                f"keep it outside and write env:NAME or file:PATH here"
            )


def ignored(path: Path) -> bool:
    """Whether a file is safe from git: in no work tree, or ignored there."""
    folder = path.absolute().parent
    while not folder.is_dir():
        folder = folder.parent
    command = ["git", "-C", str(folder), "check-ignore", "--quiet", "--no-index", str(path.absolute())]
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=TIMEOUT_SECONDS).returncode != 1
    except FileNotFoundError:
        return True


def changes(repository: Repository, ref: str) -> list[Change]:
    """What differs between `ref` and the files that are there."""
    old, new = repository.before(ref), repository.now()
    found: list[Change] = []
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            found.append(Change(name, "", "the whole file", None))
        elif name not in old:
            found.append(Change(name, "", None, "the whole file"))
        elif old[name] != new[name]:
            compare = _of_schema if name.endswith(".capnp") else _of_fields
            found += compare(name, old[name], new[name]) or [Change(name, "", "comments or style", "others")]
    return found


def broken_promises(repository: Repository, ref: str = "HEAD") -> list[Finding]:
    """Versions of schemas that were promised at `ref`, and are now gone, drafts again, or unreadable for others."""
    found = []
    old, new = repository.before(ref), repository.now()
    for name, data in old.items():
        path = repository.folder / name
        if path.parent.name != "schemas" or path.suffix != ".yaml":
            continue
        was = parse(Schema, data.decode(errors="replace"), path).value
        now = parse(Schema, new.get(name, b"").decode(errors="replace"), path)
        for v in () if was is None else was.versions:
            if v.status == "draft":
                continue
            kept = None if now.value is None else next((k for k in now.value.versions if k.version == v.version), None)
            if kept is None or kept.status == "draft":
                problem = f"version {v.version} was {v.status} and is {'gone' if kept is None else 'a draft'}"
                found.append(now.finding(("versions",), problem, "make it deprecated: others may still read it"))
            elif kept.sha256 != v.sha256 and was is not None and was.compatibility == "full":
                file = Path(name).parent / v.file
                loc = ("versions", now.value.versions.index(kept), "file") if now.value else ()
                for broken in _breaks(old.get(str(file), b""), path.parent / kept.file):
                    found.append(
                        now.finding(
                            loc,
                            f"version {v.version} is {v.status}, and this change breaks its readers: {broken}",
                            "add a new field with the next number and leave the old one as it is",
                        )
                    )
    return found


def _breaks(old: bytes, new: Path) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as aside:
        before = Path(aside) / new.name
        before.write_bytes(old)
        try:
            yield from layout.breaking(layout.layout(before), layout.layout(new))
        except layout.Faulty as e:
            yield str(e)


def _configures(name: str) -> bool:
    return name.endswith((".yaml", ".yml", ".capnp"))


def _of_schema(name: str, old: bytes, new: bytes) -> list[Change]:
    with tempfile.TemporaryDirectory() as aside:
        files = [Path(aside) / side / Path(name).name for side in ("old", "new")]
        for file, data in zip(files, (old, new), strict=True):
            file.parent.mkdir()
            file.write_bytes(data)
        try:
            before, after = map(layout.layout, files)
        except layout.Faulty as e:
            return [Change(name, "", None, f"is no Cap'n Proto schema ({e.problem})", breaks=True)]
    found = [Change(name, "", None, broken, breaks=True) for broken in layout.breaking(before, after)]
    return found + [Change(name, "", None, more) for more in layout.added(before, after)]


def _of_fields(name: str, old: bytes, new: bytes) -> list[Change]:
    before, after = (dict(_flat(_content(data), ())) for data in (old, new))
    return [
        Change(name, field, before.get(field), after.get(field))
        for field in dict.fromkeys([*before, *after])
        if before.get(field) != after.get(field)
    ]


def _content(data: bytes) -> Any:
    import yaml  # noqa: PLC0415

    try:
        return yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, UnicodeDecodeError):
        return "(not valid YAML)"


def _flat(value: Any, at: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Every field with its value, items of lists by what names them."""
    if isinstance(value, dict) and value:
        for name, below in value.items():
            yield from _flat(below, (*at, str(name)))
    elif isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        for i, item in enumerate(value):
            named = next((item[n] for n in IDENTITIES if n in item), i) if isinstance(item, dict) else i
            yield from _flat(item, (*at, str(named)))
    else:
        text = f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)
        if SECRET_FIELDS & set(at) and not text.startswith(("env:", "file:")):
            text = "(not shown: no reference)"
        yield ".".join(at), text if len(text) <= _PLAIN_MAX else f"{text[:_PLAIN_MAX]}…"
