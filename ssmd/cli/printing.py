"""What is printed for the eye: tables, sizes, frames."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from ssmd.cli.as_json import print_json

if TYPE_CHECKING:
    from ssmd.frames import Line


def size(count: float) -> str:
    """A number of bytes for the eye."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def print_table(lines: Sequence[Sequence[str]], right: set[int]) -> None:
    """Columns side by side, those in `right` to the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        cells = (c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
        typer.echo("  ".join(cells).rstrip())


def show_frame(channel: str, ts_recv: int, conn: str, n: int, wire: bytes, reason: str | None) -> None:
    """One frame: a heading of ours, then the venue's own bytes (indented, on a terminal)."""
    from datetime import UTC, datetime  # noqa: PLC0415

    seconds, ns = divmod(ts_recv, 1_000_000_000)
    when = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{ns:09d}"
    why = f"  quarantined: {reason}" if reason else ""
    heading = f"{channel}  {when}  {conn} {n}{why}"
    text = wire.decode(errors="backslashreplace")
    if not sys.stdout.isatty():
        typer.echo(f"{heading}\n{text}")
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console()
    console.print(Text(heading, style="bold"))
    try:
        console.print_json(text)
    except ValueError:
        console.print(Text(text))


def print_frame(channel: str, line: "Line") -> None:
    """One frame for a program, its bytes as text (or in base64, if they are none)."""
    import base64  # noqa: PLC0415

    wire = line.wire()
    told = {"channel": channel, "ts_recv": line.ts_recv, "conn": line.conn, "n": line.n, "reason": line.reason}
    try:
        print_json(told | {"text": wire.decode()})
    except UnicodeDecodeError:
        print_json(told | {"b64": base64.b64encode(wire).decode()})
