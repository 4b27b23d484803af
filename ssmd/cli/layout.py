"""How `ssmd --help` is laid out: all commands on one screen, in groups, each in one line."""

from typing import Any

from typer.core import TyperGroup

RUN = "Run and look"
ASK = "Ask"
PROVE = "What is there, what is missing"
JOBS = "A day's way"
CONFIGURE = "Configuration under git"
OTHERS = "Commands"


class Grouped(TyperGroup):
    """Commands by their `rich_help_panel`, in the order of the first of each; options after them."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, Any]]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                groups.setdefault(_panel(command), []).append((name, command))
        groups |= {OTHERS: groups.pop(OTHERS)} if OTHERS in groups else {}  # last
        widest = max(len(name) for name in self.commands)
        formatter.write_paragraph()
        for group, commands in groups.items():
            formatter.write(f"{group}:\n")
            for name, command in commands:
                said = command.get_short_help_str(formatter.width - widest - 4)
                formatter.write(f"  {name:<{widest}}  {said}\n")
        formatter.write("Options (--install-completion lets Tab complete commands, feeds, days):\n")
        records = [record for p in self.get_params(ctx) if (record := p.get_help_record(ctx)) is not None]
        with formatter.indentation():
            formatter.write_dl([record for record in records if "-completion" not in record[0]])


def _panel(command: Any) -> str:
    panel = getattr(command, "rich_help_panel", None)
    return panel if isinstance(panel, str) else OTHERS
