"""Six venues on one machine, each with its simulator: every frame of each is archived once, rolled up, and no gap."""

import json
import re
import subprocess
import sys
from pathlib import Path

from ssmd import config

from .conftest import ROOT, query, start_up

FEEDS = ("kalshi", "polymarket", "deribit", "kraken", "kraken-futures", "binance")


def test_feeds_that_the_environment_does_not_list_are_simulated_too(tmp_path: Path) -> None:
    listed = [f.feed for f in config.load_environment("local").feeds]
    assert not set(FEEDS) <= set(listed)
    up = start_up(tmp_path, "--once", "--for", "3", *(word for feed in FEEDS for word in ("--feed", feed)))
    output = up.finish(170)
    assert up.process.returncode == 0, output
    for feed in FEEDS:
        told = re.search(
            rf"^{feed}: ([\d,]+) frames sent, ([\d,]+) archived, each once and byte for byte$", output, re.M
        )
        assert told and told[1] == told[2] and int(told[1].replace(",", "")) > 100, output
    command = [sys.executable, "-m", "ssmd", "gaps", "--json", "--data", str(tmp_path)]
    gaps = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(gaps.stdout) == []
    trades = query(tmp_path, "select feed, count(*) as n from trades group by feed order by feed")
    assert [row["feed"] for row in trades] == sorted(FEEDS), trades


def test_an_environment_has_all_of_them() -> None:
    assert [f.feed for f in config.load_environment("local-all").feeds] == list(FEEDS)
