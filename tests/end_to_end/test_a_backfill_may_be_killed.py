"""A backfill across midnight, killed again and again (-9): each trade once, on its own day, and both days say so."""

import asyncio
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random
from urllib.parse import parse_qsl

import msgspec
import nats
import pytest
import yaml

from exchanges.port import Answer
from ssmd import frames, subjects
from ssmd.clock import DAY_NS, SECOND_NS, date_of
from ssmd.events import Gap, Session
from tests.workflows.test_verify_keys import hosting
from tests.workflows.workers import ROOT

FEED, CONN = "kalshi", "kalshi-0-019a0000000-aaaa"
RUNS = count()  # each in an environment, and so a stream, of its own
MIDNIGHT = time.time_ns() // DAY_NS * DAY_NS - 2 * DAY_NS
DAYS = [date_of(MIDNIGHT - 1), date_of(MIDNIGHT)]
START, END = MIDNIGHT - 40 * SECOND_NS, MIDNIGHT + 40 * SECOND_NS
EVERY = list(range(-60, 60))  # a trade each second, the gap in the middle


def at(second: int) -> int:
    return MIDNIGHT + second * SECOND_NS + 500_000_000


def rest(method: str, target: str, headers: object, body: bytes) -> Answer:
    """Kalshi's trades, twenty a page, newest first; what is older than midnight has moved to its history."""
    path, _, query = target.partition("?")
    if path.endswith("/historical/cutoff"):
        return Answer(200, json.dumps({"trades_created_ts": f"{DAYS[1]}T00:00:00Z"}).encode())
    q = dict(parse_qsl(query))
    low, high = (int(q[name]) for name in ("min_ts", "max_ts"))
    there = [s for s in EVERY if (s < 0) == path.endswith("/historical/trades")]
    found = [s for s in reversed(there) if low <= at(s) // SECOND_NS <= high]
    begin = int(q.get("cursor", "0"))
    page = [
        {
            "trade_id": f"t{s}",
            "ticker": "KXA-1",
            "count_fp": "1.00",
            "yes_price_dollars": "0.2500",
            "no_price_dollars": "0.7500",
            "taker_outcome_side": "yes",
            "created_time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(at(s) // SECOND_NS))}.500000Z",
        }
        for s in found[begin : begin + 20]
    ]
    cursor = str(begin + 20) if begin + 20 < len(found) else ""
    return Answer(200, json.dumps({"trades": page, "cursor": cursor}).encode())


def captured(env: str) -> list[tuple[str, bytes]]:
    """What the stream got of it: one connection that stood, lost some, and stood again."""
    rows: list[tuple[int, str, str | None, bytes]] = []

    def own(ts: int, channel: str, row: object) -> None:
        rows.append((ts, channel, None, msgspec.json.encode(row)))

    subscription = {"symbols": ["KXA-1"], "channels": ["trade"]}
    own(at(-61), frames.SESSION, Session("connected", FEED, CONN, subscription=subscription))
    for s in EVERY:
        if START <= at(s) <= END:
            continue
        if at(s) > END and rows[-1][0] < END:
            gap = Gap("the-gap", FEED, CONN, ["KXA-1"], START, END, "sequence", "made up")
            own(START + 1, frames.GAP, msgspec.structs.replace(gap, end=None))
            own(END + 1, frames.GAP, gap)
        body = {
            "trade_id": f"t{s}",
            "market_ticker": "KXA-1",
            "yes_price_dollars": "0.2500",
            "count_fp": "1.00",
            "taker_outcome_side": "yes",
            "ts_ms": at(s) // 1_000_000,
        }
        frame = {"type": "trade", "sid": 1, "seq": s + 100, "msg": body}
        rows.append((at(s) + 1_000_000, "trade", "KXA-1", msgspec.json.encode(frame)))
    own(END + 30 * SECOND_NS, frames.SESSION, Session("close", FEED, CONN, frames=len(rows) + 1, reason="over"))
    return [
        (subjects.frame(env, FEED, channel, symbol), frames.message(ts, CONN.encode(), n, frame))
        for n, (ts, channel, symbol, frame) in enumerate(rows, 1)
    ]


async def publish(url: str, env: str) -> None:
    client = await nats.connect(url)
    stream = client.jetstream()
    for subject, message in captured(env):
        while True:  # the archiver makes the stream
            try:
                await stream.publish(subject, message, timeout=2)
                break
            except Exception:
                await asyncio.sleep(0.1)
    await client.close()


@pytest.fixture
def data(tmp_path: Path, nats_server: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder whose archiver has taken it in."""
    folder, config = tmp_path / "data", tmp_path / "config"
    url: str = nats_server.url  # type: ignore[attr-defined]
    env = f"killed{next(RUNS)}"
    for name in ("feeds", "environments"):
        (config / name).mkdir(parents=True)
    (folder / "run").mkdir(parents=True)
    monkeypatch.setenv("SSMD_CONFIG", str(config))
    with hosting(rest) as venue:
        feed = yaml.safe_load((ROOT / "exchanges/feeds/kalshi.yaml").read_text())
        for version in feed["versions"]:
            version |= {"endpoints": {"here": {"ws": "ws://127.0.0.1:1", "rest": venue}}, "signed": False}
            version["limits"]["rest_per_second"] = 1000
        (config / "feeds/kalshi.yaml").write_text(yaml.safe_dump(feed))
        environment = {"name": env, "feeds": [{"feed": FEED, "endpoint": "here"}]}
        (config / f"environments/{env}.yaml").write_text(yaml.safe_dump(environment))
        addresses = {"environment": env, "nats": url, "temporal": "", "temporal_ui": "", "feeds": {}, "telemetry": {}}
        (folder / "run/addresses.json").write_text(json.dumps({**addresses, "supervisor": os.getpid()}))
        command = [sys.executable, "-m", "services.archiver", "--data", str(folder), "--feed", FEED]
        with (tmp_path / "archiver.log").open("wb") as log:
            archiver = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            asyncio.run(publish(url, env))
            end = time.monotonic() + 30
            while any(ssmd(folder, "seal", FEED, day).returncode for day in DAYS):
                assert time.monotonic() < end, (tmp_path / "archiver.log").read_text()
            yield folder
        finally:
            archiver.kill()
            archiver.wait()


def ssmd(data: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "ssmd", *arguments, "--data", str(data)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)


def archived(data: Path, date: str) -> tuple[Counter[str], Counter[str], list[dict[str, object]]]:
    live, filled = Counter[str](), Counter[str]()
    folder = data / "archive" / FEED / date
    manifest = json.loads((folder / "manifest.json").read_text())
    for segment in manifest["segments"]:
        for raw in gzip.decompress((folder / segment["name"]).read_bytes()).splitlines():
            line = json.loads(raw)
            assert date_of(line["ts_recv"]) == date
            if segment["channel"] == "trade":
                live[line["frame"]["msg"]["trade_id"]] += 1
            elif segment["channel"] == "_backfill":
                endpoint = "/historical/trades" if date == DAYS[0] else "/markets/trades"
                assert line["conn"].startswith(f"backfill:{endpoint}-")
                asked, trades = line["frame"]["backfill"], line["frame"]["body"]["trades"]
                inside = [t for t in trades if asked["start"] <= at(int(t["trade_id"][1:])) <= asked["end"]]
                filled.update(inside[i]["trade_id"] for i in asked["new"])
    assert manifest["sealed"] and not any(c.get("holes") for c in manifest["connections"])
    return live, filled, manifest["gaps"]


@pytest.mark.timeout(170)
def test_killed_at_any_moment_it_brings_each_trade_once(data: Path) -> None:
    chance = Random(int(os.environ.get("SSMD_CHAOS_SEED", "7")))
    command = [sys.executable, "-m", "services.worker", "--data", str(data), "--local", "Backfill", '{"feed":"kalshi"}']
    written = data / "run" / "backfill" / FEED
    killed = 0
    for attempt in range(12):
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
        # The first ones die as soon as something is written down, later ones some time after their start.
        end = time.monotonic() + (30 if attempt < 3 else chance.uniform(1.5, 4.0))
        while process.poll() is None and time.monotonic() < end:
            if attempt < 3 and list(written.glob("*.frames")):
                time.sleep(chance.uniform(0, 0.05))
                break
            time.sleep(0.002)
        if process.poll() is not None:
            break
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        killed += 1
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert killed and not [path for path in written.iterdir() if path.name != ".lock"]

    seconds = {DAYS[0]: [s for s in EVERY if s < 0], DAYS[1]: [s for s in EVERY if s >= 0]}
    for date in DAYS:
        live, filled, gaps = archived(data, date)
        assert live + filled == Counter(f"t{s}" for s in seconds[date]), date
        assert [str(g["repair"]).startswith("backfill:/markets/trades: 80 trades") for g in gaps] == [True], gaps
    rows = json.loads(ssmd(data, "gaps", FEED, "--json").stdout)
    assert [row["state"] for row in rows] == ["repaired"]
    sql = "SELECT date, count(*) AS n, count(DISTINCT trade_id) AS ids FROM trades GROUP BY date ORDER BY date"
    told = [json.loads(line) for line in ssmd(data, "query", sql, "--format", "ndjson").stdout.splitlines()]
    assert [(row["n"], row["ids"]) for row in told] == [(60, 60), (60, 60)], told


@pytest.mark.timeout(120)
def test_what_the_venue_has_forgotten_is_said_to_be_beyond_repair(data: Path, tmp_path: Path) -> None:
    """An empty answer would look like a time without trades."""
    path = tmp_path / "config/feeds/kalshi.yaml"
    feed = yaml.safe_load(path.read_text())
    for version in feed["versions"]:
        version["endpoints"]["here"]["trades_days"] = 1
    path.write_text(yaml.safe_dump(feed))
    done = ssmd(data, "backfill", FEED, "--local")
    assert "0 missing trades archived, 0 gaps repaired, 1 cannot be" in done.stdout, done.stderr
    [row] = json.loads(ssmd(data, "gaps", FEED, "--json").stdout)
    assert row["state"] == "unrepairable" and "remembers trades for 1 days" in row["repair"]
    told = json.loads(ssmd(data, "coverage", FEED, DAYS[0], "--json").stdout)
    assert {entry["condition"] for entry in told} == {"degraded"}
    begin, end = (f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(ns // SECOND_NS))}" for ns in (START, END))
    done = ssmd(data, "backfill", FEED, "--local", "--start", begin, "--end", end)
    assert done.returncode == 1 and "remembers trades for 1 days" in done.stderr
