"""Any flipped bit and any truncation of anything we keep is found by the scrub, and no query gives it as an answer."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from activities.processes import Processes
from ssmd import archive, checked_json, journal, lake, tables, versions
from ssmd.archive import Cursor, Manifest
from ssmd.errors import Permanent
from tests.lake.archives import DATE, FEED
from tests.lake.captures import NEXT, captured, listed, same, verify

DAMAGES, DAMAGES_FULL = 45, 360
UNARCHIVED = 3  # the journal's last records, which nothing else knows of
Answers = dict[str, bytes | None]


@dataclass(frozen=True)
class Damage:
    """What is done to a file."""

    kind: str
    path: Path
    what: str
    content: bytes

    @property
    def date(self) -> str:
        return NEXT if NEXT in str(self.path) else DATE


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    with Processes(2) as pool:
        yield pool


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, processes: Processes) -> Path:
    folder = listed(captured(tmp_path_factory.mktemp("data"), processes))
    for date in (DATE, NEXT):
        assert verify(folder, processes, date) == [], "undamaged"
    return folder


def test_every_flip_and_cut_is_found_and_none_is_served(
    data: Path, processes: Processes, full: bool, seed: int, reliability: Callable[[str, str, str], None]
) -> None:
    dice = random.Random(seed)
    right = answers(data)
    assert all(right.values())
    done, refused, unseen = Counter[str](), Counter[str](), Counter[str]()
    served_unchecked = 0
    for damage in damages(data, dice, DAMAGES_FULL if full else DAMAGES):
        whole = damage.path.read_bytes()
        damage.path.write_bytes(damage.content)
        try:
            found = {finding.path for finding in verify(data, processes, damage.date)}
            assert str(damage.path.relative_to(data)) in found, f"{damage.what} was not found (seed {seed})"
            given = answers(data)
            wrong = [view for view, answer in given.items() if answer not in {None, right[view]}]
            assert not wrong, f"{damage.what} was served by {wrong} (seed {seed})"
            assert_journal_gives_only_what_was_written(damage, whole)
            refused[damage.kind] += None in given.values()
            if damage.kind in {"archive segment", "Parquet"} and not in_footer(whole, damage.content):
                unchecked = answers(data, check=False)
                served_unchecked += any(answer not in {None, right[view]} for view, answer in unchecked.items())
            unseen[damage.kind] += passes_without_checksums(damage)
        finally:
            damage.path.write_bytes(whole)
        done[damage.kind] += 1
    assert answers(data) == right, "mended, it is served again"
    assert min(done.values()) >= 5
    assert sum(unseen.values()) > 0, "the control: without our checksums some of it looks whole"
    kinds = ", ".join(f"{count} {kind}" for kind, count in done.items())
    reliability(
        "Any flipped bit or truncation is found, and none served",
        f"{done.total()} of {done.total()} found, 0 served ({kinds}; {refused.total()} refused by a query)",
        f"hash check off: {served_unchecked} served wrong; checksums off: {unseen.total()} look whole",
    )


def test_a_bit_flipped_after_a_query_is_not_served_by_the_next(data: Path, seed: int) -> None:
    """What was hashed is remembered; a change of the same size makes it be hashed again."""
    dice = random.Random(seed)
    right = answers(data)["trades"]
    assert right is not None
    known = checked_json.decode((data / "run" / "whole.json").read_bytes(), _Remembered)
    for path in sorted((data / "lake" / "trades").rglob("*.parquet")):
        assert str(path.relative_to(data)) in known.files
        whole = path.read_bytes()
        path.write_bytes(flipped(whole, dice))
        assert answers(data)["trades"] is None
        path.write_bytes(whole)
        assert answers(data)["trades"] == right


def test_with_the_hash_check_off_some_are_served(data: Path, seed: int) -> None:
    """The control: DuckDB itself looks at no checksum."""
    dice = random.Random(seed)
    right = answers(data)
    files = [*(data / "lake").rglob("*.parquet"), *(data / "archive").rglob("*.jsonl.gz")]
    for _ in range(500):
        path = dice.choice(files)
        whole = path.read_bytes()
        content = flipped(whole, dice)
        if in_footer(whole, content):
            continue
        path.write_bytes(content)
        given = answers(data, check=False)
        path.write_bytes(whole)
        if any(answer not in {None, right[view]} for view, answer in given.items()):
            return
    pytest.fail(f"none of 500 flipped bits was served with the check off (seed {seed})")


class _Remembered(msgspec.Struct):
    files: dict[str, tuple[str, tuple[int, int, int, int]]]


# ------------------------------------------------------------------------------------------------------------ damage


def damages(data: Path, dice: random.Random, count: int) -> Iterator[Damage]:
    """Flips and truncations, of every kind of file in turn."""
    files: dict[str, list[Path]] = {
        "journal segment": sorted((data / "journal" / FEED).glob("*.journal")),
        "archive segment": sorted((data / "archive" / FEED).glob("*/*.jsonl.gz")),
        "open part": sorted((data / "archive" / FEED).glob("*/*.part")),
        "archive manifest": sorted((data / "archive" / FEED).glob("*/manifest.json")),
        "cursor": [archive.cursor_path(data / "archive", FEED)],
        "Parquet": sorted((data / "lake").rglob("date=*/*.parquet")),
        "lake manifest": [data / "lake" / tables.manifest_path(FEED, DATE)],
        "instruments and fees": sorted(path for table in versions.TABLES for path in of_versions(data, table)),
        "their manifest": [versions.manifest_path(data / "lake", table, FEED) for table in versions.TABLES],
    }
    assert all(files.values())
    for i in range(count):
        kind = list(files)[i % len(files)]
        path = dice.choice(files[kind])
        whole = path.read_bytes()
        if i // len(files) % 3 < 2:
            content = flipped(whole, dice)
            at = next(k for k in range(len(whole)) if whole[k] != content[k])
            yield Damage(kind, path, f"{path.name}: a bit of byte {at} flipped", content)
        else:
            cut = dice.randrange(len(whole))
            while kind == "journal segment" and cut_unknown_to_all(files[kind], path, whole, cut):
                cut = dice.randrange(len(whole))
            yield Damage(kind, path, f"{path.name}: cut to {cut} of {len(whole)} bytes", whole[:cut])


def of_versions(data: Path, table: versions.Table) -> Iterator[Path]:
    """The table's files, those that were merged included."""
    return (data / "lake" / versions.folder(table, FEED)).glob("*.parquet")


