"""The page of all commands, docs/cli.md: made from the app itself, so that it says what `--help` says.

`python -m ssmd.cli.reference` writes it into the tree again.
"""

from collections.abc import Iterator
from typing import Any

import typer

from ssmd.cli import build

WIDTH = 78  # of the help, as in a terminal of 80 columns
HEAD = """# Commands

What `ssmd COMMAND --help` says, of every command; made from the program by `make docs`. Exit codes: 0 it is done, 1
something was found (by `validate`, `verify` and others that look for faults), 2 it could not be done, with one sentence
that says what to do, 130 it was interrupted.

"""


def page() -> str:
    """The whole page: a table of all commands, then each one's help."""
    commands = list(_commands(typer.main.get_command(build()), "ssmd", None))
    rows = [f"| [`{name}`](#{_anchor(name)}) | {_first_line(command)} |" for name, command, _ in commands[1:]]
    table = "\n".join(["| command | what it does |\n|---|---|", *rows])
    parts = [f"## {name}\n\n```text\n{context.get_help().rstrip()}\n```\n" for name, _, context in commands]
    return f"{HEAD}{table}\n\n" + "\n".join(parts)


def _commands(command: Any, name: str, parent: Any) -> Iterator[tuple[str, Any, Any]]:
    """Each command that is shown, with its whole name and its context: a group before those within it."""
    context = command.context_class(
        command, info_name=name.rpartition(" ")[2], parent=parent, terminal_width=WIDTH, **command.context_settings
    )
    yield name, command, context
    for within in command.list_commands(context) if hasattr(command, "list_commands") else ():
        one = command.get_command(context, within)
        if not one.hidden:
            yield from _commands(one, f"{name} {within}", context)


def _first_line(command: Any) -> str:
    first, _, _ = (command.help or "").strip().partition("\n\n")
    return " ".join(first.split()).replace("|", "\\|")


def _anchor(name: str) -> str:
    return name.replace(" ", "-")


if __name__ == "__main__":
    from ssmd import config, durable

    durable.replace(config.application_folder() / "docs" / "cli.md", page().encode())
