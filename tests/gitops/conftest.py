"""A configuration as `ssmd init` makes it, in a git repository of its own."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ssmd.cli import run
from ssmd.gitops import starting

Said = tuple[int, str, str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """feeds kalshi and deribit, environment local, schema events; nothing committed yet."""
    made = tmp_path / "market"
    starting.folder(made, ["kalshi", "deribit"])
    monkeypatch.setenv("SSMD_CONFIG", str(made))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "Tester")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "tester@example.com")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    git(made, "init", "--quiet")
    return made


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    return done.stdout


@pytest.fixture
def ssmd(capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Runs a command: its exit code, what it printed, and its complaint."""

    def call(*arguments: object) -> Said:
        capfd.readouterr()
        code = run([str(a) for a in arguments])
        said = capfd.readouterr()
        return code, said.out, said.err

    return call
