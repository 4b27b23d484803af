"""Who follows docs/adding-a-venue.md has a venue: nothing but the page's files, and the tests find and accept it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from exchanges import port
from tests.exchanges import venues

PAGE = (venues.ROOT / "docs/adding-a-venue.md").read_text()
FILES = re.findall(r"^\| `exchanges/acme/(.+?)` \|", PAGE, re.MULTILINE)
LIKE = "kraken_futures"  # small, and all of it its own


def test_every_venue_has_the_files_of_the_page() -> None:
    assert {"__init__.py", "evidence.yaml", "adapter.py", "simulator.py"} <= set(FILES)
    for known in venues.known():
        folder = venues.ROOT / "exchanges" / known.name
        there = {file for file in FILES if (folder / file).exists()}
        assert {"__init__.py", "evidence.yaml"} <= there
        assert there == set(FILES) or not (folder / "adapter.py").exists(), (known.name, set(FILES) - there)


def test_the_page_names_what_the_port_asks_for() -> None:
    named = set(re.findall(r"\(`([A-Z]\w+)`\)", PAGE)) | {"Venue"}
    assert {"Adapter", "EventGrammar", "Listing", "Key", "Simulator", "Venue"} <= named
    assert all(hasattr(port, name) for name in named)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The application's tree with a venue more: the page's files, as another venue has them, and no other change."""
    root = tmp_path_factory.mktemp("tree")
    passing = shutil.ignore_patterns("__pycache__", "fixtures")
    for room in ("ssmd", "exchanges"):
        shutil.copytree(venues.ROOT / room, root / room, ignore=passing)
    shutil.copytree(venues.ROOT / "tests/exchanges", root / "tests/exchanges", ignore=passing)
    for file in ("pyproject.toml", "docs/venues.md"):
        (root / file).parent.mkdir(exist_ok=True)
        shutil.copy(venues.ROOT / file, root / file)
    for name in {known.name for known in venues.known()} - {LIKE}:
        (root / "exchanges" / name / "evidence.yaml").unlink()  # the tests shall see the new one alone
    like = root / "exchanges" / LIKE
    for file in FILES:
        source, target = venues.ROOT / "exchanges" / LIKE / file, root / "exchanges/acme" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(source.read_text().replace(f"exchanges.{LIKE}", "exchanges.acme"))
    shutil.copytree(venues.ROOT / "exchanges" / LIKE / "fixtures", root / "exchanges/acme/fixtures", dirs_exist_ok=True)
    shutil.rmtree(like)
    feed = (root / "exchanges/feeds/kraken-futures.yaml").read_text()
    renamed = feed.replace("name: kraken-futures", "name: acme").replace(f"venue: {LIKE}", "venue: acme")
    (root / "exchanges/feeds/acme.yaml").write_text(renamed)
    (root / "exchanges/feeds/kraken-futures.yaml").unlink()
    return root


def run(tree: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    variables = {**os.environ, "PYTHONPATH": str(tree)}
    return subprocess.run(
        [sys.executable, *command], cwd=tree, env=variables, capture_output=True, text=True, timeout=150
    )


def test_a_venue_made_of_these_files_conforms(tree: Path) -> None:
    made = run(tree, "-m", "tests.exchanges.docs")
    assert made.returncode == 0, made.stderr
    tests = ["tests/exchanges/test_every_venue_conforms.py", "tests/exchanges/test_every_venues_listing_conforms.py"]
    done = run(tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "acme or page_of_venues", *tests)
    assert done.returncode == 0, done.stdout
    assert done.stdout.lstrip().partition(" ")[0].count(".") > 12, done.stdout
    assert "| book |" in (tree / "docs/venues.md").read_text().partition("## acme")[2]


@pytest.mark.parametrize("file", [f for f in FILES if f != "fixtures/README.md"])
def test_none_of_the_files_can_be_left_out(tree: Path, file: str, tmp_path: Path) -> None:
    """The control: without one of them the venue is none."""
    path, aside = tree / "exchanges/acme" / file, tmp_path / "aside"
    shutil.move(path, aside)
    try:
        code = (
            "from tests.exchanges import venues; [k] = venues.known(); from exchanges.port import Simulation; "
            "k.venue.simulator(Simulation()); assert k.recorded"
        )
        assert run(tree, "-c", code).returncode != 0
    finally:
        shutil.move(aside, path)
