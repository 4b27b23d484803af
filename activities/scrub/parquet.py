"""A Parquet file that a manifest names, read to its last page."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from activities.scrub.findings import NAMED_MAX, Findings
from ssmd import archive, tables, versions


def check_parquet(
    found: Findings, path: Path, file: tables.LakeFile | versions.VersionFile, mend: tuple[str, str]
) -> bool:
    """Presence, size, SHA-256, every page's checksum, row count; whether all of it is so."""
    wrong: list[str] = []
    where = ""
    try:
        size = path.stat().st_size
        if size != file.bytes:
            wrong.append(f"has {size} bytes instead of {file.bytes}")
        if archive.sha256_of(path) != file.sha256:
            wrong.append("its SHA-256 is not what its manifest says")
        rows, bad = _read_pages(path)
        if bad:
            wrong.append("a page's checksum is wrong, or it cannot be read")
            where = "; ".join(bad[:NAMED_MAX])
        elif rows != file.rows:
            wrong.append(f"has {rows} rows instead of {file.rows}")
    except FileNotFoundError:
        wrong.append("is missing")
    except (OSError, pa.ArrowException) as e:
        wrong.append(f"cannot be read ({' '.join(str(e).split())[:120]})")
    if wrong:
        found.add("parquet", path, "; ".join(wrong), where, *mend)
    return not wrong


def _read_pages(path: Path) -> tuple[int, list[str]]:
    """How many rows a file's metadata counts, and which of its column chunks cannot be read whole."""
    bad = []
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        rows = 0
        leaves = [file.schema.column(i).path for i in range(len(file.schema))]
        for group in range(file.num_row_groups):
            rows += file.metadata.row_group(group).num_rows
            for name in dict.fromkeys(leaf.partition(".")[0] for leaf in leaves):
                try:
                    if len(file.read_row_group(group, columns=[name])) != file.metadata.row_group(group).num_rows:
                        bad.append(f"row group {group}, column {name}")
                except (OSError, pa.ArrowException):
                    bad.append(f"row group {group}, column {name}")
        return rows, bad
