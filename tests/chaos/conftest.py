"""Chaos: seeded faults against the real parts, each run compared with the simulator's log of what it sent.

`make test` runs a short share, `make chaos` (SSMD_CHAOS=full) all of it, and writes RELIABILITY.md. `SSMD_CHAOS_SEED`
repeats a run.
"""

import os
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FULL = os.environ.get("SSMD_CHAOS") == "full"
_RESULTS = pytest.StashKey[list[tuple[str, str, str, str, str]]]()


@pytest.fixture(scope="session")
def full() -> bool:
    """All of it, or the short share."""
    return FULL


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of this test: SSMD_CHAOS_SEED, or a new one."""
    chosen = int(os.environ.get("SSMD_CHAOS_SEED") or random.SystemRandom().randrange(1 << 31))
    print(f"seed {chosen}: repeat with SSMD_CHAOS_SEED={chosen} pytest '{request.node.nodeid}'")
    return chosen


@pytest.fixture
def reliability(request: pytest.FixtureRequest, seed: int) -> Callable[[str, str, str], None]:
    """Writes a row of RELIABILITY.md: the promise, its figure, what became of its control."""

    def row(promise: str, figure: str, control: str) -> None:
        print(f"{promise}: {figure}; control: {control}")
        rows = request.config.stash.setdefault(_RESULTS, [])
        rows.append((promise, figure, control, str(seed), request.node.nodeid.partition("tests/chaos/")[2]))

    return row


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A run of all of it writes the page; a part of it, to repeat a row say, does not."""
    rows = session.config.stash.get(_RESULTS, [])
    whole = [str(Path(arg).resolve()) for arg in session.config.args] == [str(Path(__file__).parent)]
    if FULL and rows and whole and not session.config.option.keyword:
        (ROOT / "RELIABILITY.md").write_text(_page(session, rows))


def _page(session: pytest.Session, rows: list[tuple[str, str, str, str, str]]) -> str:
    version = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    failed = "all of them held" if not session.testsfailed else f"{session.testsfailed} tests FAILED in this run"
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    head = f"""# Reliability

Written by `make chaos` on {when}, commit {version.stdout.strip() or "unknown"}: {failed}.

Each promise was tried against the real parts; its figure compares what the simulated venue says it sent with archive
and ledger. Its control is the same run with the defence switched off, which must fail. To repeat a row:
`SSMD_CHAOS=full SSMD_CHAOS_SEED=<seed> .venv/bin/pytest tests/chaos/<test>`.

| promise | figure | control | seed | test |
|---|---|---|---|---|
"""
    return head + "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows)
