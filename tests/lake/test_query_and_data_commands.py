"""`ssmd query`, `ssmd data` and `ssmd rollup`, as a person types them."""

import csv
import io
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from ssmd import archive, tables
from ssmd.cli import build
from ssmd.errors import SsmdError
from tests.lake.archives import DATE, FEED, GOLD, a_day

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    a_day().write(folder / "archive")
    ssmd("rollup", FEED, DATE, "--local", "--data", str(folder))
    return folder


def ssmd(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """The command itself, in a process of its own."""
    program = "from ssmd.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, timeout=60, cwd=ROOT, check=False
    )


def query(data: Path, sql: str, *options: str) -> str:
    done = CliRunner().invoke(build(), ["query", sql, "--data", str(data), *options])
    if done.exception is not None:
        raise done.exception
    return done.stdout


def refused(*arguments: str) -> str:
    """The sentence of a refusal."""
    done = ssmd(*arguments)
    said = done.stderr.decode()
    assert done.returncode == 2, said
    assert said.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in said
    return said.splitlines()[-1]


def test_a_table_is_aligned_and_its_decimals_trimmed(data: Path) -> None:
    text = query(data, "select symbol, price, size from trades order by price desc")
    assert text.splitlines() == [
        "symbol                      price  size",
        f"{GOLD}     0.51     7",
        "KXSILVER15M-26AUG102130-15   0.49   1.5",
    ]


def test_csv_json_and_ndjson_are_exact(data: Path) -> None:
    sql = "select symbol, price, ts_event from trades order by price desc limit 1"
    row = next(csv.DictReader(io.StringIO(query(data, sql, "--format", "csv"))))
    assert (row["symbol"], row["price"]) == (GOLD, "0.510000")
    one = json.loads(query(data, sql, "--format", "ndjson"), parse_float=Decimal)
    assert one["price"] == Decimal("0.510000")
    assert json.loads(query(data, sql, "--format", "json"), parse_float=Decimal) == [one]
    assert json.loads(query(data, f"{sql} offset 9", "--format", "json")) == []


def test_frames_and_books_nest_in_json(data: Path) -> None:
    line = query(data, "select frame from raw where channel = 'ticker'", "--format", "ndjson")
    assert json.loads(line)["frame"]["msg"]["price_dollars"] == "0.5100"
    line = query(data, "select bids from book_snapshots where n = 4", "--format", "ndjson")
    assert json.loads(line)["bids"][0] == {"price": 0.28, "size": 69.0}


def test_times_keep_nanoseconds_in_every_format(data: Path) -> None:
    for format_ in ("table", "csv", "json", "ndjson"):
        assert "2026-08-11 01:00:00.010000030" in query(data, "select ts(ts_recv) t from tickers", "--format", format_)


def test_parquet_goes_to_a_file_or_a_pipe(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "trades.parquet"
    assert query(data, "from trades", "--format", "parquet", "--output", str(path)) == ""
    assert pq.read_table(path).num_rows == 2
    piped = ssmd("query", "from trades", "--data", str(data), "--format", "parquet").stdout
    assert pq.read_table(io.BytesIO(piped)).num_rows == 2


def test_no_rows_still_have_a_heading(data: Path) -> None:
    assert query(data, "select symbol, price from trades where false") == "symbol  price\n"
    assert query(data, "select symbol, price from trades where false", "--format", "csv") == "symbol,price\n"


def test_many_rows_all_come_out(data: Path) -> None:
    assert query(data, "select * from range(25000)", "--format", "csv").count("\n") == 25_001
    assert query(data, "select * from range(25000)").count("\n") == 25_001


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("from trade", "did you mean trades?"),
        ("from TICKER", "did you mean tickers?"),
        ("from nothing_like_it", "there are raw, trades, tickers"),
        ("select pricee from trades", "price"),
        ("selec 1", "syntax error"),
        ("select error('it broke')", "it broke"),
        (" ", "no SQL"),
    ],
)
def test_wrong_sql_is_one_sentence_with_a_hint(data: Path, sql: str, sentence: str) -> None:
    assert sentence in refused("query", sql, "--data", str(data))


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    a_day().write(tmp_path / "archive")
    (tmp_path / "archive" / FEED / DATE / "trade_000.jsonl.gz").unlink()
    said = refused("query", "select count(*) from raw", "--data", str(tmp_path))
    assert "trade_000.jsonl.gz" in said
    assert "No such file" in said


