"""The scrub names what is damaged, where, and what can mend it; and finds nothing where nothing is."""

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest
from isal import igzip
from temporalio.testing import ActivityEnvironment

from activities.processes import Processes, Stopped
from activities.scrub.archive import archive_day
from activities.scrub.findings import FINDINGS_MAX, DayTask, Findings
from activities.scrub.numbers import Numbers
from activities.verify import Verify
from services.archiver.store import Store
from ssmd import __version__, archive, checked_json, config, frames, jobs, journal, tables, versions
from ssmd.errors import Permanent
from tests.lake.archives import DATE, FEED, GOLD, ArchivedDay, a_day
from tests.lake.captures import CONNECTIONS, NEXT, add_versions, captured, listed, manifest, roll_up, verify

DAY_FOLDER = f"archive/{FEED}/{DATE}"


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    with Processes(2) as pool:
        yield pool


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, processes: Processes) -> Path:
    return listed(captured(tmp_path_factory.mktemp("original"), processes))


@pytest.fixture
def data(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "data"))


@pytest.fixture
def findings(data: Path, processes: Processes) -> Callable[..., list[jobs.Finding]]:
    return lambda date=DATE: verify(data, processes, date)


Scrub = Callable[..., list[jobs.Finding]]


def flip(path: Path, at: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 1
    path.write_bytes(content)


def resave(data: Path, change: Callable[[archive.Manifest], archive.Manifest]) -> None:
    """Another manifest, whole in itself: what a fault of the archiver would write."""
    archive.save_manifest(archive.manifest_path(data / "archive", FEED, DATE), change(manifest(data)))


def reseal_segment(data: Path, name: str, content: bytes, **more: object) -> None:
    """Another segment under its name, with the hash that fits."""
    (data / DAY_FOLDER / name).write_bytes(content)
    now = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), **more}

    def change(m: archive.Manifest) -> archive.Manifest:
        segments = [msgspec.structs.replace(s, **now) if s.name == name else s for s in m.segments]
        return msgspec.structs.replace(m, segments=segments)

    resave(data, change)


def tree(data: Path) -> dict[str, tuple[bytes, int]]:
    found = (p for p in data.rglob("*") if p.is_file())
    return {str(p.relative_to(data)): (p.read_bytes(), p.stat().st_mtime_ns) for p in found}


def test_what_is_whole_gives_no_finding_and_nothing_is_changed(data: Path, findings: Scrub) -> None:
    before = tree(data)
    assert findings(DATE) == findings(NEXT) == []
    assert tree(data) == before


def test_everything_is_looked_at(data: Path, processes: Processes) -> None:
    steps, step = Verify(config.Places(data), processes), ActivityEnvironment().run
    day = jobs.Scrub(FEED, DATE)
    found = step(steps.scrub_archive, day)
    assert (found.frames, found.files) == (manifest(data).frames, len(manifest(data).segments))
    assert found.bytes == sum(s.bytes for s in manifest(data).segments)
    lake = step(steps.scrub_lake, day, found)
    assert lake.hours == [1, 2, 3, 23]
    assert lake.files == len(list((data / "lake").rglob("date=*/*.parquet")))
    known = step(steps.scrub_versions, day)
    assert (known.files, known.frames) == (4, 2 * 2 * (versions.MERGE_FILES + 1)), "two of each, others were merged"
    again = [step(steps.make_again, jobs.Hour(FEED, DATE, hour, lake.revision)) for hour in lake.hours]
    assert sum(a.frames for a in again) == found.frames
    assert sum(a.files for a in again) == lake.files
    kept = step(steps.scrub_journal, day)
    assert kept.bytes == sum(p.stat().st_size for p in (data / "journal").rglob("*.journal"))
    assert kept.frames == sum(p.read_bytes().count(b"\n") for p in (data / "journal").rglob("*.journal"))


# --------------------------------------------------------------------------------------------------------- archive


def test_a_damaged_segment_whose_frames_the_journal_has_is_mended_by_it(data: Path, findings: Scrub) -> None:
    path = data / DAY_FOLDER / "trade_002.jsonl.gz"
    lines = [frames.parse(line) for line in igzip.decompress(path.read_bytes()).splitlines()]
    flip(path, 0.01)
    [found] = findings()
    assert (found.kind, found.path, found.mend) == ("segment", f"{DAY_FOLDER}/trade_002.jsonl.gz", "journal")
    assert "gzip member 1 is damaged" in found.what
    assert found.where.startswith("bytes 0-")
    assert f"{lines[0].conn} n {lines[0].n}" in found.where
    assert f"journal/{FEED}" in found.advice


