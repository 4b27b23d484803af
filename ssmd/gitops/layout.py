"""What a Cap'n Proto schema lays out, and what a change of it breaks.

A reader made from one version must understand messages of another: so numbers and types never change, and nothing that
has been published goes away. Names do not travel, but readers in dynamic languages find fields by them.

The compiler ends the process when a schema is faulty, so it runs in one of its own: `python -m ssmd.gitops.layout FILE`
prints the layout as JSON.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from ssmd.errors import Permanent

TIMEOUT_SECONDS = 60
_IMPORT = re.compile(r'^[^#]*\bimport\s+"([^"]*)"', re.MULTILINE)


class Field(msgspec.Struct, frozen=True):
    """A field or an enumerant. `name` includes groups and unions: `tsEvent.ns`. `place` is where its bits are."""

    name: str
    number: int
    type: str
    place: str


class Kind(msgspec.Struct, frozen=True):
    """A struct or an enum, by its name in the file (`Trade.Side`)."""

    what: str
    fields: list[Field]


Layout = dict[str, Kind]


class Faulty(Permanent):
    """A file that is no schema; `line` counts from 1."""

    def __init__(self, path: Path, line: int, problem: str) -> None:
        super().__init__(f"{path}:{line}: is no Cap'n Proto schema ({problem}): mend it")
        self.line = line
        self.problem = problem


def layout(path: Path) -> Layout:
    """What a schema file lays out. Raises Faulty with the line that the compiler names."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as e:
        raise Faulty(path, 1, f"it cannot be read: {e}") from e
    imported = _IMPORT.search(text)
    if imported is not None:
        line = text.count("\n", 0, imported.start(1)) + 1
        raise Faulty(path, line, f"it imports {imported[1]}, but its hash covers this file alone: write it in here")
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "ssmd.gitops.layout", str(path.absolute())],
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise Faulty(path, 1, f"the compiler did not end in {TIMEOUT_SECONDS} s") from None
    if ended.returncode:
        raise Faulty(path, *_complaint(ended.stderr, path.name))
    return msgspec.json.decode(ended.stdout, type=Layout)


def _complaint(said: str, name: str) -> tuple[int, str]:
    """The line, and what is wrong with it, in the compiler's words."""
    found = re.search(rf"{re.escape(name)}:(\d+)(?:[:\d-]*): (?:failed: |error: )*(.+)", said)
    if found is None:
        return 1, next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "no reason was given")
    return int(found[1]) + 1, found[2].strip().rstrip(".")  # it counts lines from 0


def breaking(old: Layout, new: Layout) -> Iterator[str]:
    """What readers of `old` would not understand of `new`, or the other way round; a sentence each."""
    for name, kind in old.items():
        now = new.get(name)
        if now is None:
            yield f"{kind.what} {name} is gone"
        elif now.what != kind.what:
            yield f"{name} was {_a(kind.what)} and is {_a(now.what)}"
        else:
            fields = {f.number: f for f in now.fields}
            for field in kind.fields:
                broken = _broken(field, fields.get(field.number))
                if broken:
                    yield f"{name}.{field.name} @{field.number} {broken}"


def added(old: Layout, new: Layout) -> Iterator[str]:
    """What `new` has beyond `old`."""
    for name, kind in new.items():
        before = {f.number for f in old[name].fields} if name in old else set()
        for field in kind.fields:
            if field.number not in before:
                yield f"{name}.{field.name} @{field.number}: {field.type}"


def _a(what: str) -> str:
    return f"an {what}" if what == "enum" else f"a {what}"


def _broken(old: Field, new: Field | None) -> str | None:
    if new is None:
        return "is gone: published numbers stay"
    if new.type != old.type:
        return f"was {old.type} and is {new.type}"
    if new.name != old.name:
        return f"is now called {new.name}: readers find it by its name"
    if new.place != old.place:
        return "has moved within the message"
    return None


# ------------------------------------------------------------------------------------------ in a process of its own


def _compiled(path: str) -> Layout:
    import capnp  # noqa: PLC0415 - the parent does not need it

    root = capnp.SchemaParser().load(path)
    found: Layout = {}
    names: dict[int, str] = {}
    todo = [(nested.name, getattr(root, nested.name)) for nested in root.schema.node.nestedNodes]
    every = []
    while todo:
        name, module = todo.pop(0)
        if not hasattr(module, "schema"):  # a constant
            continue
        node = module.schema.node
        names[node.id] = name
        every.append((name, module.schema))
        todo += [(f"{name}.{nested.name}", getattr(module, nested.name)) for nested in node.nestedNodes]
    for name, schema in every:
        what = str(schema.node.which())
        if what == "struct":
            found[name] = Kind(what, sorted(_fields(schema, "", names), key=lambda f: f.number))
        elif what == "enum":
            found[name] = Kind(what, [Field(n, i, "enumerant", "") for n, i in schema.enumerants.items()])
    return found


def _fields(schema: Any, before: str, names: dict[int, str]) -> Iterator[Field]:
    for proto in schema.node.struct.fields:
        if proto.which() == "group":
            yield from _fields(schema.fields[proto.name].schema, f"{before}{proto.name}.", names)
            continue
        tag = "" if proto.discriminantValue == 0xFFFF else f", member {proto.discriminantValue}"
        default = _default(proto.slot)
        kind = _type(proto.slot.type, names) + (f" = {default}" if default else "")
        yield Field(f"{before}{proto.name}", proto.ordinal.explicit, kind, f"{proto.slot.offset}{tag}")


def _type(type_: Any, names: dict[int, str]) -> str:
    form = str(type_.which())
    if form == "list":
        return f"List({_type(type_.list.elementType, names)})"
    if form in {"struct", "enum", "interface"}:
        number = getattr(type_, form).typeId
        return names.get(number, f"{number:#x}")
    return f"UI{form[2:]}" if form.startswith("uint") else form[:1].upper() + form[1:]  # as a schema spells it


def _default(slot: Any) -> str:
    """A default is part of the layout: what is sent is the difference from it."""
    if not slot.hadExplicitDefault:
        return ""
    form = str(slot.defaultValue.which())
    try:
        return str(getattr(slot.defaultValue, form))
    except Exception:  # a struct or list of a type that only the schema knows
        return "a value of its own"


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(_compiled(sys.argv[1])))
