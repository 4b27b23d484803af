"""The help fits one screen and needs none of the heavy libraries."""

import subprocess
import sys
from pathlib import Path

import pytest

from ssmd import __version__

SSMD = Path(sys.executable).parent / "ssmd"
HEAVY = (
    "duckdb",
    "pyarrow",
    "pydantic",
    "temporalio",
    "httpx",
    "rich",
    "nats",
    "cryptography",
    "websockets",
    "asyncio",
    "prompt_toolkit",
)


def told(*arguments: str) -> str:
    return subprocess.run([str(SSMD), *arguments], capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("up", "--help")])
def test_help_fits_one_screen(arguments: tuple[str, ...]) -> None:
    lines = told(*arguments).splitlines()
    assert lines[0].startswith("Usage: ssmd")
    assert len(lines) <= 45
    assert max(len(line) for line in lines) <= 80


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from ssmd.cli import run; assert run(['--help']) == 0; "
        f"print('heavy:', *[m for m in {HEAVY!r} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert out.rstrip().endswith("heavy:")


def test_version_is_the_packages_own() -> None:
    assert told("version") == f"ssmd {__version__}\n"
