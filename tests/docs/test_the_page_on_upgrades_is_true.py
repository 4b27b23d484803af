"""docs/upgrading.md names the formats of today, and who is older than a file says so and leaves it as it is."""

import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import yaml

from ssmd import archive, checked_json, config, published, storage, tables, versions
from ssmd.errors import Permanent
from tests.docs.formats import DATE, FEED

ROOT = config.application_folder()
TODAY = {
    "data folder": config.DATA_FORMAT,
    "archive: manifests and cursor": archive.FORMAT,
    "lake: day manifests": tables.FORMAT,
    "instruments and fees: manifests": versions.FORMAT,
    "published records in object storage": published.FORMAT,
}


def test_the_page_names_the_formats_of_today() -> None:
    rows = re.findall(r"^\| (.+?) \| .+ \| (\d+|–) \|$", (ROOT / "docs/upgrading.md").read_text(), re.MULTILINE)
    told = {what: int(number) for what, number in rows if number != "–"}
    events = yaml.safe_load((ROOT / "exchanges/schemas/events.yaml").read_text())
    newest = max(version["version"] for version in events["versions"])
    assert told == {**TODAY, "Cap'n Proto events": newest}


def _archive(data: Path) -> tuple[Path, Callable[[], object]]:
    path = archive.manifest_path(data / "archive", FEED, DATE)
    return path, lambda: archive.load_manifest(path)


def _cursor(data: Path) -> tuple[Path, Callable[[], object]]:
    path = archive.cursor_path(data / "archive", FEED)
    return path, lambda: archive.load_cursor(path)


def _lake(data: Path) -> tuple[Path, Callable[[], object]]:
    path = data / "lake" / tables.manifest_path(FEED, DATE)
    return path, lambda: tables.load_day(path)


def _fees(data: Path) -> tuple[Path, Callable[[], object]]:
    path = data / "lake" / versions.folder(versions.FEES, "deribit") / "manifest.json"
    return path, lambda: versions.load(data / "lake", versions.FEES, "deribit")


@pytest.mark.parametrize("of", [_archive, _cursor, _lake, _fees])
def test_a_newer_file_is_refused_and_stays(
    made: Path, tmp_path: Path, of: Callable[[Path], tuple[Path, Callable[[], object]]]
) -> None:
    there, _ = of(made)
    path, read = of(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(there.read_bytes())
    value = read()
    assert isinstance(value, msgspec.Struct)
    newer = checked_json.encode(msgspec.structs.replace(value, format=2))
    path.write_bytes(newer)
    with pytest.raises(Permanent, match="upgrade"):
        read()
    assert path.read_bytes() == newer


def test_a_newer_record_is_refused(tmp_path: Path) -> None:
    store = storage.open_store(config.Storage(url=str(tmp_path)), tmp_path)
    record = published.Published(FEED, DATE, 1, "{}", None, [], format=2)
    path = tmp_path / published.record_path(FEED, DATE)
    path.parent.mkdir(parents=True)
    path.write_bytes(checked_json.encode(record))
    with pytest.raises(Permanent, match="upgrade"):
        published.load(store, FEED, DATE)


def test_keys_of_a_later_version_are_passed_over(made: Path, tmp_path: Path) -> None:
    class Later(archive.Manifest, frozen=True):
        news: str = "told"

    there, _ = _archive(made)
    manifest = archive.load_manifest(there)
    path = tmp_path / "manifest.json"
    path.write_bytes(checked_json.encode(Later(**msgspec.structs.asdict(manifest))))
    assert b'"news":"told"' in path.read_bytes()
    assert archive.load_manifest(path) == manifest
