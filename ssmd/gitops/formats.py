"""The formats of configuration files, as JSON Schema for editors and as a page for readers: made from the models.

The meaning of a field is the comment behind it in the model's source. `python -m ssmd.gitops.formats` writes all of it
into the tree again, and the line for editors into files that lack it.
"""

import ast
import inspect
import io
import json
import textwrap
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ssmd import config, durable
from ssmd.gitops import checks
from ssmd.gitops.findings import REFERENCE, model_in

BEGIN, END = "<!-- made from the models: begin -->", "<!-- made from the models: end -->"
_SCHEMA_URL = "https://json-schema.org/draft/2020-12/schema"


def modeline(kind: str) -> str:
    """What tells an editor (yaml-language-server) the format of a file."""
    return f"# yaml-language-server: $schema=../schemas/json/{kind}.json"


def headed(text: str, kind: str) -> str:
    """A file with the line for editors at its head."""
    return text if text.startswith(modeline(kind) + "\n") else f"{modeline(kind)}\n{text}"


def json_schemas() -> dict[str, str]:
    """File name and text of each kind's JSON Schema."""
    return {f"{checks.SINGULAR[kind]}.json": _json_schema(model) for kind, model in checks.MODELS.items()}


def _json_schema(model: type[BaseModel]) -> str:
    schema = model.model_json_schema()
    parts = schema.get("$defs", {})
    for one in _models(model):
        part = schema if one is model else parts[one.__name__]
        part["description"] = prose(one)
        for name, meaning in _meanings(one).items():
            alias = one.model_fields[name].alias or name
            part["properties"][alias]["description"] = meaning
    return json.dumps({"$schema": _SCHEMA_URL} | schema, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def reference() -> str:
    """The page's made part: a table for each model."""
    out = []
    for kind, model in checks.MODELS.items():
        out.append(f"## {checks.SINGULAR[kind].capitalize()}: `{kind}/NAME.yaml`\n")
        for one in _models(model):
            if one is not model:
                out.append(f"### {one.__name__}\n")
            out += [f"{prose(one)}\n"] if prose(one) else []
            out.append("| field | type | default | meaning |\n|---|---|---|---|")
            comments = _meanings(one)
            for name, info in one.model_fields.items():
                cells = (
                    f"`{info.alias or name}`",
                    _type(one, name),
                    "required" if info.is_required() else _default(info.get_default(call_default_factory=True)),
                    comments.get(name) or _first_sentence(info.annotation),
                )
                out.append("| " + " | ".join(c.replace("|", "\\|").replace("\n", " ") for c in cells) + " |")
            out.append("")
    return "\n".join(out)


def page(text: str) -> str:
    """A page with its made part made again."""
    return filled(text, reference())


def filled(text: str, made: str) -> str:
    """A page with what is between its two marks replaced."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{made}\n{END}{after}"


def _models(model: type[BaseModel]) -> list[type[BaseModel]]:
    """A model and those within it, each once, in the order of their fields."""
    found: list[type[BaseModel]] = []
    todo = [model]
    while todo:
        one = todo.pop(0)
        if one not in found:
            found.append(one)
            within = (model_in(info.annotation) for info in one.model_fields.values())
            todo = [m for m in within if m is not None] + todo
    return found


def prose(model: type) -> str:
    """The docstring of a class, on one line."""
    return " ".join(inspect.cleandoc(model.__doc__ or "").split())


def _first_sentence(annotation: Any) -> str:
    """What a part without a comment is for, in the words of its own model."""
    part = model_in(annotation)
    first = prose(part).partition(". ")[0].rstrip(".") if part else ""
    return first[:1].lower() + first[1:]


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    return {name: meaning for name, meaning in meanings(model).items() if name in model.model_fields}


def meanings(model: type) -> dict[str, str]:
    """The comment behind each field in the source of a class."""
    source = textwrap.dedent(inspect.getsource(model))
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    (klass,) = ast.parse(source).body
    assert isinstance(klass, ast.ClassDef), "the source of a model is a class"
    found = {}
    for statement in klass.body:
        if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)):
            continue
        line = statement.end_lineno or statement.lineno
        if line in comments:
            found[statement.target.id] = comments[line]
    return {name: meaning for name, meaning in found.items() if _is_prose(meaning)}


def _is_prose(comment: str) -> bool:
    return not comment.startswith(("noqa", "type:", "fmt:"))


def _type(model: type[BaseModel], name: str) -> str:
    info = model.model_fields[name]
    schema = model.model_json_schema()
    return shape(schema["properties"][info.alias or name])


def shape(part: dict[str, Any]) -> str:
    """A part of a JSON Schema in words."""
    if "$ref" in part:
        return str(part["$ref"]).rpartition("/")[2]
    if "anyOf" in part:
        return " or ".join(word for word in map(shape, part["anyOf"]) if word != "nothing")
    if "enum" in part:
        return ", ".join(f"`{word}`" for word in part["enum"])
    if "const" in part:
        return f"`{part['const']}`"
    if "prefixItems" in part:
        return f"[{', '.join(map(shape, part['prefixItems']))}]"
    if part.get("type") == "array":
        return f"list of {shape(part['items'])}"
    if part.get("type") == "object" and isinstance(part.get("additionalProperties"), dict):
        return f"name: {shape(part['additionalProperties'])}"
    if part.get("pattern") == REFERENCE:
        return "reference"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
    if part.get("format") == "date":
        return "date"
    word = words.get(part.get("type", ""), "nothing" if part.get("type") == "null" else "anything")
    return " ".join([word, *_bounds(part)])


def _bounds(part: dict[str, Any]) -> Iterator[str]:
    if "minimum" in part:
        yield f"from {part['minimum']}"
    if "exclusiveMinimum" in part:
        yield f"above {part['exclusiveMinimum']}"
    if "maximum" in part:
        yield f"to {part['maximum']}"


def _default(value: Any) -> str:
    if value is None or value == "":
        return "none"
    if isinstance(value, (list, dict)) and not value:
        return "none"
    if isinstance(value, BaseModel):
        return "all defaults"
    return f"`{json.dumps(value) if isinstance(value, (bool, list)) else value}`"


def write(tree: Path) -> list[Path]:
    """Make again whatever is made from the models; the files that changed."""
    folder = tree / "exchanges" / "schemas" / "json"
    texts = {folder / name: text for name, text in json_schemas().items()}
    docs = tree / "docs" / "configuration.md"
    texts[docs] = page(docs.read_text())
    for kind, one in checks.SINGULAR.items():
        for path in sorted((tree / "exchanges" / kind).glob("*.yaml")):
            texts[path] = headed(path.read_text(), one)
    changed = [path for path, text in texts.items() if not path.exists() or path.read_text() != text]
    for path in changed:
        durable.make_folder(path.parent)
        durable.replace(path, texts[path].encode())
    return changed


if __name__ == "__main__":
    for written in write(config.application_folder()):
        print(written)  # noqa: T201
