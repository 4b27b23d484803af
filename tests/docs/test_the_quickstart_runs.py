"""docs/quickstart.ipynb runs from its first cell to its last, from an empty folder."""

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"
BYTES_MAX = 200_000


def test_every_cell_runs_and_shows_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSMD_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    done = NotebookClient(notebook, timeout=90, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    shown = {cell["id"]: json.dumps(cell["outputs"]) for cell in done.cells if cell.cell_type == "code"}
    assert (tmp_path / "data" / "lake" / "trades").is_dir()
    assert "KX" in shown["lake"] and " 0 rows" not in shown["lake"]
    for cell, column in (("range", "vwap"), ("top", "bid_size"), ("quoted", "from_mid"), ("gaps", "condition")):
        assert column in shown[cell] and " 0 rows" not in shown[cell], shown[cell]
    assert "trades of kalshi are not whole in that range: uncovered of KX" in shown["strict"]
    assert "shape: (3, 4)" in shown["strict"]
    assert "image/png" in shown["plot"]


def test_it_is_small_and_has_no_outputs() -> None:
    assert NOTEBOOK.stat().st_size < BYTES_MAX
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
