"""Answers for the next program: the option that every command has which reports something."""

import sys
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def print_json(value: object) -> None:
    """One JSON value: on one line for a program, indented for the eye. Decimals and dates are text."""
    import msgspec  # noqa: PLC0415

    encoded = msgspec.json.encode(value)
    typer.echo((msgspec.json.format(encoded, indent=2) if sys.stdout.isatty() else encoded).decode())