def test_without_the_journal_only_a_second_copy_mends_it(data: Path, findings: Scrub) -> None:
    shutil.rmtree(data / "journal")
    flip(data / DAY_FOLDER / "trade_002.jsonl.gz", 0.01)
    [found] = findings()
    assert found.mend == "second-copy"
    assert "the journal holds 0" in found.advice


def test_members_behind_a_damaged_one_are_still_read(data: Path, processes: Processes) -> None:
    segment = next(s for s in manifest(data).segments if s.name == "orderbook_delta_001.jsonl.gz")
    assert segment.members > 3
    flip(data / DAY_FOLDER / segment.name, 0.4)
    found = ActivityEnvironment().run(Verify(config.Places(data), processes).scrub_archive, jobs.Scrub(FEED, DATE))
    lost = manifest(data).frames - found.frames
    assert 0 < lost <= segment.records / 2


@pytest.mark.parametrize("name", ["trade_001.jsonl.gz", "_session_000.jsonl.gz"])
def test_a_missing_segment_is_named(data: Path, findings: Scrub, name: str) -> None:
    (data / DAY_FOLDER / name).unlink()
    found = findings()
    assert (f"{DAY_FOLDER}/{name}", "is missing") in [(f.path, f.what) for f in found]


def test_a_cut_between_members_is_found_though_it_reads_clean(data: Path, findings: Scrub) -> None:
    path = data / DAY_FOLDER / "trade_001.jsonl.gz"
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"\x1f\x8b\x08")])
    igzip.decompress(path.read_bytes())
    [found] = findings()
    assert found.path.endswith("trade_001.jsonl.gz")
    assert "gzip members: " in found.what
    assert "bytes instead of" in found.what


@pytest.mark.parametrize(
    ("line", "named"),
    [(b"no JSON at all\n", "line 2 is no frame line"), (b"\n", "line 2"), (b'{"seq":1,"ts_recv":5}\n', "line 2")],
)
def test_a_line_that_is_no_frame_is_named_though_every_hash_fits(
    data: Path, findings: Scrub, line: bytes, named: str
) -> None:
    name = "_session_000.jsonl.gz"
    lines = igzip.decompress((data / DAY_FOLDER / name).read_bytes()).splitlines(keepends=True)
    raw = b"".join([lines[0], line, *lines[2:]])
    reseal_segment(data, name, igzip.compress(raw), raw_bytes=len(raw), members=1)
    found = next(f for f in findings() if f.path.endswith(name))
    assert named in found.what


def test_a_frame_archived_twice_is_named(data: Path, findings: Scrub) -> None:
    name = "_session_000.jsonl.gz"
    content = (data / DAY_FOLDER / name).read_bytes()
    lines = igzip.decompress(content).splitlines()
    before = next(s for s in manifest(data).segments if s.name == name)
    doubled = content + igzip.compress(lines[0] + b"\n")
    reseal_segment(data, name, doubled, records=before.records + 1, members=before.members + 1, raw_bytes=9)
    first = frames.parse(lines[0])
    twice = next(f for f in findings() if f.kind == "numbers")
    assert (twice.what, twice.where) == ("frames are archived twice", f"{first.conn} n {first.n}")


def test_a_hole_counts_only_if_the_manifest_does_not_name_it(data: Path, findings: Scrub) -> None:
    """The last frame of an archive's connection taken away, as if it had never come."""
    name = "control_000.jsonl.gz"
    line, other = (frames.parse(x) for x in igzip.decompress((data / DAY_FOLDER / name).read_bytes()).splitlines())
    gone = next(s for s in manifest(data).segments if s.name == name)
    (data / DAY_FOLDER / name).unlink()

    def without(m: archive.Manifest, holes: archive.Ranges) -> archive.Manifest:
        segments = [s for s in m.segments if s.name != name]
        counts = {channel: count for channel, count in m.counts.items() if channel != gone.channel}
        symbols = m.symbols | {s: m.symbols[s] - n for s, n in gone.symbols.items()}
        connections = [
            msgspec.structs.replace(c, frames=c.frames - 1, holes=holes) if c.conn in {line.conn, other.conn} else c
            for c in m.connections
        ]
        return msgspec.structs.replace(m, segments=segments, counts=counts, symbols=symbols, connections=connections)

    resave(data, lambda m: without(m, [(line.n, line.n)]))
    assert [f.kind for f in findings()] == ["inputs"], "the lake was made from that segment too"
    resave(data, lambda m: msgspec.structs.replace(without(m, []), segments=manifest(data).segments))
    # `without` subtracts anew, so only the holes and counts of connections are of interest here
    found = [f for f in findings() if f.what == "frames are missing that no manifest names as missing"]
    assert {f.where for f in found} == {f"{line.conn} n {line.n}", f"{other.conn} n {other.n}"}


