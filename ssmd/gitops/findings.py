"""What is wrong with a configuration file: where, which field, and what to write instead."""

import difflib
import re
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

Loc = tuple[str | int, ...]

# Values of these fields are never repeated in a message: somebody may have put a secret there.
SECRET_FIELDS = {"key", "secret", "id", "api_key", "token", "password", "passphrase"}
_SHOWN_CHARACTERS_MAX = 40

_REMEDIES = {
    "int_type": "write a whole number",
    "int_parsing": "write a whole number",
    "int_from_float": "write a whole number",
    "float_type": "write a number",
    "float_parsing": "write a number",
    "bool_type": "write true or false",
    "bool_parsing": "write true or false",
    "string_type": "write a text (in quotes, if it looks like a number or a date)",
    "date_type": "write a date, YYYY-MM-DD",
    "date_parsing": "write a date, YYYY-MM-DD",
    "date_from_datetime_parsing": "write a date, YYYY-MM-DD",
    "date_from_datetime_inexact": "write a date without a time, YYYY-MM-DD",
    "time_parsing": "write a time in quotes, HH:MM",
    "time_type": "write a time in quotes, HH:MM",
    "list_type": "write a list: [a, b], or a line `- …` for each",
    "dict_type": "write fields: a line `name: value` for each",
    "model_type": "write fields: a line `name: value` for each",
    "too_short": "add at least one",
}
_PROBLEMS = {
    "missing": "is missing",
    "extra_forbidden": "is no field here",
    "int_type": "is no whole number",
    "int_parsing": "is no whole number",
    "int_from_float": "is no whole number",
    "float_type": "is no number",
    "float_parsing": "is no number",
    "bool_type": "is neither true nor false",
    "bool_parsing": "is neither true nor false",
    "string_type": "is no text",
    "date_type": "is no date",
    "date_parsing": "is no date",
    "date_from_datetime_parsing": "is no date",
    "date_from_datetime_inexact": "is a date with a time",
    "list_type": "is no list",
    "dict_type": "has no fields",
    "model_type": "has no fields",
    "too_short": "is empty",
}
# What the patterns of the models mean, in words.
_PATTERNS = (
    (r"^[a-z][a-z0-9-]*$", "write lower-case letters, digits and dashes, a letter first"),
    (r"^(env|file):.+", "write where the secret is, env:NAME or file:PATH, never the secret itself"),
    (r"^wss?://.+", "write an address that begins with wss:// or ws://"),
    (r"^https?://.+", "write an address that begins with https:// or http://"),
    (r"^[a-z][a-z0-9-]*@[1-9][0-9]*$", "write a schema and its version: events@1"),
    (r"^([01][0-9]|2[0-3]):[0-5][0-9]$", 'write a time of day in quotes, "HH:MM"'),
    (r"^[0-9a-f]{64}$", "write the file's SHA-256, 64 hexadecimal digits; `ssmd schema hash NAME` tells it"),
)


@dataclass(frozen=True)
class Finding:
    """One thing to mend. `line` and `column` count from 1; `field` is a dotted path, empty for the whole file."""

    file: str
    line: int
    column: int
    field: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.told}"

    @property
    def told(self) -> str:
        return f"{self.field + ':' if self.field else 'the file'} {self.problem}; {self.remedy}"

    @property
    def row(self) -> dict[str, Any]:
        return asdict(self)


def dotted(loc: Sequence[str | int]) -> str:
    return ".".join(str(part) for part in loc)


def explained(error: ValidationError, model: type[BaseModel]) -> Iterator[tuple[Loc, str, str]]:
    """For each thing that pydantic refuses: where, the problem, the remedy. No value of a secret's field is told."""
    for said in error.errors(include_url=False):
        loc, kind, context = said["loc"], said["type"], said.get("ctx", {})
        problem = _PROBLEMS.get(kind)
        remedy = _REMEDIES.get(kind)
        if kind == "missing":
            remedy = f"add `{loc[-1]}: …`{_meant_for(model, loc)}"
        elif kind == "extra_forbidden":
            remedy = _instead(model, loc)
        elif kind in {"literal_error", "enum"}:
            problem, remedy = "is none of the words known here", f"write {context['expected']}"
        elif kind == "string_pattern_mismatch":
            problem = "is not in the form that it must have"
            remedy = dict(_PATTERNS).get(context["pattern"], f"write what fits {context['pattern']}")
        elif kind in {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}:
            (bound,) = context.values()
            than = {"g": "more than", "l": "less than"}[kind[0]]
            problem = f"is too {'small' if kind[0] == 'g' else 'large'}"
            remedy = f"write {bound} or {than.partition(' ')[0]}" if kind.endswith("equal") else f"write {than} {bound}"
        elif kind == "value_error":
            problem, _, remedy = str(said["msg"]).removeprefix("Value error, ").partition(": ")
        if problem is None:
            message = str(said["msg"])
            problem = f"is not valid ({message[:1].lower()}{message[1:]})"
        if kind not in {"missing", "extra_forbidden", "value_error", "too_short"}:
            problem = _shown(loc, said.get("input")) + problem
        yield loc, problem, remedy or "see docs/configuration.md"


def _shown(loc: Loc, value: Any) -> str:
    """The value in the words of its message, if it is short and certainly no secret."""
    if SECRET_FIELDS & {str(part) for part in loc} or not isinstance(value, (str, int, float)):
        return ""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    text = re.sub(r"//[^/@]*@", "//…@", text)  # a password in an address
    shown = repr(text) if isinstance(value, str) else text
    return f"{shown} " if len(text) <= _SHOWN_CHARACTERS_MAX else ""


def _instead(model: type[BaseModel], loc: Loc) -> str:
    known = sorted(_names(model, loc[:-1]))
    close = difflib.get_close_matches(str(loc[-1]), known, 1)
    if close:
        return f"write `{close[0]}`, if that is meant"
    return f"remove it; known are {', '.join(known)}" if known else "remove it"


def _meant_for(model: type[BaseModel], loc: Loc) -> str:
    """The type that a missing field has, in a word or two."""
    at = model_at(model, loc[:-1])
    info = at.model_fields.get(str(loc[-1])) if at else None
    if info is None:
        return ""
    word = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}.get(info.annotation)  # type: ignore[arg-type]
    return f" ({word})" if word else ""


def _names(model: type[BaseModel], loc: Loc) -> set[str]:
    at = model_at(model, loc)
    return {info.alias or name for name, info in at.model_fields.items()} if at else set()


def model_at(model: type[BaseModel], loc: Loc) -> type[BaseModel] | None:
    """The model of what stands at `loc`."""
    at: type[BaseModel] | None = model
    for part in loc:
        if at is None:
            return None
        by_name = {info.alias or name: info for name, info in at.model_fields.items()}
        if isinstance(part, str) and part in by_name:
            at = model_in(by_name[part].annotation)
    return at


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The model in a type: in `list[M]`, `dict[str, M]`, `M | None`."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    return next((m for m in map(model_in, typing.get_args(annotation)) if m is not None), None)
