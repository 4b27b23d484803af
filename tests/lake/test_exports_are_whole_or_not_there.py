"""`ssmd data export`: all rows that were asked for in any format, in a file that is whole or not there at all."""

import csv
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from ssmd import durable
from ssmd.cli import run
from ssmd.events import Gap
from tests.lake.archives import DATE, FEED, GOLD, HOUR, SILVER, ArchivedDay, a_day, midnight

SSMD = Path(sys.executable).parent / "ssmd"
FORMATS = ("parquet", "csv", "csv.gz", "jsonl", "jsonl.gz", "arrow")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    a_day().write(folder / "archive")
    assert run(["rollup", FEED, DATE, "--local", "--data", str(folder)]) == 0
    return folder


def read(path: Path) -> list[dict[str, Any]]:
    """Rows as another program reads them."""
    if path.suffix == ".arrow":
        rows: list[dict[str, Any]] = pa.ipc.open_file(path.read_bytes()).read_all().to_pylist()
        return rows
    if path.suffix == ".parquet":
        found: list[dict[str, Any]] = duckdb.read_parquet(str(path)).to_arrow_table().to_pylist()
        return found
    text = (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()).decode()
    if ".csv" in path.name:
        return list(csv.DictReader(text.splitlines()))
    return [json.loads(line, parse_float=Decimal) for line in text.splitlines()]


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_has_every_value(format_: str, data: Path, tmp_path: Path) -> None:
    path = tmp_path / f"trades.{format_}"
    assert run(["data", "export", "trades", "--to", str(path), "--data", str(data)]) == 0
    rows = read(path)
    assert [row["symbol"] for row in rows] == [GOLD, SILVER]
    assert [Decimal(row["price"]) for row in rows] == [Decimal("0.51"), Decimal("0.49")]
    assert [str(row["date"]) for row in rows] == [DATE, DATE]
    books = tmp_path / f"books.{format_}"
    assert run(["data", "export", "book_snapshots", "--to", str(books), "--data", str(data)]) == 0
    bids = read(books)[0]["bids"]
    best = (json.loads(bids, parse_float=Decimal) if isinstance(bids, str) else bids)[0]
    assert best == {"price": Decimal("0.28"), "size": Decimal(69)}
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([path.name, books.name]), "nothing is left aside"


@pytest.mark.parametrize(
    ("options", "symbols"),
    [
        (["--symbol", GOLD], [GOLD]),
        (["--feed", "other"], []),
        (["--where", "price < 0.5 -- cheap"], [SILVER]),
        (["--start", f"{DATE}T02:00"], [SILVER]),
        (["--end", f"{DATE}T02:00"], [GOLD]),
        (["--start", f"{DATE}T01:00", "--end", "2026-08-12", "--feed", FEED], [GOLD, SILVER]),
        (["--start", "2026-08-12"], []),
    ],
)
def test_a_part_is_only_that_part(options: list[str], symbols: list[str], data: Path, tmp_path: Path) -> None:
    path = tmp_path / "part.jsonl"
    assert run(["data", "export", "trades", "--to", str(path), "--data", str(data), *options]) == 0
    assert [row["symbol"] for row in read(path)] == symbols


