"""What a command reports, it reports to a program as well: `--json`, and nothing but JSON on standard output."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ssmd.cli import run
from tests.cli.commands import commands, options
from tests.lake.archives import DATE, FEED, GOLD, a_day
from tests.workflows.workers import ROOT, is_ready, running_worker, write_addresses

COMMANDS = commands()

# They report nothing that a program could want.
NO_JSON = {
    "up": "shows what runs until it is stopped; /status of each service is JSON",
    "shell": "talks with a person; `.mode json` writes its answers so",
    "key init": "tells a person what to do next",
    "key set": "asks a person",
    "key rotate": "asks a person, and tells what to do next",
}
# What their JSON holds is looked at where what they need runs.
ELSEWHERE = {
    "tail": "tests/cli/test_tail_shows_what_is_published.py",
    "replay": "tests/cli/test_a_past_day_is_served_again.py",
    "seal": "tests/end_to_end/test_answers_are_json_while_it_runs.py",
    "backfill": "tests/end_to_end/test_answers_are_json_while_it_runs.py",
    "key verify": "tests/workflows/test_verify_keys.py",
    "publish": "tests/storage/test_publish.py",
    "restore": "tests/storage/test_retention.py",
    "retention": "tests/storage/test_retention.py",
    "secmaster sync": "tests/workflows/test_sync_secmaster.py",
    "secmaster show": "tests/workflows/test_sync_secmaster.py",
    "fees sync": "tests/end_to_end/test_answers_are_json_while_it_runs.py",
    "fees show": "tests/end_to_end/test_answers_are_json_while_it_runs.py",
}
OF_DATA = {
    "query": ["select symbol, price from trades"],
    "rollup": [FEED, DATE, "--local"],
    "gaps": [],
    "status": [],
    "coverage": [FEED, DATE],
    "verify": [FEED, DATE, "--local"],
    "report": ["--date", DATE, "--local"],
    "data list": [],
    "data sample": [FEED],
    "data schema": [],
    "data export": ["trades", "--to", "{tmp}/trades.csv"],
    "quarantine list": [],
    "quarantine show": [FEED, DATE],
    "quarantine replay": [FEED, DATE],
    "day status": [DATE, "--local"],
    "day show": [DATE, "--local"],
    "secmaster list": [],
    "secmaster search": ["gold"],
    "secmaster stats": [],
    "fees list": [],
    "plot price": [FEED, GOLD, DATE, "--to", "{tmp}/price.svg"],
    "plot depth": [FEED, GOLD, DATE, "--to", "{tmp}/depth.svg"],
    "plot coverage": [FEED, DATE[:7], "--to", "{tmp}/month.svg"],
    "key list": [],
    "key show": ["kalshi-live", "kalshi"],
    "env teardown": ["local", "--dry-run"],
}
OF_CONFIGURATION = {  # in this order: each needs what those before it made
    "version": [],
    "data builders": [],
    "init": ["{tmp}/market", "--feed", "kalshi"],
    "feed create": ["deribit"],
    "feed update": ["kalshi", "--set", "silence_seconds=9"],
    "feed add-version": ["kalshi", "--effective-from", "2031-01-01"],
    "feed list": [],
    "feed show": ["kalshi"],
    "env create": ["mine", "--feed", "kalshi"],
    "env update": ["mine", "--set", "archiving.rotate_seconds=60"],
    "env add-key": ["mine", "kalshi", "--id", "env:ID", "--secret", "file:~/secret.pem"],
    "env list": [],
    "env show": ["mine"],
    "schema register": ["orders", "--file", "{tmp}/orders.capnp", "--title", "Orders"],
    "schema add-version": ["orders", "--file", "{tmp}/more.capnp"],
    "schema list": [],
    "schema show": ["orders"],
    "schema hash": ["orders"],
    "schema set-status": ["orders", "active"],
    "validate": [],
    "commit": ["-m", "all of it"],
    "diff": [],
}
AT_TEMPORAL = [  # in this order, too
    ("schedule diff", []),
    ("schedule apply", []),
    ("schedule list", []),
    ("schedule pause", ["rollup/kalshi"]),
    ("schedule resume", ["rollup/kalshi"]),
    ("schedule trigger", ["rollup/kalshi"]),
    ("schedule backfill", ["rollup/kalshi", "--from", "2026-08-01", "--to", "2026-08-01"]),
    ("schedule delete", ["rollup/kalshi"]),
    ("day start", [DATE]),
    ("day roll", [DATE, "--reason", "enough"]),
    ("day start", ["today"]),
    ("day force", ["active", "today", "--reason", "it runs elsewhere"]),
    ("day end", ["today", "--reason", "enough"]),
    ("day history", []),
]
CAPNP = "@0x9{number:015x};\nstruct Order {{\n  price @0 :Text;\n{more}}}\n"
Said = Callable[..., Any]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    a_day().write(folder / "archive")
    assert run(["rollup", FEED, DATE, "--local", "--json", "--data", str(folder)]) == 0
    return folder


@pytest.fixture
def said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Said:
    """What a command prints with --json: one JSON value, or one a line."""

    def said(words: str, given: list[str], *more: str) -> Any:
        capfd.readouterr()
        code = run([*words.split(), *(word.format(tmp=tmp_path) for word in given), "--json", *more])
        told = capfd.readouterr()
        assert code in {0, 1}, told.err  # 1: it found something
        assert told.out.strip(), f"ssmd {words} --json prints nothing"
        try:
            return [json.loads(told.out)]
        except json.JSONDecodeError:
            return [json.loads(line) for line in told.out.splitlines()]

    return said


def test_each_is_looked_at_once() -> None:
    looked_at = [*NO_JSON, *ELSEWHERE, *OF_DATA, *OF_CONFIGURATION, *dict(AT_TEMPORAL)]
    assert sorted(looked_at) == sorted(COMMANDS)
    assert {words for words, command in COMMANDS.items() if "--json" not in options(command)} == set(NO_JSON)
    for where in set(ELSEWHERE.values()):
        assert (ROOT / where).is_file()


@pytest.mark.parametrize("words", OF_DATA)
def test_what_is_in_a_folder_is_told(words: str, data: Path, said: Said) -> None:
    rows = said(words, OF_DATA[words], "--data", str(data))
    if words == "query":
        assert [row["price"] for row in rows[0]] == [0.51, 0.49]
    if words == "data list":
        assert rows[0][0] | {"feed": FEED, "frames": 22, "gaps": 1, "gaps_open": 0} == rows[0][0]
    if words == "quarantine show":
        assert [row["reason"] for row in rows] == ["not JSON", "not UTF-8"] and rows[1]["b64"] == "//4="


def test_the_configuration_is_told(tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    for variable in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(variable, "a@b.example")
    (tmp_path / "orders.capnp").write_text(CAPNP.format(number=1, more=""))
    (tmp_path / "more.capnp").write_text(CAPNP.format(number=1, more="  size @1 :Text;\n"))
    for words, given in OF_CONFIGURATION.items():
        [told] = said(words, given)
        if words == "init":
            monkeypatch.setenv("SSMD_CONFIG", str(tmp_path / "market"))
        if words == "commit":
            assert "feeds/deribit.yaml" in told["files"]
    assert told == [], "all of it was committed"  # what `diff` says, the last of them


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, temporal_server: Any) -> Iterator[Path]:
    """A data folder with a worker at a real Temporal."""
    folder = tmp_path_factory.mktemp("platform")
    shutil.copytree(ROOT / "exchanges" / "feeds", folder / "config" / "feeds")
    (folder / "config" / "environments").mkdir()
    (folder / "config" / "environments" / "local.yaml").write_text(
        "name: local\nservers: local\nfeeds:\n- {feed: kalshi, endpoint: simulator}\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSMD_CONFIG", str(folder / "config"))
        write_addresses(folder / "data", temporal_server.address)
        with running_worker(folder / "data") as worker:
            worker.until("/ready", is_ready)
            yield folder / "data"


def test_what_temporal_knows_is_told(platform: Path, said: Said) -> None:
    for words, given in AT_TEMPORAL:
        if words == "day roll":  # only a day that has begun can be rolled
            while said("day status", [DATE], "--data", str(platform))[0]["state"] == "pending":
                time.sleep(0.1)
        [told] = said(words, given, "--data", str(platform))
        if words == "schedule pause":
            assert told["schedule"].endswith("rollup/kalshi") and told["done"].startswith("is paused")
        if words == "day end":
            assert told["state"] == "ending"