def flipped(whole: bytes, dice: random.Random) -> bytes:
    content = bytearray(whole)
    content[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
    return bytes(content)


def in_footer(whole: bytes, content: bytes) -> bool:
    """Whether the damage is in a Parquet file's footer: what DuckDB makes of that unchecked may take it down."""
    if whole[:4] != b"PAR1" or len(whole) != len(content):
        return whole[:4] == b"PAR1"
    at = next(i for i in range(len(whole)) if whole[i] != content[i])
    return at < 4 or at >= len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")


def cut_unknown_to_all(files: list[Path], path: Path, whole: bytes, cut: int) -> bool:
    """Exactly between records that were never published: then the journal is as if they had never been written."""
    return path == files[-1] and cut > 0 and whole[cut - 1 : cut] == b"\n" and whole[cut:].count(b"\n") <= UNARCHIVED


# ----------------------------------------------------------------------------------------------------------- answers


def answers(data: Path, *, check: bool = True) -> Answers:
    """Everything each view gives; None where it refuses."""
    given: Answers = dict.fromkeys(lake.VIEWS)
    try:
        connection = lake.connect(data, verify=None if check else False)
    except (Permanent, duckdb.Error):
        return given
    with connection:
        for view in lake.VIEWS:
            try:
                given[view] = same(connection.execute(f"from {view} order by all").fetchall())
            except duckdb.Error:
                given[view] = None
    return given


def assert_journal_gives_only_what_was_written(damage: Damage, whole: bytes) -> None:
    if damage.kind == "journal segment":
        written = set(map(journal.decode, whole.splitlines()))
        assert {record for _, record in journal.read(damage.path) if record is not None} <= written


def passes_without_checksums(damage: Damage) -> bool:
    """The control: whether a reader that trusts the format alone would take the damaged file for whole."""
    kinds = {
        "archive manifest": Manifest,
        "cursor": Cursor,
        "lake manifest": tables.LakeDay,
        "their manifest": versions.Manifest,
    }
    try:
        if damage.kind in kinds:
            msgspec.json.decode(damage.content, type=kinds[damage.kind])
        elif damage.kind in {"Parquet", "instruments and fees"}:
            pq.ParquetFile(damage.path).read()
        elif damage.kind in {"archive segment", "open part"}:
            list(archive.read_segment(damage.path))
        else:
            [line.split(b" ", 2)[1].decode() for line in damage.content.splitlines()]
    except (msgspec.DecodeError, UnicodeDecodeError, pa.ArrowException, OSError, Permanent, IndexError):
        return False
    return True
