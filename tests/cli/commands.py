"""Every command of `ssmd`, found by walking the application itself."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

import typer

from ssmd.cli import build

_EXAMPLE = re.compile(r"^(?:Example:|.*\||.*&&)? *ssmd (.*?)(?: *&&.*)?$", re.MULTILINE)


def commands() -> dict[str, Any]:
    """By its words: `data list`."""
    return dict(_walk(typer.main.get_command(build()), ()))


def _walk(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield " ".join(words), command
    for name, below in getattr(command, "commands", {}).items():
        yield from _walk(below, (*words, name))


def options(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


def examples(command: Any) -> list[list[str]]:
    """The words after `ssmd` of each example in the help."""
    text = (command.help or "").replace("\\\n", " ")
    return [
        shlex.split(line)
        for line in re.findall(r"^(?:Example:|.*\||.*&&)? *ssmd (.*?)(?: *&&.*|  +\(.*)?$", text, re.M)
    ]
