"""Connections are cut and frames swallowed; a backfill brings exactly the trades that were missed, each once."""

import gzip
import json
import os
import re
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.worker import Replayer

from tests.chaos.rig import ROOT, Platform, platform
from workflows.runner import WORKFLOWS, runner

HISTORIES = ROOT / "tests" / "replay" / "histories"


@pytest.fixture
def run(tmp_path: Path, temporal_server: object) -> Iterator[Platform]:
    """A platform that lost frames in the middle, and has come to rest but for its venue and its archiver."""
    with platform(tmp_path, seed=5, rate=1500, faults="5:700:cut,skip") as made:
        made.start()
        made.until(lambda: made.status("simulator").get("faults", 0) >= 5, "faults are injected")
        made.flowing("the faults")
        made.end("connector")
        made.write_addresses(temporal_server.address)  # type: ignore[attr-defined]
        yield made


def ssmd(run: Platform, *arguments: str) -> str:
    """A command as a user types it."""
    command = [sys.executable, "-m", "ssmd", *arguments, "--data", str(run.keep)]
    variables = os.environ | {"SSMD_CONFIG": str(run.folder / "config")}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{run.logs()}"
    return done.stdout


def told(run: Platform) -> dict[str, dict[str, Any]]:
    """Every trade that the simulated venue knows, by id, in the order of time: its own REST, read by hand."""
    found: dict[str, dict[str, Any]] = {}
    cursor = ""
    while True:
        url = f"http://127.0.0.1:{run.ports['venue']}/trade-api/v2/markets/trades?limit=1000&cursor={cursor}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            page = json.load(answer)
        found |= {trade["trade_id"]: trade for trade in page["trades"]}
        cursor = page["cursor"]
        if not cursor:
            return found


def archived(run: Platform) -> tuple[Counter[str], Counter[str], list[dict[str, Any]]]:
    """Trades by id as they came and as they were backfilled, and the rows of the ledger; by gzip and json alone."""
    live, filled, gaps = Counter[str](), Counter[str](), {}
    for manifest in sorted(run.keep.glob("archive/*/*/manifest.json")):
        for segment in json.loads(manifest.read_text())["segments"]:
            with gzip.open(manifest.parent / segment["name"], "rb") as file:
                for raw in file:
                    line = json.loads(raw)
                    if segment["channel"] == "trade":
                        live[line["frame"]["msg"]["trade_id"]] += 1
                    elif segment["channel"] == "_backfill":
                        asked, trades = line["frame"]["backfill"], line["frame"]["body"]["trades"]
                        within = [t for t in trades if asked["start"] <= _seconds(t) * 1e9 <= asked["end"]]
                        filled.update(within[i]["trade_id"] for i in asked["new"])
                        assert line["conn"].startswith("backfill:/markets/trades-")
                    elif segment["channel"] == "_gap":
                        gaps[line["frame"]["gap"]] = line["frame"]
    return live, filled, list(gaps.values())


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


async def keep_history(address: str) -> None:
    """The workflow of this run replays; SSMD_RECORD keeps it: see tests/replay."""
    client = await Client.connect(address)
    history = await client.get_workflow_handle("backfill/kalshi/gaps").fetch_history()
    await Replayer(workflows=WORKFLOWS, workflow_runner=runner()).replay_workflow(history)
    if os.environ.get("SSMD_RECORD"):
        kept = re.sub(r'"identity": *"[^"]*"', '"identity": "worker"', history.to_json())  # no machine's name
        (HISTORIES / "backfill.json").write_text(json.dumps(json.loads(kept), indent=1) + "\n")


async def test_each_missed_trade_comes_back_once(run: Platform, temporal_server: object) -> None:
    address: str = temporal_server.address  # type: ignore[attr-defined]
    run._service("worker", run.keep, feed=False)
    run.until(lambda: run.parts["worker"].ask("/ready")[0] == 200, "the worker is ready")
    ssmd(run, "seal", "kalshi", "today")
    before = json.loads(ssmd(run, "gaps", "kalshi", "--json"))
    assert {gap["cause"] for gap in before} >= {"disconnect"} and {gap["state"] for gap in before} == {"closed"}

    said = ssmd(run, "backfill", "kalshi")
    live, filled, gaps = archived(run)
    match = re.search(r"kalshi: ([0-9,]+) missing trades? archived, ([0-9]+) gaps? repaired", said)
    assert match and int(match[1].replace(",", "")) == filled.total() and int(match[2]) == len(before), said
    assert "rolled up anew" in said
    lost = [t for t in told(run) if t not in live]
    known = told(run)
    last = max(gap["end"] for gap in gaps) / 1e9
    until = f"{last:.6f}"
    first = min(known[t]["created_time"] for t in live)
    missed = {t for t in lost if first <= known[t]["created_time"] and _seconds(known[t]) <= float(until)}
    assert missed, "the faults swallowed no trade"
    left = [(t, known[t]) for t in missed - set(filled)]
    assert not left, f"not all of them came back: {left}; {gaps}"
    assert not set(filled) & set(live) and set(filled.values()) == {1} == set(live.values()), "a trade is there twice"
    assert all(_seconds(known[t]) <= float(until) + 1 for t in filled), "trades of no gap were fetched"
    assert {gap["state"] for gap in json.loads(ssmd(run, "gaps", "kalshi", "--json"))} == {"repaired"}
    conditions = {row["condition"] for row in json.loads(ssmd(run, "coverage", "kalshi", "today", "--json"))}
    assert "repaired" in conditions and "degraded" not in conditions

    # In the tables they are marked, and each is there once.
    sql = "SELECT count(*) AS all_, count(DISTINCT trade_id) AS ids, count(*) FILTER (conn LIKE 'backfill:%') AS f"
    [row] = json.loads("[" + ssmd(run, "query", f"{sql} FROM trades", "--format", "ndjson") + "]")
    assert row == {"all_": live.total() + filled.total(), "ids": len(live) + len(filled), "f": filled.total()}

    # Again: nothing new, not a byte; and from the raw bytes the tables are made again as they are.
    archive, lake = files(run.keep / "archive"), files(run.keep / "lake")
    assert "0 missing trades archived, 0 gaps" in ssmd(run, "backfill", "kalshi", "--local")
    again = ssmd(run, "backfill", "kalshi", "--gap", gaps[0]["gap"])
    assert "0 missing trades archived" in again
    assert files(run.keep / "archive") == archive
    ssmd(run, "rollup", "kalshi", "today", "--local")
    assert files(run.keep / "lake") == lake
    ssmd(run, "verify", "kalshi", "today")
    await keep_history(address)


def _seconds(trade: dict[str, Any]) -> float:
    return datetime.fromisoformat(trade["created_time"]).timestamp()
