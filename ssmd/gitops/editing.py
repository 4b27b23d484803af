"""Changes to YAML files that leave everything else as it was: comments, order, quotes, line breaks."""

import copy
import io
import re
import subprocess
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError

from ssmd import durable
from ssmd.errors import Permanent
from ssmd.gitops import checks

_WIDTH = 4096  # never break a line that its author did not break
# What names an item of a list, so that a path can say `feeds.kalshi` and `versions.2026-03-12`.
IDENTITIES = ("feed", "effective_from", "version")


class Editor:
    """The text of a YAML file, changed by paths: `archiving.rotate_seconds`, `feeds.kalshi.endpoint`."""

    def __init__(self, path: Path, text: str | None = None) -> None:
        self.path = path
        try:
            text = path.read_text() if text is None else text
        except FileNotFoundError:
            known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml"))) or "none"
            kind = checks.SINGULAR[path.parent.name]
            raise Permanent(f"there is no {kind} {path.stem!r} in {path.parent}; there is: {known}") from None
        except (OSError, UnicodeDecodeError) as e:
            raise Permanent(f"cannot read {path}: {e}") from e
        self._yaml = _yaml(text)
        try:
            self.root: Any = self._yaml.load(text)
        except YAMLError as e:
            mark = getattr(e, "problem_mark", None)
            where = f"{path}:{mark.line + 1}" if mark else str(path)
            raise Permanent(f"{where}: is not valid YAML ({getattr(e, 'problem', e)}): mend it first") from e
        if not isinstance(self.root, CommentedMap):
            raise Permanent(f"{path}: has no fields: mend it first")
        self._original, self._unedited = text, self._dumped()

    def assign(self, assignment: str) -> None:
        """Do what `PATH=VALUE` says; the value is YAML."""
        path, equals, value = assignment.partition("=")
        if not equals or not path.strip():
            raise Permanent(f"--set {assignment}: is not PATH=VALUE, such as archiving.rotate_seconds=300")
        self.set(path.strip(), parsed(value, assignment))

    def set(self, path: str, value: Any) -> None:
        *around, last = path.split(".")
        at = self.root
        for i, part in enumerate(around):
            if isinstance(at, CommentedMap) and at.get(part) is None:
                at[part] = CommentedMap()
            at = self._below(at, part, ".".join(around[: i + 1]))
        if isinstance(at, CommentedMap):
            at[last] = value
        elif isinstance(at, CommentedSeq):
            at[self._index(at, last, path)] = value
        else:
            raise Permanent(f"{self.path}: {'.'.join(around)}: has no fields, so {last} cannot be set in it")

    def unset(self, path: str) -> None:
        *around, last = path.split(".")
        at = self.root
        for i, part in enumerate(around):
            at = self._below(at, part, ".".join(around[: i + 1]))
        if isinstance(at, CommentedSeq):
            del at[self._index(at, last, path)]
        elif isinstance(at, CommentedMap) and last in at:
            del at[last]
        else:
            raise Permanent(f"{self.path}: {path}: is not set, so it cannot be unset")

    def append(self, path: str, item: Any, place: int | None = None) -> None:
        """Put an item into a list (`place`: before that one)."""
        at = self.root
        for part in path.split("."):
            at = self._below(at, part, path)
        at.insert(len(at) if place is None else place, item)

    def copied(self, path: str, identity: str) -> Any:
        """A copy of an item of a list, with its comments but that of its identity."""
        at = self.root
        for part in path.split("."):
            at = self._below(at, part, path)
        copied = copy.deepcopy(at)
        copied.ca.items.pop(identity, None)
        copied.ca.comment = None
        return copied

    def _below(self, at: Any, part: str, path: str) -> Any:
        if isinstance(at, CommentedSeq):
            return at[self._index(at, part, path)]
        if isinstance(at, CommentedMap) and part in at:
            return at[part]
        raise Permanent(f"{self.path}: {path}: there is nothing there")

    def _index(self, at: CommentedSeq, part: str, path: str) -> int:
        for i, item in enumerate(at):
            if isinstance(item, dict) and any(str(item.get(name)) == part for name in IDENTITIES):
                return i
        if part.isdecimal() and int(part) < len(at):
            return int(part)
        known = [str(next((item[n] for n in IDENTITIES if n in item), i)) for i, item in enumerate(at)]
        raise Permanent(f"{self.path}: {path}: there is no {part!r}; there is: {', '.join(known) or 'nothing yet'}")

    @property
    def text(self) -> str:
        edited = self._dumped()
        if self._unedited == self._original:
            return edited
        return merged(self._original, self._unedited, edited)

    def _dumped(self) -> str:
        out = io.StringIO()
        self._yaml.dump(self.root, out)
        return out.getvalue()


def save(path: Path, text: str) -> None:
    """Write a configuration file, if it is valid. Raises Permanent with the first thing that is not."""
    found = checks.document(path, text).findings
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise Permanent(f"{path}: {found[0].told}{more}: nothing was written")
    durable.make_folder(path.parent)
    durable.replace(path, text.encode())


def merged(original: str, unedited: str, edited: str) -> str:
    """The edit in the author's own style, where ruamel.yaml has another: lists over several lines, wide gaps.

    As git merges; where the edit itself is in such a place, or there is no git, the other style stands.
    """
    with tempfile.TemporaryDirectory() as aside:
        files = [Path(aside) / name for name in ("edited", "unedited", "original")]
        for file, text in zip(files, (edited, unedited, original), strict=True):
            file.write_text(text)
        try:
            done = subprocess.run(
                ["git", "merge-file", "-p", "-q", *map(str, files)], capture_output=True, check=False, timeout=60
            )
        except FileNotFoundError:
            return edited
    return done.stdout.decode() if done.returncode == 0 else edited


def parsed(value: str, told: str) -> Any:
    """A value as it is typed: YAML, kept in its own style."""
    try:
        return YAML().load(value) if value.strip() else ""
    except YAMLError as e:
        said = " ".join(str(getattr(e, "problem", e)).split())
        raise Permanent(f"{told}: the value is not valid YAML ({said}); put quotes around a text") from e


def day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Permanent(f"{text!r} is no date: write YYYY-MM-DD") from None


def _yaml(text: str) -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = _WIDTH
    if re.search(r"^( *)[^\s#-][^\n]*:[ \t]*(#[^\n]*)?\n\1- ", text, re.MULTILINE):  # lists at their name's own column
        yaml.indent(mapping=2, sequence=2, offset=0)
    else:
        yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def quoted(text: str) -> str:
    """A text as a YAML value on one line."""
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9 _./:@{}-]*[A-Za-z0-9}]", text) and ": " not in text and not _reserved(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _reserved(text: str) -> bool:
    return text.lower() in {"yes", "no", "on", "off", "true", "false", "null", "y", "n"}


def listed(texts: Sequence[str]) -> str:
    return f"[{', '.join(quoted(t) if '{' not in t else chr(34) + t + chr(34) for t in texts)}]"
