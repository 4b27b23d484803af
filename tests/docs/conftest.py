"""The folder of examples, made once."""

from pathlib import Path

import pytest

from activities.processes import Processes
from tests.docs.made import make


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with Processes(2) as processes:
        return make(tmp_path_factory.mktemp("made"), processes)
