"""However many rows an hour has, of however few symbols: in order, the same bytes, within the memory that was given."""

import multiprocessing
import random
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from activities import columns
from activities.spool import Spool
from ssmd import tables
from ssmd.config import Precision

SCHEMA = tables.schema("trades", Precision(price=4, size=2))
Row = tuple[str, int, str, int, int]  # symbol, ts_recv, conn, n, item


def batch(rows: list[Row]) -> pa.RecordBatch:
    symbols, times, conns, numbers, items = map(list, zip(*rows, strict=True))
    values = {"symbol": symbols, "item": items, "price": ["0.5"] * len(rows), "trade_id": [str(n) for n in numbers]}
    return columns.batch(SCHEMA, pa.array(times, pa.int64()), conns, numbers, values)


row = st.tuples(
    st.sampled_from(["b", "a", "KXM-É", "z"]),
    st.integers(0, 3),
    st.sampled_from(["c2", "c1", "c9"]),
    st.integers(1, 40),
    st.integers(0, 2),
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(row, unique_by=lambda r: r[2:], min_size=1, max_size=120), st.integers(1, 50), st.data())
def test_rows_come_out_in_order_however_they_came_in(
    tmp_path: Path, rows: list[Row], size: int, data: st.DataObject
) -> None:
    made = []
    for spilling in (False, True):
        with Spool(SCHEMA, "kalshi", tmp_path) as spool:
            for i in range(0, len(rows), size):
                spool.append(batch(rows[i : i + size]))
                if spilling and data.draw(st.booleans()):
                    spool.spill()
            groups = list(spool.row_groups(16))
        assert [g.num_rows for g in groups[:-1]] == [16] * (len(groups) - 1)
        made.append([r for g in groups for r in g.to_pylist()])
    assert [tuple(r[k] for k in tables.SORT) for r in made[0]] == sorted((r[0], *r[1:]) for r in rows)
    assert made[0] == made[1]
    assert all(r["trade_id"] == str(r["n"]) for r in made[0])


def test_nothing_of_the_way_in_shows_in_the_file(tmp_path: Path) -> None:
    rows = [("one", 5 * i, "c", i, 0) for i in range(30_000)]
    mixed = random.Random(1).sample(rows, len(rows))
    files = []
    for some, size, spills in ((rows, 30_000, 0), (rows, 1000, 1), (mixed, 700, 5), (mixed, 30_000, 0)):
        with Spool(SCHEMA, "kalshi", tmp_path) as spool:
            for place, i in enumerate(range(0, len(some), size), 1):
                spool.append(batch(some[i : i + size]))
                if spills and place % spills == 0:
                    spool.spill()
            path = tmp_path / "made.parquet"
            with pq.ParquetWriter(path, SCHEMA, write_page_checksum=True) as writer:
                for group in spool.row_groups(8192):
                    writer.write_table(group, row_group_size=8192)
        files.append(path.read_bytes())
    assert len(set(files)) == 1


ROWS = 1_000_000
HELD_BYTES = 8 << 20


def high_water_bytes() -> int:
    """The most memory this process has had; getrusage would count what its parent had before it."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) << 10


def peak_bytes(folder: Path, spilling: bool) -> int:
    """How much more memory a process takes for sorting a million rows of one symbol."""
    batch([("one", 0, "c", 0, 0)])
    before = high_water_bytes()
    with Spool(SCHEMA, "kalshi", folder) as spool:
        for start in range(0, ROWS, 10_000):
            spool.append(batch([("one", i, "c", i, 0) for i in range(start, start + 10_000)]))
            if spilling and spool.held_bytes > HELD_BYTES:
                spool.spill()
        assert sum(group.num_rows for group in spool.row_groups(1 << 17)) == ROWS
    return high_water_bytes() - before


@pytest.mark.parametrize("spilling", [True, False])
def test_a_symbol_with_a_million_rows_takes_no_more_memory_than_is_given(tmp_path: Path, spilling: bool) -> None:
    """Four times of what is held, and a row group; without spilling, the control, it takes a multiple."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        taken = pool.apply(peak_bytes, (tmp_path, spilling))
    assert (taken < 12 * HELD_BYTES) == spilling, f"{taken >> 20} MB"
