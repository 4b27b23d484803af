"""From recordings of Kraken through the whole platform to DuckDB: every frame once, the last book with its checksum."""

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from zlib import crc32

import pytest
import yaml

from .conftest import ROOT, query

FIXTURES = ROOT / "exchanges"
SPOT = FIXTURES / "kraken/fixtures/ws/v1-books-2021-04.txt"
FUTURES = FIXTURES / "kraken_futures/fixtures/ws/futures-2021-07.txt"


def _replayed(folder: Path, feed: str, channels: list[str], recording: Path) -> Path:
    """The data folder after a whole run; a venue that beats for ever ends it all the same."""
    config = folder / "config"
    for name in ("feeds", "environments"):
        (config / name).mkdir(parents=True)
    (config / f"feeds/{feed}.yaml").write_text((ROOT / f"exchanges/feeds/{feed}.yaml").read_text())
    plan = {"feed": feed, "endpoint": "simulator", "channels": channels}
    (config / "environments/local.yaml").write_text(yaml.safe_dump({"name": "local", "feeds": [plan]}))
    options = ["--replay", str(recording), "--speed", "max", "--clock", "recorded", "--once"]
    done = subprocess.run(
        [sys.executable, "-m", "ssmd", "up", "--data", str(folder / "data"), *options],
        cwd=ROOT,
        env=os.environ | {"SSMD_CONFIG": str(config)},
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert "each once and byte for byte" in done.stdout
    return folder / "data"


@pytest.mark.timeout(240)
def test_the_last_book_out_of_duckdb_has_the_last_checksum_that_the_venue_sent(tmp_path: Path) -> None:
    data = _replayed(tmp_path, "kraken", ["book.1000"], SPOT)
    frames = [json.loads(line.partition(": ")[2]) for line in SPOT.read_text().splitlines()]
    sent = [body["c"] for _, body, *_, pair in frames if pair == "KSM/XBT" and "c" in body]
    assert query(data, "select count(*) as n from book_snapshots") == [{"n": 3}]
    last = query(data, "select max(ts_recv) as t from book_deltas")[0]["t"]
    rows = query(data, f"select side, price, size from book_at('KSM/BTC', {last})")
    levels = {
        side: sorted((Decimal(str(r["price"])), Decimal(str(r["size"]))) for r in rows if r["side"] == side)
        for side in ("ask", "bid")
    }
    best = [*levels["ask"][:10], *levels["bid"][::-1][:10]]
    text = "".join(f"{number:.8f}".replace(".", "").lstrip("0") for level in best for number in level)
    assert crc32(text.encode()) == int(sent[-1])


@pytest.mark.timeout(240)
def test_a_recording_of_futures_is_archived_and_counted(tmp_path: Path) -> None:
    data = _replayed(tmp_path, "kraken-futures", ["book", "trade", "ticker_lite"], FUTURES)
    counts = {"book_deltas": 99, "book_snapshots": 3, "trades": 1, "tickers": 12}
    for table, count in counts.items():
        assert query(data, f"select count(*) as n from {table}") == [{"n": count}]
    sql = "select symbol, price, size, side, ts_event from trades"
    (trade,) = query(data, sql)
    assert (trade["symbol"], trade["side"], trade["ts_event"]) == (
        "FI_BCHUSD_210730",
        "buy",
        1_626_994_933_519_000_000,
    )
    assert (Decimal(str(trade["price"])), Decimal(str(trade["size"]))) == (Decimal("439.5"), Decimal(50))