def test_a_connection_that_no_manifest_names_is_found(data: Path, findings: Scrub) -> None:
    resave(data, lambda m: msgspec.structs.replace(m, connections=m.connections[1:]))
    found = next(f for f in findings() if f.kind == "numbers")
    assert found.what == "frames of a connection that the day does not name"
    assert found.where.startswith(CONNECTIONS[0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"counts": {"trade": 1}}, "the channels' counts are"),
        ({"symbols": {GOLD: 3}}, "the symbols' counts"),
        ({"quarantined": {}}, "named as quarantined"),
        ({"date": NEXT}, f"it is that of {FEED} {NEXT}"),
    ],
)
def test_a_manifest_that_disagrees_with_itself_is_found(
    data: Path, findings: Scrub, change: dict[str, object], said: str
) -> None:
    resave(data, lambda m: msgspec.structs.replace(m, **change))
    assert [f for f in findings() if f.kind == "manifest" and said in f.what]


def test_a_damaged_manifest_or_cursor_is_found(data: Path, findings: Scrub) -> None:
    for path in (data / DAY_FOLDER / "manifest.json", archive.cursor_path(data / "archive", FEED)):
        whole = path.read_bytes()
        path.write_bytes(whole.replace(b"0.1.0", b"0.1.1").replace(b'"seq":', b'"seq":1', 1))
        assert [(f.path, f.mend) for f in findings()] == [(str(path.relative_to(data)), "second-copy")]
        path.write_bytes(whole)


def test_strays_are_found_and_what_is_being_written_is_not(data: Path, findings: Scrub) -> None:
    (data / DAY_FOLDER / "trade_777.jsonl.gz").write_bytes(b"")
    (data / DAY_FOLDER / ".manifest.json.123.tmp").write_bytes(b"half a mani")
    part = data / "archive" / FEED / NEXT / "trade_000.jsonl.gz.part"
    part.write_bytes(part.read_bytes() + b"\x1f\x8b\x08 a member that no cursor counts yet")
    assert [(f.kind, f.path) for f in findings()] == [("stray", f"{DAY_FOLDER}/trade_777.jsonl.gz")]
    assert findings(NEXT) == []


def test_an_open_part_is_held_to_the_cursor(data: Path, findings: Scrub) -> None:
    part = data / "archive" / FEED / NEXT / "trade_000.jsonl.gz.part"
    flip(part, 0.9)
    [found] = findings(NEXT)
    assert (found.kind, found.mend) == ("part", "journal")
    part.unlink()
    [found] = findings(NEXT)
    assert found.what == "is missing"


# ------------------------------------------------------------------------------------------------------------ lake


def test_a_damaged_table_is_mended_by_a_rollup(data: Path, findings: Scrub, processes: Processes) -> None:
    path = max((data / "lake" / "tickers").rglob("*.parquet"))
    pages = pq.ParquetFile(path).metadata.row_group(0).column(0)
    flip(path, (pages.data_page_offset + pages.total_compressed_size - 1) / path.stat().st_size)
    [found] = findings()
    assert (found.kind, found.path, found.mend) == ("parquet", str(path.relative_to(data)), "lake-rebuild")
    assert found.where == "row group 0, column ts_recv"
    assert f"ssmd rollup {FEED} {DATE}" in found.advice
    roll_up(data, processes, jobs.Day(FEED, DATE))
    assert findings() == []


def test_a_table_of_a_damaged_archive_needs_that_mended_first(data: Path, findings: Scrub) -> None:
    flip(max((data / "lake" / "tickers").rglob("*.parquet")))
    flip(data / DAY_FOLDER / "trade_002.jsonl.gz")
    parquet = next(f for f in findings() if f.kind == "parquet")
    assert parquet.mend == "second-copy"


