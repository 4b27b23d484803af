"""`python -m bench --quick` measures real parts; the page and its pictures hold what it found."""

import subprocess
import sys
from pathlib import Path

from bench import figures
from bench.parts import ROOT

SUBJECTS = ("ingest", "archive", "rollup")


def test_what_is_measured_is_in_the_page(tmp_path: Path) -> None:
    kept, page = tmp_path / "kept", tmp_path / "page.md"
    command = [sys.executable, "-m", "bench", *SUBJECTS, "--quick", "--kept", str(kept), "--page", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = figures.load(kept / "results.json")
    assert list(found.subjects) == list(SUBJECTS)
    for measured in found.subjects.values():
        assert measured.rows
        for row in measured.rows:
            assert not row.failed
            assert row.ratio is not None
            assert row.what in page.read_text()
            assert row.what.split()[0] in done.stdout
    for name in ("throughput", "rollup"):
        assert f"docs/bench/{name}.svg" in page.read_text()
        assert (kept / f"{name}.svg").stat().st_size < 200_000


def test_an_unknown_subject_is_refused() -> None:
    command = [sys.executable, "-m", "bench", "nothing"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert "there is no subject 'nothing': there is ingest" in done.stderr
