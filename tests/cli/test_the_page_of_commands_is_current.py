"""docs/cli.md is what the commands say of themselves."""

import re

import pytest
import typer

from ssmd import cli, config
from ssmd.cli import reference
from tests.cli.test_help_is_quick_and_short import told

PAGE = config.application_folder() / "docs" / "cli.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == reference.page(), "docs/cli.md is old: make it anew with `make docs`"


@pytest.mark.parametrize("command", ["query", "secmaster sync", "env update"])
def test_the_page_says_what_help_says(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert f"## ssmd {command}\n\n```text\n{told(*command.split(), '--help').rstrip()}\n```" in PAGE.read_text()


def test_the_page_has_every_command_and_a_way_to_it() -> None:
    page = PAGE.read_text()
    linked = re.findall(r"^\| \[`(.+?)`\]\(#(.+?)\) \| (.+) \|$", page, re.MULTILINE)
    assert [f"## {name}" for name, _, _ in linked] == re.findall(r"^## ssmd .+$", page, re.MULTILINE)
    assert all(anchor == name.replace(" ", "-") for name, anchor, _ in linked)
    assert len(linked) > 60 and all(line.endswith(".") for _, _, line in linked)


def test_a_change_of_the_program_makes_the_page_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a command more, and the page is another."""
    app = cli.build()

    @app.command()
    def news() -> None:
        """Say what is new."""

    monkeypatch.setattr(reference, "build", lambda: app)
    assert isinstance(app, typer.Typer)
    assert "| [`ssmd news`](#ssmd-news) | Say what is new. |" in reference.page() != PAGE.read_text()
