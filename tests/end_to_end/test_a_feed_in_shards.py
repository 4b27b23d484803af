"""Several connector processes, each with its part of a feed's instruments: one archive, each frame and trade once."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ssmd import config

from .conftest import ROOT, archived_frames, query, start_up

SHARDS = 3


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> config.Environment:
    folder = tmp_path / "config"
    (folder / "environments").mkdir(parents=True)
    shutil.copytree(ROOT / "exchanges/feeds", folder / "feeds")
    plan = yaml.safe_load((ROOT / "exchanges/environments/local.yaml").read_text())
    plan["feeds"] = [feed | {"shards": SHARDS} for feed in plan["feeds"] if feed["feed"] == "kalshi"]
    (folder / "environments/local.yaml").write_text(yaml.safe_dump(plan))
    monkeypatch.setenv("SSMD_CONFIG", str(folder))
    return config.load_environment("local")


def test_shards_fill_one_archive_together(tmp_path: Path, environment: config.Environment) -> None:
    data = tmp_path / "data"
    up = start_up(data, "--once", "--for", "3", "--feed", "kalshi", "--seed", "5")
    output = up.finish(170)
    assert up.process.returncode == 0 and "each once and byte for byte" in output, output
    command = [sys.executable, "-m", "ssmd", "gaps", "--json", "--data", str(data)]
    gaps = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(gaps.stdout) == []
    plan = environment.feed("kalshi")
    seen: dict[int, set[str]] = {}
    for conn, lines in archived_frames(data).items():
        name = conn.rsplit("-", 3)[0]
        shard = int(name.partition(".")[2] or 0)
        books = {line["frame"]["msg"]["market_ticker"] for _, _, line in lines if "orderbook" in str(line["channel"])}  # type: ignore[index]
        assert {plan.shard_of(symbol) for symbol in books} <= {shard}  # by chance it may have none
        seen[shard] = books
    assert sorted(seen) == list(range(SHARDS)) and sum(map(len, seen.values())) == len(set().union(*seen.values()))
    journals = {path.parent.name for path in data.glob("journal/*/*.journal")}
    assert journals == {"kalshi", "kalshi.1", "kalshi.2"}
    (trades,) = query(data, "select count(*) as n, count(distinct trade_id) as different from trades")
    assert trades["n"] == trades["different"] != 0


def test_shards_that_are_not_there_are_refused_in_a_sentence(tmp_path: Path) -> None:
    """Nobody would publish what the journal of a shard holds that is no more."""
    left = tmp_path / "journal/kraken.2"
    left.mkdir(parents=True)
    (left / "00000000000000000001.journal").write_text("x")
    (tmp_path / "run").mkdir()
    nowhere = {"ws": "ws://127.0.0.1:1/", "rest": "http://127.0.0.1:1"}
    addresses = {"environment": "local-all", "nats": "nats://127.0.0.1:1", "temporal": "", "temporal_ui": ""}
    addresses |= {"feeds": {"kraken": nowhere}, "telemetry": {}, "supervisor": os.getpid()}  # type: ignore[dict-item]
    (tmp_path / "run/addresses.json").write_text(json.dumps(addresses))

    def said(*options: str) -> str:
        command = [sys.executable, "-m", "services.connector", "--data", str(tmp_path), "--feed", "kraken", *options]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2, done.stderr
        return done.stderr.strip().splitlines()[-1]

    assert "has 1 shards, numbered from 0: there is no shard 4" in said("--shard", "4")
    assert f"{left} holds frames of shard 2" in said()


def test_each_instrument_has_one_shard_and_few_move() -> None:
    symbols = [f"KX{n}" for n in range(3000)]

    def shards(count: int) -> list[int]:
        plan = config.EnvironmentFeed(feed="kalshi", endpoint="simulator", shards=count)
        return [plan.shard_of(symbol) for symbol in symbols]

    three, four = shards(3), shards(4)
    assert min(three.count(n) for n in range(3)) > 900
    moved = [after for before, after in zip(three, four, strict=True) if before != after]
    assert {*moved} == {3} and len(moved) < 900