def test_raw_frames_come_out_as_they_came_in(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "raw.jsonl"
    assert run(["data", "export", "raw", "--where", "channel = 'ticker'", "--to", str(path), "--data", str(data)]) == 0
    [wire] = [wire for channel, wire in a_day().wires if channel == "ticker"]
    assert b'"frame":' + wire in path.read_bytes()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["trade", "--to", "x.csv"], "there is no view trade: there are raw, trades"),
        (["trades", "--to", "x.xls"], "cannot tell the format of x.xls: end its name in .parquet, .csv"),
        (["trades", "--to", "nowhere/x.csv"], "there is no folder nowhere"),
        (["trades", "--to", "there.csv"], "there.csv is there already: name another file, or replace it with --force"),
        (["trades", "--to", "x.csv", "--start", "tomorrow"], "--start 'tomorrow' is no time"),
        (["trades", "--to", "x.csv", "--start", "2026-08-12", "--end", DATE], "is not after --start 2026-08-12"),
        (["raw", "--to", "x.csv", "--symbol", GOLD], "--symbol: raw has no column symbol"),
        (["fees", "--to", "x.csv", "--end", DATE], "--end: fees has no column ts_recv"),
        (["trades", "--to", "x.csv", "--where", "prise > 1"], "prise"),
        (["trades", "--to", "x.arrow", "--where", "error('it broke')"], "it broke"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence_and_no_file(
    given: list[str],
    sentence: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.csv").write_text("mine")
    assert run(["data", "export", *given, "--data", str(data)]) == 2
    told = capsys.readouterr()
    assert sentence in told.err and told.err.count("\n") == 1 and told.out == ""
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"there.csv": "mine"}


def test_force_replaces_and_json_counts(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.csv"
    path.write_text("mine")
    assert run(["data", "export", "trades", "--to", str(path), "--force", "--json", "--data", str(data)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"file": str(path), "table": "trades", "rows": 2, "bytes": path.stat().st_size}


def test_a_file_that_comes_into_being_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"

    def slow(aside: Path) -> None:
        aside.write_text("new")
        path.write_text("mine")

    with pytest.raises(FileExistsError):
        durable.write_by_name(path, slow, over=False)
    assert path.read_text() == "mine"
    durable.write_by_name(path, slow, over=True)
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_ctrl_c_ends_it_and_leaves_nothing(data: Path, tmp_path: Path) -> None:
    long = "price > (select count(*) from range(100000000000) a, range(1000) b where a.range % 7 = b.range % 3)"
    command = [str(SSMD), "data", "export", "trades", "--where", long, "--to", "t.csv", "--data", str(data)]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as export:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".t.csv.*.tmp")):
            assert time.monotonic() < deadline and export.poll() is None
            time.sleep(0.05)
        export.send_signal(signal.SIGINT)
        out, err = export.communicate(timeout=30)
    assert export.returncode == 130
    assert out == "" and err.strip() == "interrupted: t.csv was not written"
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------------------------------------- strict


@pytest.fixture(scope="module")
def gapped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gold is listened to from 1 to 5 o'clock, but for a gap from 3:00 to 3:30."""
    folder, conn = tmp_path_factory.mktemp("gapped"), "kalshi-0-0198964b3f2-7f3a"
    start = midnight(DATE) + 3 * HOUR
    day = ArchivedDay(DATE, FEED, conn).at(1).session("open")
    day.session("connected", subscription={"channels": ["trade"], "symbols": [GOLD]})
    day.at(2).trade(GOLD, "0.5100", "7.00")
    day.at(3, 30).gap(Gap("g1", FEED, conn, [GOLD], start, start + HOUR // 2, "sequence", "1 missing"))
    day.at(5).session("close", frames=day.n + 1, reason="stopped")
    day.write(folder / "archive")
    assert run(["rollup", FEED, DATE, "--local", "--data", str(folder)]) == 0
    return folder


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["trades", "--feed", FEED, "--start", f"{DATE}T01:30", "--end", f"{DATE}T02:30"], None),
        (["trades", "--feed", FEED, "--start", f"{DATE}T01:30", "--end", f"{DATE}T04:30"], "sequence of"),
        (["trades", "--feed", FEED, "--start", f"{DATE}T01:30", "--end", "2026-08-13"], "uncovered"),
        (["trades", "--feed", FEED], "--strict needs to know what is to be whole: give --feed, --start and --end"),
        (["fees", "--feed", FEED, "--start", DATE, "--end", "2026-08-12"], "fees has no column ts_recv"),
    ],
)
def test_strict_refuses_what_is_not_all_there(
    given: list[str],
    told: str | None,
    gapped: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "t.parquet"
    command = ["data", "export", *given, "--to", str(path), "--data", str(gapped)]
    assert run([*command, "--strict"]) == (2 if told else 0)
    assert (told or "") in capsys.readouterr().err
    assert path.exists() != bool(told)


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """Ten times the rows: the same memory, in every format."""
    code = (
        "import resource, sys; from pathlib import Path; from ssmd import config; from ssmd.cli import export\n"
        "how = export.FORMATS['.' + sys.argv[2]]\n"
        "select = f'FROM (SELECT range AS ts, range::VARCHAR AS s FROM range({sys.argv[1]}))'\n"
        "rows = export._write(config.Places(Path('data')), select, Path('out'), how, 'out', nested_as_json=False)\n"
        "print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    for format_ in ("parquet", "csv.gz", "arrow"):
        used = []
        for rows in (1_000_000, 10_000_000):
            command = [sys.executable, "-c", code, str(rows), format_]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=os.environ)
            assert done.returncode == 0, done.stderr
            told, kilobytes = map(int, done.stdout.split())
            assert told == rows
            used.append(kilobytes)
        assert used[1] < used[0] + 250_000, (format_, used)
