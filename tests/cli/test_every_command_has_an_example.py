"""Whoever asks for help is shown how it is typed, and what is shown can be typed."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from ssmd.cli import build, run
from tests.cli.commands import commands, examples

COMMANDS = commands()


@pytest.mark.parametrize("words", COMMANDS)
def test_its_examples_are_its_own_and_parse(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = examples(COMMANDS[words])
    ours = [example for example in shown if example[: len(words.split())] == words.split()]
    assert ours, f"ssmd {words} --help has no example"
    for example in shown:
        parse(example)


def test_an_example_with_a_slip_would_be_found(tmp_path: Path) -> None:
    for slip in (
        ["rollup", "kalshi"],
        ["gaps", "--opened"],
        ["data", "lst"],
        ["data", "sample", "kalshi", "-n", "few"],
    ):
        with pytest.raises(Exception, match=r"(?i)missing|no such|valid integer"):
            parse(slip)


def parse(words: list[str]) -> None:
    """As the command line would, but nothing is run."""
    command: Any = typer.main.get_command(build())
    context = command.make_context("ssmd", list(words))
    while hasattr(command, "commands"):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)
    assert not context.args


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["verifi"], "no such command 'verifi', did you mean verify"),
        (["data", "lst"], "no such command 'lst', did you mean list?"),
        (["gaps", "--jsn"], "no such option: --jsn, did you mean --json?"),
        (["coverage", "kalshi", "today", "--pictur", "x"], "no such option: --pictur, did you mean --picture?"),
    ],
)
def test_a_slip_is_told_with_what_was_meant(typed: list[str], meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(typed) == 2
    told = capsys.readouterr().err
    assert meant in told and re.search(r"see `ssmd[ a-z]* --help`$", told.strip())
    assert told.count("\n") == 1
