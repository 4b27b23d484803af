"""`ssmd shell`: a prompt for SQL over the archive and the lake."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ssmd.cli.printing import print_table
from ssmd.cli.where import DataPlace, where
from ssmd.errors import Permanent, SsmdError

if TYPE_CHECKING:
    import duckdb
    from prompt_toolkit import PromptSession
    from prompt_toolkit.key_binding import KeyBindings

ROWS_MAX = 40  # of an answer on a terminal
BATCH_ROWS = 10_000
PROMPT, MORE = "ssmd> ", "  ..> "
MODES = ("table", "csv", "json")
COMMANDS = {
    ".help": "say what can be typed here",
    ".tables": "list the views",
    ".schema [TABLE]": "say what a view's columns are",
    ".mode table|csv|json": "how answers are written from now on",
    ".timer on|off": "say how long each answer took",
    ".gaps [FEED]": "list what is missing",
    ".quit": "leave (as Ctrl-D does)",
}


def shell(data: DataPlace = "data") -> None:
    """Ask in SQL at a prompt: completion (Tab), a history, Ctrl-C.

    Standard input that is no terminal is run as a script, up to the first mistake.

    \b
    ssmd shell
    echo "select count(*) from trades; .gaps" | ssmd shell --data s3://bucket/prefix
    """
    if not data.startswith("s3://") and not Path(data).is_dir():
        raise Permanent(f"there is no data folder {data}: name it with --data, or make it with `ssmd up`")
    from ssmd import lake  # noqa: PLC0415 - DuckDB and Arrow take 0.2 s to load

    with lake.connect(where(data)) as connection:
        session = Session(connection, data)
        if sys.stdin.isatty():
            _converse(session)
        else:
            _run_script(session, sys.stdin.read())


class Session:
    """A connection, and how its answers are written."""

    def __init__(self, connection: "duckdb.DuckDBPyConnection", data: str) -> None:
        self.connection = connection
        self.data = data
        self.mode = "table"
        self.timed = False

    def run(self, statement: str) -> bool:
        """A statement or a dot command; False if it says to leave. Raises SsmdError."""
        if statement.startswith("."):
            return self._command(*statement.removesuffix(";").split())
        begun = time.perf_counter()
        self._ask(statement)
        if self.timed:
            typer.echo(f"{time.perf_counter() - begun:.3f} s", err=True)
        return True

    def _ask(self, sql: str) -> None:
        from ssmd.cli import query, rows  # noqa: PLC0415
        from ssmd.cli.watched import watched  # noqa: PLC0415

        terminal = sys.stdout.isatty()

        def answer() -> Any:
            relation = self.connection.sql(sql)
            if relation is None:
                return None  # a statement without rows, such as SET
            found = rows.Rows(relation, BATCH_ROWS)
            if terminal and self.mode == "table":
                return rows.Shown(found, ROWS_MAX)
            rows.write(found, self.mode, sys.stdout.buffer, terminal=False)
            return None

        try:
            shown = watched(self.connection, answer, bar=self.mode == "table")
        except query.errors() as e:
            raise query.refusal(e) from e
        if shown is not None:
            shown.print("add a limit, name columns, or write .mode csv for all")

    def _command(self, name: str, *given: str) -> bool:
        match name, given:
            case ((".quit" | ".exit"), ()):
                return False
            case ".help", ():
                for command, said in COMMANDS.items():
                    typer.echo(f"{command:<22}{said}")
                typer.echo("Everything else is SQL and ends with a semicolon.")
            case ".tables", ():
                self._tables()
            case ".schema", (() | (_,)):
                self._schema(*given)
            case ".mode", (mode,) if mode in MODES:
                self.mode = mode
            case ".timer", (("on" | "off") as state,):
                self.timed = state == "on"
            case ".gaps", (() | (_,)):
                from ssmd.cli.gaps import gaps  # noqa: PLC0415

                gaps(given[0] if given else None, None, data=self.data)
            case _:
                raise Permanent(_unknown(name, given))
        return True

    def _tables(self) -> None:
        from ssmd import views  # noqa: PLC0415

        lines = [(name, views.VIEWS[name].said if name in views.VIEWS else "your own") for name in self.tables()]
        print_table(lines, right=set())

    def _schema(self, table: str | None = None) -> None:
        from ssmd import views  # noqa: PLC0415
        from ssmd.cli.data import show_schema  # noqa: PLC0415

        if table is not None and table not in views.VIEWS:
            if table not in self.tables():
                raise Permanent(f"there is no view {table}: `.tables` lists them")
            self._ask(f'SELECT column_name, column_type FROM (DESCRIBE "{table}")')  # noqa: S608 - it is there
            return
        for name in [table] if table else views.VIEWS:
            show_schema(name, views.described(self.connection, name))

    def tables(self) -> list[str]:
        """Views of ours, and tables and views that were made in this session."""
        found = self.connection.execute(
            "SELECT DISTINCT table_name FROM duckdb_columns() WHERE NOT internal"
        ).fetchall()
        return sorted(name for (name,) in found)


def _unknown(name: str, given: tuple[str, ...]) -> str:
    """What was meant, perhaps."""
    import difflib  # noqa: PLC0415

    usages = {usage.split()[0]: usage for usage in COMMANDS}
    if name in usages:
        return f"{' '.join((name, *given))}: write it as {usages[name]}"
    near = difflib.get_close_matches(name, usages, n=1, cutoff=0.5)
    return f"there is no {name}: {f'did you mean {near[0]}? ' if near else ''}`.help` lists what there is"


# ------------------------------------------------------------------------------------------------------ statements


def statements(text: str) -> Iterator[tuple[int, str]]:
    """Whole statements, each with the number of the line that it begins on; the last may lack its semicolon."""
    lines = text.splitlines(keepends=True)
    first, pending = 1, ""
    for number, line in enumerate(lines, 1):
        if not pending.strip():
            first, pending = number, ""
            if line.lstrip().startswith("."):
                yield number, line.strip()
                continue
        pending += line
        *whole, pending = _split(pending)
        for statement in whole:
            yield first, statement.strip()
            first = number
        if whole and pending.lstrip().startswith("."):
            yield number, pending.strip()
            pending = ""
    if _tokens(pending.encode()):
        yield first, pending.strip()


def is_whole(text: str) -> bool:
    """Whether what was typed can be run: a dot command, or SQL up to its semicolon."""
    *_, rest = _split(text)
    return text.lstrip().startswith(".") or not _tokens(rest.encode())


def _split(text: str) -> list[str]:
    """At the semicolons that are not in a text, a name or a comment; what follows the last one comes last."""
    raw = text.encode()
    ends = [at + 1 for at in _tokens(raw) if raw[at : at + 1] == b";"]
    return [raw[a:b].decode() for a, b in zip([0, *ends], [*ends, len(raw)], strict=True)]


def _tokens(raw: bytes) -> list[int]:
    """Where DuckDB sees tokens that are no comments."""
    import duckdb  # noqa: PLC0415

    found = duckdb.tokenize(raw.decode())
    return [at for at, kind in found if kind != duckdb.token_type.comment]


def _run_script(session: Session, text: str) -> None:
    for line, statement in statements(text):
        try:
            if not session.run(statement):
                return
        except SsmdError as e:
            sys.stdout.flush()
            raise Permanent(f"line {line}: {e}") from e


# ---------------------------------------------------------------------------------------------------- conversation


def _converse(session: Session) -> None:
    from ssmd import __version__  # noqa: PLC0415

    typer.echo(f"ssmd {__version__} over {session.data}. SQL ends with a semicolon; .help tells more, Ctrl-D leaves.")
    prompt = _prompt(session)
    while True:
        try:
            text = prompt.prompt(PROMPT)
        except KeyboardInterrupt:
            continue  # it was typed to no end
        except EOFError:
            return
        try:
            for _, statement in statements(text):
                if not session.run(statement):
                    return
        except SsmdError as e:
            typer.echo(f"error: {' '.join(str(e).split())}", err=True)
        except KeyboardInterrupt:
            typer.echo("cancelled", err=True)


def _prompt(session: Session) -> "PromptSession[str]":
    from prompt_toolkit import PromptSession  # noqa: PLC0415
    from prompt_toolkit.history import FileHistory, InMemoryHistory  # noqa: PLC0415
    from prompt_toolkit.lexers import PygmentsLexer  # noqa: PLC0415
    from pygments.lexers.sql import SqlLexer  # noqa: PLC0415

    from ssmd.cli.shell_words import Words  # noqa: PLC0415

    path = history_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)  # conditions may tell what somebody trades
    except OSError as e:
        typer.echo(f"there will be no history: {path} cannot be written ({e.strerror})", err=True)
    return PromptSession(
        history=FileHistory(str(path)) if path.is_file() else InMemoryHistory(),
        completer=Words(session.connection),
        complete_while_typing=False,
        lexer=PygmentsLexer(SqlLexer),
        multiline=True,
        prompt_continuation=MORE,
        key_bindings=_keys(),
    )


def history_path() -> Path:
    """In the user's state folder (the XDG base directories')."""
    import os  # noqa: PLC0415

    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if Path(state).is_absolute() else Path.home() / ".local/state") / "ssmd" / "shell_history"


def _keys() -> "KeyBindings":
    """Enter runs what is whole, and else begins another line."""
    from prompt_toolkit.key_binding import KeyBindings  # noqa: PLC0415

    keys = KeyBindings()

    @keys.add("enter")
    def enter(event: Any) -> None:
        buffer = event.current_buffer
        if buffer.complete_state is not None and buffer.complete_state.current_completion is not None:
            buffer.complete_state = None  # it is chosen
        elif is_whole(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.newline(copy_margin=False)

    return keys
