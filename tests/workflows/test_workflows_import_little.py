"""A workflow file imports stdlib that is deterministic, temporalio, ssmd's names and activities; nothing else."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = {"ssmd", "activities", "workflows", "temporalio"}
# Of the standard library, what would make a decision depend on more than the workflow's history.
WORLDLY = {"asyncio", "datetime.datetime", "os", "pathlib", "random", "secrets", "socket", "subprocess", "threading"}
WORLDLY |= {"time", "urllib", "http", "uuid", "tempfile", "shutil", "multiprocessing", "concurrent"}


def wrong_imports(path: Path) -> list[str]:
    """`file:line: module` of every import that a workflow should not make."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = ["." * node.level + (node.module or "")]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in {
            "__import__",
            "import_module",
        }:
            names = ["an import at run time"]
        else:
            continue
        for name in names:
            root = name.partition(".")[0]
            fine = root in OURS or (root in sys.stdlib_module_names and root not in WORLDLY)
            if not fine:
                found.append(f"{path.name}:{node.lineno}: {name}")
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "workflows").glob("*.py")), ids=lambda p: p.name)
def test_workflows_import_nothing_heavy_or_worldly(path: Path) -> None:
    assert wrong_imports(path) == []


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("import duckdb", "duckdb"),
        ("from pyarrow import parquet", "pyarrow"),
        ("import time", "time"),
        ("from exchanges.kalshi import venue", "exchanges.kalshi"),
        ("import os.path", "os.path"),
        ("def f():\n    from services.worker import steps", "services.worker"),
        ("import importlib\nimportlib.import_module('duckdb')", "an import at run time"),
        ("from . import runner", "."),
    ],
)
def test_a_wrong_import_is_named_with_file_and_line(tmp_path: Path, line: str, named: str) -> None:
    path = tmp_path / "wrong.py"
    path.write_text(f'"""A workflow."""\n\nfrom datetime import timedelta\nfrom ssmd import jobs\n{line}\n')
    number = 5 + line.count("\n")
    assert wrong_imports(path) == [f"wrong.py:{number}: {named}"]
