"""There are four processes for each feed: what none of their work needs must not be in their memory."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("service", ["archiver", "connector", "normalizer", "replayer", "simulator"])
def test_a_service_imports_nothing_that_only_tables_need(service: str) -> None:
    heavy = "{'pyarrow', 'duckdb', 'numpy', 's3fs', 'temporalio'}"
    code = f"import sys, services.{service}.__main__; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