def test_a_table_that_the_archive_does_not_give_is_found_though_every_hash_fits(data: Path, findings: Scrub) -> None:
    day = tables.load_day(data / "lake" / tables.manifest_path(FEED, DATE))
    one, other = (next(f for f in day.files if tables.hour_of(f) == hour and f.table == "trades") for hour in (1, 2))
    content = (data / "lake" / other.path).read_bytes()
    (data / "lake" / one.path).write_bytes(content)
    swapped = msgspec.structs.replace(one, rows=other.rows, bytes=other.bytes, sha256=other.sha256)
    events = day.events | {"trades": day.events["trades"] + other.rows - one.rows}
    files = [swapped if f == one else f for f in day.files]
    tables.save_day(data / "lake", msgspec.structs.replace(day, files=files, events=events))
    [found] = findings()
    assert (found.kind, found.path, found.where) == ("derivation", f"lake/{one.path}", "01:00")


def test_tables_made_from_other_segments_are_found(data: Path, findings: Scrub) -> None:
    day = tables.load_day(data / "lake" / tables.manifest_path(FEED, DATE))
    inputs = day.inputs | {"trade_001.jsonl.gz": "0" * 64}
    tables.save_day(data / "lake", msgspec.structs.replace(day, inputs=inputs))
    [found] = findings()
    assert (found.kind, found.where) == ("inputs", "trade_001.jsonl.gz")


def test_tables_older_than_the_archive_are_no_damage(data: Path, findings: Scrub) -> None:
    """Late frames made a new revision; the tables are still what their own segments give."""
    resave(data, lambda m: msgspec.structs.replace(m, revision=m.revision + 1))
    assert findings() == []


def test_a_damaged_lake_manifest_is_found(data: Path, findings: Scrub) -> None:
    path = data / "lake" / tables.manifest_path(FEED, DATE)
    path.write_bytes(path.read_bytes().replace(__version__.encode(), b"9.9.9"))
    [found] = findings()
    assert (found.kind, found.mend) == ("lake manifest", "lake-rebuild")


# --------------------------------------------------------------------------------------------------------- journal


def journal_segment(data: Path, number: int) -> Path:
    return sorted((data / "journal" / FEED).glob("*.journal"))[number]


def test_a_damaged_record_is_named_with_its_frame(data: Path, findings: Scrub) -> None:
    path = journal_segment(data, 4)
    lines = path.read_bytes().splitlines(keepends=True)
    record = journal.decode(lines[3][:-1])
    assert record is not None
    lost = frames.parse(record.message)
    start = len(b"".join(lines[:3]))
    lines[3] = lines[3].replace(b'"frame"', b'"fRame"')
    path.write_bytes(b"".join(lines))
    [found] = findings()
    assert (found.kind, found.path, found.mend) == ("journal", f"journal/{FEED}/{path.name}", "none")
    assert found.where == f"bytes {start}-{start + len(lines[3])}; {lost.conn} n {lost.n}"
    assert found.advice == "nothing is lost: the archive has these frames"


def test_a_damaged_record_that_the_archive_lacks_is_lost(data: Path, findings: Scrub) -> None:
    path = journal_segment(data, -1)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[-2] = lines[-2].replace(b'"frame"', b'"fRame"')
    path.write_bytes(b"".join(lines))
    [found] = findings()
    assert found.mend == "second-copy"
    assert found.where.split("; ")[1].startswith(CONNECTIONS[2])


def test_a_checksum_in_capitals_is_a_flipped_bit(data: Path, findings: Scrub) -> None:
    path = journal_segment(data, 2)
    lines = path.read_bytes().splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if line[:8] != line[:8].upper())
    lines[at] = lines[at][:8].upper() + lines[at][8:]
    path.write_bytes(b"".join(lines))
    assert [f.kind for f in findings()] == ["journal"]


def test_a_torn_tail_is_found(data: Path, findings: Scrub) -> None:
    path = journal_segment(data, -1)
    path.write_bytes(path.read_bytes()[:-5])
    [found] = findings()
    assert (found.what, found.mend) == ("ends in half a record", "none")


