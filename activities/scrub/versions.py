"""A feed's instruments and fees: every version of them (ssmd.versions), which nothing could give again."""

import contextlib
import itertools
from collections import Counter
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from activities.processes import Board
from activities.scrub.findings import ASIDE_SECONDS, NAMED_MAX, DayTask, Findings, age
from activities.scrub.parquet import check_parquet
from ssmd import archive, jobs, versions
from ssmd.errors import Permanent
from ssmd.versions import Manifest, Table, VersionFile

MEND = ("second-copy", "restore it from a copy, such as what is published: what it holds cannot be made again")
FAULT = (
    "second-copy",
    "compare it with a copy, such as what is published; this is no flipped bit but a fault in ssmd: please report it",
)


def version_tables(task: DayTask, board_path: Path) -> jobs.Scrubbed:
    """Manifest and files of each table of the task's feed, whatever the day; `frames` of the result are versions."""
    found = Findings(task.places.data)
    files = size = rows = 0
    with contextlib.closing(Board(board_path)) as board:
        for table in versions.TABLES:
            manifest = _state(found, task.places.lake, table, task.feed)
            if manifest is None:
                continue
            _check_manifest(found, task.places.lake, table, task.feed, manifest)
            whole = []
            for file in manifest.files:
                if check_parquet(found, task.places.lake / file.path, file, MEND):
                    whole.append(file)
                files, size, rows = files + 1, size + file.bytes, rows + file.rows
                board.tell(size)
            _check_rows(found, task.places.lake, table, task.feed, whole)
            _check_others(found, task.places.lake, table, task.feed)
    return jobs.Scrubbed(files=files, bytes=size, frames=rows, findings=found.kept, more=found.more)


def _state(found: Findings, lake: Path, table: Table, feed: str) -> Manifest | None:
    """The table's manifest; None if it was never synced, or cannot be read, which is a finding."""
    path = versions.manifest_path(lake, table, feed)
    if not path.exists():
        if any(path.parent.glob("*.parquet")):
            found.add("versions manifest", path, "is missing, but files of its table are there", "", *MEND)
        return None
    try:
        return versions.load(lake, table, feed)
    except Permanent as e:
        damaged = isinstance(e.__cause__, msgspec.DecodeError)
        what = f"is damaged: {e.__cause__}" if damaged else f"cannot be read: {e}"
        found.add("versions manifest", path, what, "", *MEND)
        return None


def _check_manifest(found: Findings, lake: Path, table: Table, feed: str, manifest: Manifest) -> None:
    """Does it agree with itself? Each revision is in one file, and each file has the name of its content."""
    path = versions.manifest_path(lake, table, feed)

    def disagrees(what: str) -> None:
        found.add("versions manifest", path, f"does not agree with itself: {what}", "", *FAULT)

    if (manifest.table, manifest.feed) != (table.name, feed):
        disagrees(f"it is that of {manifest.table} of {manifest.feed}")
    after = 0
    for file in manifest.files:
        if file.first != after + 1 or file.last < file.first:
            disagrees(f"{file.path} has the revisions {file.first}-{file.last}, but revision {after} is before it")
        if file.path != str(versions.file_path(table, feed, file.last, file.sha256)):
            disagrees(f"{file.path} does not have the name of its content, so it may have been written over")
        after = file.last
    if manifest.revision != after or manifest.announced > after:
        disagrees(f"it is revision {manifest.revision}, announced {manifest.announced}, but its files end at {after}")


def _check_rows(found: Findings, lake: Path, table: Table, feed: str, files: list[VersionFile]) -> None:
    """What the whole files say: each version where it belongs, and none before the one that it follows."""
    columns = [*dict.fromkeys(("feed", "symbol", *table.key)), "valid_from", "change", "revision"]
    parts = []
    for place, file in enumerate(files):
        with pq.ParquetFile(lake / file.path) as opened:
            if not set(columns) <= set(opened.schema_arrow.names):
                found.add("versions", lake / file.path, f"has not the columns of {table.name}", "", *FAULT)
                return
            rows = opened.read(columns=columns).select(columns)
        parts.append(rows.append_column("file", pa.array([place] * len(rows), pa.int64())))
    if not parts:
        return
    spans = [{"file": i, "first": f.first, "last": f.last, "of": feed} for i, f in enumerate(files)]
    strange = """
        SELECT file, symbol || ' at ' || valid_from, 'is of ' || feed || ', revision ' || revision
        FROM versions JOIN spans USING (file)
        WHERE feed <> spans.of OR revision NOT BETWEEN spans.first AND spans.last ORDER BY ALL"""
    empty = """
        SELECT file, 'revision ' || wanted, 'has no rows'
        FROM (SELECT file, unnest(range("first", "last" + 1)) AS wanted FROM spans)
        ANTI JOIN versions ON wanted = revision ORDER BY ALL"""
    order = f"""
        SELECT file, symbol || ' at ' || valid_from, CASE
            WHEN before IS NULL THEN 'is the first version of its key, but says `' || change || '`'
            WHEN valid_from <= before THEN 'does not begin after the version that it follows, of ' || before
            ELSE 'follows another version of its key, but says `listed`' END
        FROM (
            SELECT *, lag(valid_from) OVER (PARTITION BY {", ".join(table.key)} ORDER BY revision, valid_from) AS before
            FROM versions
        )
        WHERE valid_from <= before OR (before IS NULL) <> (change = 'listed') ORDER BY ALL"""  # noqa: S608 - our names
    told = Counter[int]()
    with duckdb.connect() as connection:
        connection.register("versions", pa.concat_tables(parts))
        connection.register("spans", pa.Table.from_pylist(spans))
        # With a file missing it cannot be told what follows what.
        for question in (strange, empty, order) if _follow(files) else (strange, empty):
            for place, where, what in connection.execute(question).fetchall():
                told[place] += 1
                if told[place] <= NAMED_MAX:
                    found.add("versions", lake / files[place].path, what, where, *FAULT)


def _follow(files: list[VersionFile]) -> bool:
    """Whether no revision is left out."""
    return files[0].first == 1 and all(b.first == a.last + 1 for a, b in itertools.pairwise(files))


def _check_others(found: Findings, lake: Path, table: Table, feed: str) -> None:
    """Files that the manifest does not name: those that were merged are kept a day, and are as they were."""
    folder = lake / versions.folder(table, feed)
    there = {path for path in folder.iterdir() if age(path) >= ASIDE_SECONDS}  # what a sync writes just now is younger
    try:
        manifest = versions.load(lake, table, feed)
    except Permanent:
        return  # damaged meanwhile: the next scrub says so
    named = [*(f.path for f in manifest.files), *(m.path for m in manifest.merged)]
    advice = "nobody reads it: a sync that was killed has left it, or somebody put it there; move it away"
    for path in sorted(there - {lake / name for name in named} - {folder / "manifest.json", folder / ".lock"}):
        found.add("stray", path, "no manifest names it", "", "none", advice)
    advice = "nothing is lost: its rows are in another file, and it is removed within a day"
    for merged in manifest.merged:
        path = lake / merged.path
        with contextlib.suppress(FileNotFoundError):
            if not archive.sha256_of(path).startswith(path.stem.rpartition(".")[2]):
                found.add("parquet", path, "its SHA-256 is not that of its name", "", "none", advice)
