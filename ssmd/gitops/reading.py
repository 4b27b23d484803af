"""A YAML file as content and positions, so that whatever is wrong with it can be pointed at."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from ssmd.gitops.findings import Finding, Loc, dotted, explained

_M = TypeVar("_M", bound=BaseModel)

BYTES_MAX = 1 << 20  # of a configuration file
_DEPTH_MAX = 50
_VALUES_MAX = 50_000


class _Loader(yaml.SafeLoader):
    """Leaves a date that does not exist as the text it is, for the model to refuse with its place."""


def _timestamp(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
    try:
        return yaml.SafeLoader.construct_yaml_timestamp(loader, node)
    except ValueError:
        return node.value


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _timestamp)


@dataclass
class Document(Generic[_M]):
    """A file as it was read: `value` is None where findings say why."""

    path: Path
    value: _M | None = None
    findings: list[Finding] = field(default_factory=list)
    positions: dict[Loc, tuple[int, int]] = field(default_factory=dict)

    def position(self, loc: Loc) -> tuple[int, int]:
        """Line and column of what stands at `loc`, or of the nearest thing around it."""
        while loc and loc not in self.positions:
            loc = loc[:-1]
        return self.positions.get(loc, (1, 1))

    def finding(self, loc: Loc, problem: str, remedy: str) -> Finding:
        return Finding(str(self.path), *self.position(loc), dotted(loc), problem, remedy)

    def refuse(self, loc: Loc, problem: str, remedy: str) -> None:
        self.findings.append(self.finding(loc, problem, remedy))


def read(model: type[_M], path: Path) -> Document[_M]:
    """Read a file. Raises OSError if that is impossible; everything else is a finding."""
    data = path.read_bytes()
    document: Document[_M] = Document(path)
    try:
        text = data.decode()
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        document.findings.append(Finding(str(path), line, 1, "", "is no UTF-8 text", "save it as UTF-8"))
        return document
    return parse(model, text, path)


def parse(model: type[_M], text: str, path: Path) -> Document[_M]:
    """What `text` says, as the content of `path`."""
    document: Document[_M] = Document(path)
    content = _content(text, document)
    if document.findings:
        return document
    if not isinstance(content, dict):
        document.refuse((), "has no fields", "write a line `name: value` for each; docs/configuration.md has them")
        return document
    try:
        value = model.model_validate(content)
    except ValidationError as e:
        for loc, problem, remedy in explained(e, model):
            document.refuse(loc, problem, remedy)
        document.findings.sort(key=lambda f: (f.line, f.column))
        return document
    named = getattr(value, "name", path.stem)
    if named != path.stem:
        document.refuse(("name",), f"is {named!r}", f"write the name of the file, {path.stem!r}, or rename the file")
        return document
    document.value = value
    return document


def _content(text: str, document: "Document[Any]") -> Any:
    if len(text) > BYTES_MAX:
        document.refuse((), f"is larger than {BYTES_MAX >> 20} MB", "name a configuration file")
        return None
    try:
        loader = _Loader(text)
    except yaml.YAMLError as e:  # a character that YAML does not allow
        said = getattr(e, "reason", str(e))
        document.refuse((), f"is not valid YAML ({said})", "save it as plain text")
        return None
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _walk(node, (), document, 0)
        return None if document.findings else loader.construct_document(node)
    except (yaml.YAMLError, ValueError, RecursionError) as e:
        mark = getattr(e, "problem_mark", None)
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        said = " ".join(str(getattr(e, "problem", None) or e).split())
        document.findings = [Finding(str(document.path), line, column, "", f"is not valid YAML ({said})", "mend it")]
        return None
    finally:
        loader.dispose()


def _walk(node: yaml.Node, loc: Loc, document: "Document[Any]", depth: int) -> None:
    """Note where everything stands; refuse keys given twice, of which YAML would silently take the last."""
    mark = node.start_mark
    document.positions.setdefault(loc, (mark.line + 1, mark.column + 1))
    if depth > _DEPTH_MAX or len(document.positions) > _VALUES_MAX:
        raise yaml.MarkedYAMLError(None, None, "nested too deeply, or too much of it", mark)
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                document.refuse(loc, "has a name that is no text", "write `name: value`")
                continue
            below = (*loc, key.value)
            document.positions[below] = (key.start_mark.line + 1, key.start_mark.column + 1)
            if key.value in seen:
                document.refuse(below, "is given twice", "keep one of them")
            seen.add(key.value)
            _walk(value, below, document, depth + 1)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            _walk(value, (*loc, i), document, depth + 1)