@pytest.mark.parametrize("number", [1, 5, -1])
def test_a_cut_between_records_is_found_by_what_comes_after(data: Path, findings: Scrub, number: int) -> None:
    path = journal_segment(data, number)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:4]))
    found = findings()
    assert {f.path for f in found} == {f"journal/{FEED}/{path.name}"}
    assert found


def test_an_emptied_or_missing_segment_is_found_and_freed_ones_are_not(data: Path, findings: Scrub) -> None:
    journal_segment(data, 0).unlink()
    assert findings() == [], "the oldest was freed"
    path = journal_segment(data, 3)
    path.write_bytes(b"")
    assert f"journal/{FEED}/{path.name}" in {f.path for f in findings()}


# --------------------------------------------------------------------------------------------------- how it behaves


def test_a_day_that_is_not_there_is_refused(data: Path, processes: Processes) -> None:
    steps, step = Verify(config.Places(data), processes), ActivityEnvironment().run
    with pytest.raises(Permanent, match="nothing of kalshi is archived for 2026-01-01"):
        step(steps.scrub_archive, jobs.Scrub(FEED, "2026-01-01"))
    with pytest.raises(Permanent, match="no date"):
        step(steps.scrub_archive, jobs.Scrub(FEED, "2026-1-1"))
    with pytest.raises(Permanent, match="no feed 'nosuch'"):
        step(steps.scrub_archive, jobs.Scrub("nosuch", DATE))


def test_a_handmade_day_without_cursor_and_journal_is_whole(tmp_path: Path, processes: Processes) -> None:
    a_day().write(tmp_path / "archive", per_segment=4)
    assert verify(tmp_path, processes) == []


def test_findings_stay_few_enough_for_temporal(tmp_path: Path) -> None:
    found = Findings(tmp_path)
    for i in range(3 * FINDINGS_MAX):
        found.add("stray", tmp_path / str(i), "no manifest names it", "", "none", "")
    assert (len(found.kept), found.more) == (FINDINGS_MAX, 2 * FINDINGS_MAX)
    largest = [replace(f, where="x" * 600) for f in found.kept]
    assert len(msgspec.json.encode(jobs.Scrubbed(findings=largest))) < 64 << 10