def test_bad_places_are_one_sentence(data: Path, tmp_path: Path) -> None:
    assert "no data folder" in refused("query", "select 1", "--data", str(tmp_path / "nowhere"))
    assert "no folder" in refused("query", "select 1", "--data", str(data), "-o", str(tmp_path / "no" / "x.csv"))
    (tmp_path / "ssmd.json").write_text('{"format": 99}')
    assert "upgrade ssmd" in refused("query", "select 1", "--data", str(tmp_path))


def test_a_failed_query_leaves_no_file(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    sql = "select case when range = 90000 then error('late') else '' end from range(100000)"
    assert "late" in refused("query", sql, "--data", str(data), "-f", "csv", "-o", str(path))
    assert list(tmp_path.iterdir()) == []


def test_a_query_cannot_change_the_views(data: Path) -> None:
    refused("query", "insert into trades select * from trades", "--data", str(data))
    before = sorted(p for p in data.rglob("*") if p.is_file())
    assert ssmd("query", "create table t as from trades", "--data", str(data)).returncode == 0
    assert sorted(p for p in data.rglob("*") if p.is_file()) == before


def test_data_list_says_what_is_there(data: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(build(), ["data", "list", "--data", str(data)])
    heading, line = done.stdout.splitlines()
    assert heading.split() == ["feed", "date", "frames", "size", "sealed", "rolled", "up", "gaps"]
    assert line.split()[:3] == [FEED, DATE, "22"]
    assert line.split()[-3:] == ["yes", "yes", "1"]

    a_day().write(tmp_path / "archive", sealed=False)
    done = CliRunner().invoke(build(), ["data", "list", "--data", str(tmp_path)])
    assert done.stdout.splitlines()[1].split()[-3:] == ["no", "no", "1"]
    manifest = archive.load_manifest(archive.manifest_path(data / "archive", FEED, DATE))
    archive.save_manifest(
        archive.manifest_path(tmp_path / "archive", FEED, DATE), msgspec.structs.replace(manifest, revision=2)
    )
    tables.save_day(tmp_path / "lake", tables.load_day(data / "lake" / tables.manifest_path(FEED, DATE)))
    done = CliRunner().invoke(build(), ["data", "list", "--data", str(tmp_path)])
    assert "outdated" in done.stdout


def test_data_sample_shows_the_venues_own_frames(data: Path) -> None:
    done = CliRunner().invoke(build(), ["data", "sample", FEED, "trade", "-n", "1", "--data", str(data)])
    heading, wire = done.stdout.splitlines()
    assert heading.startswith("trade  2026-08-11 01:00:00.009000027  kalshi-0-")
    assert json.loads(wire)["msg"]["yes_price_dollars"] == "0.5100"
    every = CliRunner().invoke(build(), ["data", "sample", FEED, "--data", str(data)]).stdout
    assert "_bad" in every
    assert "quarantined: not JSON" in every


def test_data_sample_of_what_is_not_there_is_one_sentence(data: Path) -> None:
    assert "nothing of 'nosuch'" in refused("data", "sample", "nosuch", "--data", str(data))
    assert "it has _bad, _gap, _session" in refused("data", "sample", FEED, "nosuch", "--data", str(data))
    assert f"it has {DATE}" in refused("data", "sample", FEED, "--date", "2020-01-01", "--data", str(data))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((FEED, "2026-02-30"), "'2026-02-30' is no date"),
        ((FEED, "yesterda"), "say today or yesterday"),
        (("nosuch", DATE), "no feed 'nosuch'"),
        ((FEED, "2020-01-01"), "nothing of kalshi is archived for 2020-01-01"),
        ((FEED, DATE), "no platform is running on the data folder"),
        ((FEED, DATE, "--local", "--seal"), "no platform is running on the data folder"),
    ],
)
def test_a_rollup_that_cannot_be_is_one_sentence(data: Path, arguments: tuple[str, ...], sentence: str) -> None:
    assert sentence in refused("rollup", *arguments, "--data", str(data))


def test_a_seal_reaches_only_the_folders_own_archiver(data: Path) -> None:
    """Whatever listens on the usual ports belongs to another data folder."""
    assert "no platform is running on the data folder" in refused("seal", FEED, "today", "--data", str(data))


def test_every_refusal_is_one_of_ours(data: Path) -> None:
    with pytest.raises(SsmdError):
        query(data, "selec 1")
