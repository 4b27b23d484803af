"""What was known at any time is found again: against a model that simply keeps everything."""

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import ssmd.lake
from ssmd import versions

SYMBOLS = [f"S{n}" for n in range(5)]
STATES = st.sampled_from(["open", "paused", "closed", "settled"])
SYNCS = st.lists(st.dictionaries(st.sampled_from(SYMBOLS), STATES, max_size=5), min_size=1, max_size=40)


def row(symbol: str, status: str, at: int, change: str) -> dict[str, Any]:
    told = {"symbol": symbol, "status": status, "series": [], "valid_from": at, "change": change, "raw": "{}"}
    return told | {"digest": versions.digest(status)}


@settings(max_examples=15)
@given(SYNCS, st.integers(0, 10**6))
def test_every_moment_is_found_again(syncs: list[dict[str, str]], at: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lake = Path(folder) / "lake"
        model: list[tuple[int, str, str]] = []
        for number, states in enumerate(syncs, 1):
            now = number * 1000
            before = versions.load(lake, versions.INSTRUMENTS, "f")
            known = versions.known(lake, versions.INSTRUMENTS, before, ("status",))
            latest = {symbol: status for _, symbol, status in model}
            assert {symbol: one.also[0] for (symbol,), one in known.items()} == latest
            new = {s: status for s, status in states.items() if latest.get(s) != status}
            rows = [row(s, status, now, "changed" if s in latest else "listed") for s, status in new.items()]
            with versions.lock(lake, versions.INSTRUMENTS, "f", "a test"):
                some = [versions.made(versions.INSTRUMENTS, before, rows)] if rows else []
                after = versions.publish(lake, versions.INSTRUMENTS, before, some, now, whole=True, full=False)
            assert after.revision == before.revision + bool(rows)
            model += [(now, s, status) for s, status in new.items()]
        manifest = versions.load(lake, versions.INSTRUMENTS, "f")
        assert len(manifest.files) < 2 * versions.MERGE_FILES
        lake_connection = ssmd.lake.connect(folder)
        for moment in (0, at % (1000 * len(syncs) + 2000), 1000 * len(syncs)):
            then = {symbol: status for since, symbol, status in model if since <= moment}
            found = lake_connection.execute(f"SELECT symbol, status FROM instruments_as_of({moment})").fetchall()
            assert dict(found) == then and len(found) == len(then)
        every = lake_connection.execute("SELECT valid_from, symbol, status FROM instrument_versions").fetchall()
        assert sorted(every) == sorted(model)
        kept = {file.path for file in manifest.files} | {one.path for one in manifest.merged}
        assert kept == {str(path.relative_to(lake)) for path in lake.rglob("*.parquet")}


def test_merged_files_go_after_a_day(tmp_path: Path) -> None:
    lake, table = tmp_path / "lake", versions.INSTRUMENTS
    for number in range(1, versions.MERGE_FILES + 1):
        before = versions.load(lake, table, "f")
        new = versions.made(table, before, [row(f"S{number}", "open", number, "listed")])
        versions.publish(lake, table, before, [new], number, whole=True, full=True)
    manifest = versions.load(lake, table, "f")
    assert len(manifest.files) == 1 and len(list(lake.rglob("*.parquet"))) == versions.MERGE_FILES + 1
    later = versions.KEEP_MERGED_NS + versions.MERGE_FILES + 1
    versions.publish(lake, table, manifest, [], later, whole=True, full=True)
    assert len(list(lake.rglob("*.parquet"))) == 1
    assert len(versions.known(lake, table, versions.load(lake, table, "f"))) == versions.MERGE_FILES
