"""What Tab offers in `ssmd shell`: dot commands, views and their columns, functions and macros, keywords."""

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from ssmd.cli.shell import COMMANDS, MODES

if TYPE_CHECKING:
    import duckdb

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*$")
_AFTER_TABLES = re.compile(r"\b(?:from|join|describe|into|table|summarize)\s+\w*$", re.IGNORECASE)
_NAMES = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class _Word(NamedTuple):
    text: str
    what: str


class Words(Completer):
    """Asks the connection itself, so that tables and macros made in the session are offered, too."""

    def __init__(self, connection: "duckdb.DuckDBPyConnection") -> None:
        self._connection = connection
        self._keywords = [
            _Word(word, "keyword") for (word,) in self._all("SELECT keyword_name FROM duckdb_keywords() ORDER BY 1")
        ]

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        before = document.text_before_cursor
        if before.lstrip().startswith("."):
            yield from self._commands(before.lstrip())
            return
        found = _WORD.search(before)
        begun = found[0] if found else ""
        shout = begun.isupper() and len(begun) > 1
        seen = set()
        for word in self._sql(before, document.text, begun):
            if word.text.lower().startswith(begun.lower()) and word.text not in seen:
                seen.add(word.text)
                text = word.text.upper() if shout and word.what == "keyword" else word.text
                yield Completion(text, -len(begun), display_meta=word.what)

    def _sql(self, before: str, text: str, begun: str) -> Iterator[_Word]:
        """The likelier first; of functions and keywords only with a first letter, there are so many."""
        columns = self._all(
            "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal "
            "ORDER BY table_name, column_index"
        )
        tables = [_Word(name, "view") for name in dict.fromkeys(table for table, _, _ in columns)]
        if _AFTER_TABLES.search(before):
            yield from tables
            yield from self._functions("%table%") if begun else ()
            return
        named = {name.lower() for name in _NAMES.findall(text)}
        for mentioned in (True, False):
            yield from (
                _Word(name, f"{table}, {kind}") for table, name, kind in columns if (table in named) == mentioned
            )
        yield from tables
        if begun:
            yield from self._functions("%")
            yield from self._keywords

    def _functions(self, kind: str) -> Iterator[_Word]:
        found = self._all(
            "SELECT function_name, any_value(function_type), bool_and(internal) FROM duckdb_functions() "
            "WHERE regexp_full_match(function_name, '[a-z_][a-z_0-9]*') AND function_type LIKE ? AND function_type "
            "NOT IN ('pragma', 'trigger') AND function_name NOT LIKE 'collate_%' "
            "GROUP BY 1 ORDER BY 3, 1",  # ours first
            kind,
        )
        return (_Word(f"{name}(", kind.replace("_", " ")) for name, kind, _ in found)

    def _commands(self, before: str) -> Iterator[Completion]:
        name, space, rest = before.partition(" ")
        offered: Iterable[_Word]
        if not space:
            rest = name
            offered = [_Word(usage.split()[0], said) for usage, said in COMMANDS.items()]
        elif name == ".schema":
            offered = [
                _Word(t, "view") for (t,) in self._all("SELECT DISTINCT table_name FROM duckdb_columns() ORDER BY 1")
            ]
        elif name == ".gaps":
            offered = [_Word(f, "feed") for (f,) in self._all("SELECT DISTINCT feed FROM sessions ORDER BY 1")]
        else:
            offered = [_Word(w, "") for w in {".mode": MODES, ".timer": ("on", "off")}.get(name, ())]
        for word in offered:
            if word.text.startswith(rest):
                yield Completion(word.text, -len(rest), display_meta=word.what)

    def _all(self, sql: str, *given: object) -> list[tuple[str, ...]]:
        import duckdb  # noqa: PLC0415

        try:
            return self._connection.execute(sql, given).fetchall()
        except duckdb.Error:  # a view that cannot be read offers nothing
            return []
