"""Tab completes commands and options, and the names that the configuration and the data folder have."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lake.archives import DATE, FEED, a_day

SSMD = Path(sys.executable).parent / "ssmd"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("here")
    a_day().write(folder / "data" / "archive")
    a_day(feed="other").write(folder / "elsewhere" / "archive")
    return folder


def offered(folder: Path, line: str) -> list[str]:
    """What bash is given for a line that Tab is pressed at the end of."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1), "_SSMD_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [str(SSMD)], cwd=folder, env=os.environ | words, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0 and done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("ssmd qu", ["query", "quarantine"]),
        ("ssmd data ex", ["export"]),
        ("ssmd gaps --js", ["--json"]),
        ("ssmd rollup kal", [FEED]),
        ("ssmd rollup kalshi 20", [DATE]),
        ("ssmd rollup kalshi to", ["today"]),
        ("ssmd data sample kalshi order", ["orderbook_delta", "orderbook_snapshot"]),
        ("ssmd data schema tr", ["trades"]),
        ("ssmd data export --data elsewhere --feed ot", ["other"]),
        ("ssmd up --env local-a", ["local-all"]),
        ("ssmd env show kalshi-l", ["kalshi-live"]),
        ("ssmd schema show ev", ["events"]),
        ("ssmd rollup nothing-like", []),
    ],
)
def test_what_begins_so_is_offered(folder: Path, line: str, names: list[str]) -> None:
    assert sorted(offered(folder, line)) == sorted(names)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell: str, tmp_path: Path) -> None:
    known = os.environ | {"_SSMD_COMPLETE": f"source_{shell}"}
    script = subprocess.run([str(SSMD)], env=known, capture_output=True, text=True, timeout=60, check=True).stdout
    assert f"_SSMD_COMPLETE=complete_{shell}" in script
    known = os.environ | {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    for option in ("--show-completion", "--install-completion"):
        done = subprocess.run([str(SSMD), option, shell], env=known, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(f"complete_{shell}" in path.read_text() for path in written)


def test_bash_itself_completes(folder: Path) -> None:
    """The script that is installed, run by bash as it runs it when Tab is pressed."""
    known = os.environ | {
        "PATH": f"{SSMD.parent}:{os.environ['PATH']}",
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    script = (
        'eval "$(ssmd --show-completion bash)"; COMP_WORDS=(ssmd data sample kalshi tra); COMP_CWORD=4; '
        '_ssmd_completion ssmd tra kalshi; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=known, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["trade"], done.stderr