def test_it_stops_when_told(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "board"
    path.write_bytes(bytes(8) + b"\x01" + bytes(7))
    with pytest.raises(Stopped):
        archive_day(DayTask(config.Places(data), FEED, DATE, []), path)


def test_numbers_become_ranges_in_any_order() -> None:
    numbers = Numbers()
    for n in (5, 6, 7, 1, 2, 9, 8, 2):
        numbers.add(n)
    assert numbers.ranges == [(1, 2), (5, 9)]
    assert numbers.holds(5, 9)
    assert not numbers.holds(2, 5)


def test_a_running_archiver_gives_no_false_finding(tmp_path: Path, processes: Processes) -> None:
    """Commits, rotations and seals go on while the scrub reads; the journal is always ahead."""
    stop = threading.Event()
    day = ArchivedDay().at(1)
    done = [0]

    def capture() -> None:
        kept = journal.Journal(tmp_path / "journal" / FEED, 20_000)
        store = Store(tmp_path / "archive", FEED)
        store.recover()
        while not stop.is_set():
            for _ in range(7):
                day.trade(GOLD, "0.5100", "1.00").ticker(GOLD, "0.5100", "0.2800", "0.5100")
            came = sorted((frames.parse(line).n, c, line) for c, some in day.lines.items() for _, line in some)
            day.lines.clear()
            for n, channel, line in came:
                message = b"{" + line.partition(b",")[2]
                subject = f"local.{FEED}.json.{channel}.x".encode()
                kept.append(day.conn, n, n, [journal.encode(subject, message)])
                store.add(n, channel, GOLD, message)
            done[0] += 1
            begun = store.begin(store.of_day(None) if done[0] % 3 == 0 else [], [DATE] if done[0] % 7 == 0 else [])
            assert begun is not None
            store.write(begun)
        kept.close()
        store.close()

    thread = threading.Thread(target=capture)
    thread.start()
    try:
        while done[0] < 3:
            time.sleep(0.01)
        for _ in range(12):
            before = done[0]
            assert verify(tmp_path, processes) == []
            while done[0] == before:
                time.sleep(0.001)
    finally:
        stop.set()
        thread.join()
    assert done[0] > 12
    assert verify(tmp_path, processes) == []


# -------------------------------------------------------------------------------------------- instruments and fees

TABLES = pytest.mark.parametrize("table", versions.TABLES, ids=lambda t: t.name)


def known(data: Path, table: versions.Table) -> versions.Manifest:
    return versions.load(data / "lake", table, FEED)


def refile(data: Path, table: versions.Table, **changed: object) -> None:
    """Another manifest, whole in itself: what a fault of the sync would write."""
    path = versions.manifest_path(data / "lake", table, FEED)
    path.write_bytes(checked_json.encode(msgspec.structs.replace(known(data, table), **changed)))


@TABLES
def test_a_damaged_or_missing_file_of_versions_needs_a_second_copy(
    data: Path, findings: Scrub, table: versions.Table
) -> None:
    flipped, gone = [data / "lake" / f.path for f in known(data, table).files]
    flip(flipped)
    gone.unlink()
    first, second = sorted(findings(), key=lambda f: f.what)
    assert (first.path, first.what) == (str(gone.relative_to(data)), "is missing")
    assert (second.kind, second.path, second.mend) == ("parquet", str(flipped.relative_to(data)), "second-copy")
    assert "SHA-256" in second.what and "published" in second.advice


@TABLES
def test_a_damaged_manifest_of_versions_is_named(data: Path, findings: Scrub, table: versions.Table) -> None:
    path = versions.manifest_path(data / "lake", table, FEED)
    flip(path)
    [found] = findings()
    assert (found.kind, found.path) == ("versions manifest", str(path.relative_to(data)))
    assert found.what.startswith("is damaged: ")
    path.unlink()
    [found] = findings()
    assert found.what == "is missing, but files of its table are there"


@TABLES
def test_a_file_of_versions_that_was_written_over_is_named(data: Path, findings: Scrub, table: versions.Table) -> None:
    """All hashes fit, but a file's name holds the digest of what it was."""
    before = known(data, table)
    *kept, last = before.files
    path = data / "lake" / last.path
    rows = pq.ParquetFile(path).read()
    pq.write_table(rows, path, compression="gzip", write_page_checksum=True)
    content = path.read_bytes()
    now = msgspec.structs.replace(last, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    refile(data, table, files=[*kept, now])
    [found] = findings()
    assert (found.kind, "may have been written over" in found.what) == ("versions manifest", True)


@TABLES
def test_versions_that_do_not_follow_each_other_are_named(data: Path, findings: Scrub, table: versions.Table) -> None:
    symbol = GOLD if table is versions.INSTRUMENTS else "KXA"
    latest = 1000 * versions.MERGE_FILES + (1 if table is versions.INSTRUMENTS else 2)
    add_versions(data, table, [("NEW", latest + 1, "changed"), (symbol, latest, "changed"), (GOLD + "X", 5, "listed")])
    wrong = {(f.kind, f.where): f.what for f in findings()}
    assert wrong == {
        ("versions", f"{symbol} at {latest}"): f"does not begin after the version that it follows, of {latest}",
        ("versions", f"NEW at {latest + 1}"): "is the first version of its key, but says `changed`",
    }


@TABLES
def test_revisions_that_are_left_out_are_named(data: Path, findings: Scrub, table: versions.Table) -> None:
    before = known(data, table)
    refile(data, table, files=before.files[1:])
    assert [f.what.partition(" has the revisions ")[2] for f in findings() if f.kind == "versions manifest"] == [
        f"{before.revision}-{before.revision}, but revision 0 is before it"
    ]
    last = before.files[-1]
    refile(data, table, files=[*before.files[:-1], msgspec.structs.replace(last, last=last.last + 1)])
    assert ("versions", f"revision {before.revision + 1}", "has no rows") in [
        (f.kind, f.where, f.what) for f in findings()
    ]


@TABLES
def test_what_was_merged_is_kept_as_it_was_and_strays_are_told(
    data: Path, findings: Scrub, table: versions.Table
) -> None:
    merged = data / "lake" / known(data, table).merged[0].path
    flip(merged)
    stray = merged.with_name("notes.txt")
    stray.write_text("mine")
    assert [f.kind for f in findings()] == ["parquet"], "what is so young may still be named"
    os.utime(stray, (time.time() - 61, time.time() - 61))
    assert [(f.kind, f.path, f.mend) for f in findings()] == [
        ("stray", str(stray.relative_to(data)), "none"),
        ("parquet", str(merged.relative_to(data)), "none"),
    ]
